"""Memory, for commands and the runner: this machine or a profile of one, and how models are loaded on it."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qwenctl.errors import MemoryShort
from qwenctl.runner.models import FoundModel, LoadDecision, engine_options
from qwenctl.settings import Settings

if TYPE_CHECKING:
    from qwenctl.flows.fit import Machine
    from qwenctl.model.memory.figures import Estimate
    from qwenctl.model.memory.plan import Plan, Wishes
    from qwenctl.model.memory.remedies import Remedy
    from qwenctl.runner.messages import LoadOptions
    from qwenctl.runtime.engine import EngineOptions


def open_machine(
    settings: Settings, profile: Path | None = None, method: Literal["auto", "computed", "measured"] = "auto"
) -> "Machine":
    """This machine with what our loaded models hold there, or the one that a profile describes."""
    from qwenctl.flows.fit import Machine
    from qwenctl.runtime.cpu import repacked_types
    from qwenctl.runtime.host import read_host, read_profile

    if profile is not None:
        return Machine(read_profile(profile), method=method)
    host = read_host(settings.ggml_backends, os.environ)
    return Machine(host, _held(settings), settings.ggml_backends, method, repacked_types())


def _held(settings: Settings) -> "dict[str, Estimate]":
    from qwenctl.errors import RunnerUnavailable
    from qwenctl.runner.client import RunnerClient

    runner = RunnerClient.running(settings)
    try:
        loaded = runner.loaded() if runner else []
    except RunnerUnavailable:
        loaded = []  # it left just now, and its models with it
    return {item.name: item.model.memory for item in loaded if item.model and item.model.memory}


class MemoryPlanner:
    """The runner's `LoadPlanner`: each load is planned on this machine as it is at that moment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def decide(
        self,
        found: FoundModel,
        options: "LoadOptions",
        held: "Mapping[str, Estimate]",
        leaving: Collection[str] = (),
    ) -> LoadDecision:
        """See `LoadPlanner.decide`."""
        from qwenctl.flows.fit import Machine, planner_for, subject_of_file
        from qwenctl.model.memory.hyperparameters import Unknown
        from qwenctl.model.memory.remedies import without_model
        from qwenctl.runtime.cpu import repacked_types
        from qwenctl.runtime.host import read_host

        backends = self._settings.ggml_backends
        plain = _with_backends(engine_options(found, options), backends)
        subject = subject_of_file(found.path, found.splits)
        host = read_host(backends, os.environ)
        for name in leaving:
            host = without_model(host, held[name])
        machine = Machine(host, held, backends, repacked=repacked_types())
        try:
            planner = planner_for(subject.shape, machine, _beside_bytes(plain))
            wishes = _wishes(found, options)
            plan = planner.plan(wishes)
        except Unknown:
            return LoadDecision(plain)
        if not plan.fits and not options.force:
            from qwenctl.model.memory.remedies import find_remedies

            staying = {name: memory for name, memory in held.items() if name not in leaving}
            raise _refusal(found.name, plan, find_remedies(planner, wishes, plan, staying))
        return LoadDecision(_planned(plain, plan), plan)


def _beside_bytes(options: "EngineOptions") -> int:
    """The files that are loaded with the weights. One that is missing is the engine's to complain of."""
    paths = [*(Path(adapter.path) for adapter in options.adapters), *filter(None, [options.draft])]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _wishes(found: FoundModel, options: "LoadOptions") -> "Wishes":
    from qwenctl.model.memory.plan import Wishes

    return Wishes(
        context_tokens=options.context_length or found.context_length,
        slots=options.slots,
        kv_type=options.kv_type or "f16",
        flash_attention=options.flash_attention or "auto",
        gpu_layers=options.gpu_layers,
    )


def _planned(options: "EngineOptions", plan: "Plan") -> "EngineOptions":
    import msgspec

    configuration = plan.configuration
    return msgspec.structs.replace(
        options,
        context_length=configuration.context_tokens,
        slots=configuration.slots,
        batch_tokens=configuration.batch_tokens,
        ubatch_tokens=configuration.ubatch_tokens,
        gpu_layers=configuration.gpu_layers,
        tensor_split=configuration.tensor_split,
        devices=plan.devices,
    )


def _with_backends(options: "EngineOptions", backends: tuple[Path, ...]) -> "EngineOptions":
    import msgspec

    return msgspec.structs.replace(options, backends=backends)


def _refusal(name: str, plan: "Plan", remedies: "list[Remedy]") -> MemoryShort:
    """The refusal with both numbers, and the next best thing."""
    from qwenctl.model.memory.words import remedies_text, shortage_text

    assert plan.shortage is not None
    helps = remedies_text(remedies) or f"`qwenctl fit {name} --all` shows the variants that fit"
    return MemoryShort(shortage_text(name, plan.shortage), hint=f"{helps}; `--force` tries it all the same")
