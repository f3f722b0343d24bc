"""Fit: a model's header and a machine → a verdict with its numbers, for models that are here or not.

text → Reference → manifest → weights → header (two ranges) → Shape ┐
machine, or a profile of one → Host                                 ├→ Planner → Fit
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Final, Literal

import msgspec

from qwenctl.errors import UsageError
from qwenctl.flows.fit_report import Fit, describe, unknown_fit
from qwenctl.flows.header import read_file_header, read_remote_header
from qwenctl.flows.views import read_artifact
from qwenctl.model.artifact import ModelArtifact, Role
from qwenctl.model.host import Gpu, Host
from qwenctl.model.memory.architectures import check_known
from qwenctl.model.memory.configuration import CONTEXT_LIMIT, Configuration, for_texts
from qwenctl.model.memory.estimate import Estimator
from qwenctl.model.memory.figures import DeviceMemory, Estimate
from qwenctl.model.memory.hyperparameters import Unknown, read_hyperparameters
from qwenctl.model.memory.plan import Estimating, Planner, Wishes
from qwenctl.model.memory.remedies import find_remedies
from qwenctl.model.purpose import Use
from qwenctl.model.reach import Reach
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Source

Method = Literal["auto", "computed", "measured"]

_FIRST_OF_SPLIT: Final = re.compile(r"(.+)-00001-of-[0-9]{5}\.gguf")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to be judged: its header, and what is known of it beside.

    `header_bytes` and `header_requests` are what the header cost at its source.
    """

    name: str
    shape: Shape
    file_bytes: int
    quantization: str | None = None
    id: str | None = None
    header_method: str = "file"
    header_bytes: int = 0
    header_requests: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it is to fit: the host, what our loaded models hold there, and how to ask llama.cpp.

    `repacked` are the tensor types that its CPU stores in another order.
    """

    host: Host
    held: Mapping[str, Estimate] = field(default_factory=dict)
    backends: Sequence[Path] = ()
    method: Method = "auto"
    repacked: frozenset[int] = frozenset()


def subject_of_file(path: Path, further: Sequence[Path] = ()) -> Subject:
    """A GGUF file, and the `further` ones of a split model; those beside it with the split's names, if none
    are given. Raises: FileMissing, AccessDenied; Malformed, also when one is cut short.
    """
    first, size = read_file_header(path)
    rest = [read_file_header(one) for one in further or _siblings(path, Shape.of(first).split_count)]
    shape = Shape.of(first, *(header for header, _ in rest))
    return Subject(path.name, shape, size + sum(more for _, more in rest), shape.quantization)


def _siblings(path: Path, count: int) -> list[Path]:
    """The files that follow the first of a split. Source: llama.cpp src/llama.cpp, `llama_split_path`."""
    match = _FIRST_OF_SPLIT.fullmatch(path.name)
    if not match or count == 1:
        return []
    return [path.with_name(f"{match[1]}-{number:05d}-of-{count:05d}.gguf") for number in range(2, count + 1)]


def subject_of_model(name: str, root: Descriptor, source: Source) -> Subject:
    """A model at a registry or in the store, by the headers of its weights alone.

    Raises: UsageError for a model without GGUF weights; Malformed; what the source raises.
    """
    artifact = read_artifact(source, root)
    weights = artifact.layers(Role.WEIGHTS)
    if not weights:
        kind = artifact.config.format or "no weights"
        raise UsageError(f"`{name}` holds {kind}, not GGUF weights", hint="choose a GGUF variant")
    read = [read_remote_header(source, layer, artifact.config) for layer in weights]
    fetched = [item for item in read if item.method != "file"]
    shape = Shape.of(*(item.header for item in read))
    return Subject(
        name=name,
        shape=shape,
        # a header in two pieces may lack its own word for it
        quantization=artifact.config.quantization or shape.quantization,
        file_bytes=_size(artifact),
        id=str(root.digest),
        header_method=read[0].method,
        header_bytes=sum(item.bytes_read for item in fetched),
        header_requests=sum(item.requests for item in fetched),
    )


def fit(subject: Subject, machine: Machine, wishes: Wishes) -> Fit:
    """The verdict on a model. A model whose memory nobody can tell has the verdict `unknown`, and why.

    Raises: UsageError for wishes that cannot be, and for a measurement of a simulated machine.
    """
    try:
        planner = planner_for(subject.shape, machine)
        plan = planner.plan(wishes)
        largest = planner.largest_context(wishes, plan) if plan.fits else 0
        remedies = find_remedies(planner, wishes, plan, machine.held)
    except Unknown as error:
        return unknown_fit(subject, machine.host, error.message)
    return describe(subject, machine.host, plan, largest, remedies)


def fit_before(reference: Reference, root: Descriptor, source: Source, machine: Machine) -> Fit | None:
    """The verdict on a model that is about to be downloaded; None for one that is not in GGUF.

    Raises: Malformed; what the source raises.
    """
    try:
        subject = subject_of_model(reference.familiar(), root, source)
    except UsageError:
        return None
    return fit(subject, machine, Wishes())


def planner_for(shape: Shape, machine: Machine, beside_bytes: int = 0) -> Planner:
    """A planner with the method that suits model and machine. Raises: Unknown; UsageError.

    `beside_bytes` are loaded with the weights, such as adapters.
    """
    layers, reach = shape.block_count or 0, Reach.of(shape)
    if layers < 1:
        raise Unknown("the header does not say how many layers the model has")
    if not reach.trained_tokens:
        raise Unknown("the header does not say for which context the model was trained")
    bounded = replace(
        reach,
        trained_tokens=min(reach.trained_tokens, CONTEXT_LIMIT),
        most_tokens=min(reach.most_tokens, CONTEXT_LIMIT),
    )
    estimating = _estimating(shape, machine)
    use = Use.of(shape)
    if use.purpose != "text":
        estimating = _OfTexts(estimating, use)
    if beside_bytes:
        estimating = _WithMore(estimating, beside_bytes)
    return Planner(machine.host, estimating, layers + 1, bounded)


def _estimating(shape: Shape, machine: Machine) -> Estimating:
    host = machine.host
    if machine.method == "measured":
        if host.simulated:
            raise UsageError(
                "a measurement asks this machine, but `--host` describes another",
                hint="leave `--method` out; the simulated machine is computed",
            )
        return _Measured(shape, machine.backends)
    if machine.method == "computed" or host.simulated:
        return _Computed(shape, machine.repacked)
    return _chosen(shape, machine)


def _chosen(shape: Shape, machine: Machine) -> Estimating:
    """Computed, in milliseconds; by llama.cpp itself for a family that the computation does not know."""
    try:
        check_known(read_hyperparameters(shape))
    except Unknown:
        return _Measured(shape, machine.backends)
    return _Computed(shape, machine.repacked)


class _Computed:
    def __init__(self, shape: Shape, repacked: frozenset[int]) -> None:
        self._shape = shape
        self._repacked = repacked
        self._estimators: dict[tuple[str, ...], Estimator] = {}

    def __call__(
        self, configuration: Configuration, gpus: Sequence[Gpu], *, pipeline: bool = True
    ) -> Estimate:
        names = tuple(gpu.name for gpu in gpus)
        if names not in self._estimators:
            self._estimators[names] = Estimator(self._shape, gpus, self._repacked)
        return self._estimators[names].estimate(configuration, pipeline=pipeline)


class _Measured:
    """Each question costs a process, so it is asked once."""

    def __init__(self, shape: Shape, backends: Sequence[Path]) -> None:
        self._shape = shape
        self._backends = backends
        self._known: dict[tuple[Configuration, tuple[str, ...]], Estimate] = {}

    def __call__(
        self, configuration: Configuration, gpus: Sequence[Gpu], *, pipeline: bool = True
    ) -> Estimate:
        from qwenctl.runtime.measure import measure

        names = tuple(gpu.name for gpu in gpus)
        asked = (configuration, names)
        if asked not in self._known:
            measured = measure(self._shape, [configuration], names, self._backends)[0]
            if names and configuration.gpu_layers and not measured.gpu_layers:
                raise Unknown(f"llama.cpp does not use {', '.join(names)} here")
            self._known[asked] = _in_order(measured, names)
        return self._known[asked]


@dataclass(frozen=True, slots=True)
class _OfTexts:
    """A model that generates nothing has a context for texts in the place of the other."""

    estimating: Estimating
    use: Use

    def __call__(
        self, configuration: Configuration, gpus: Sequence[Gpu], *, pipeline: bool = True
    ) -> Estimate:
        made = self.estimating(for_texts(configuration, self.use), gpus, pipeline=pipeline)
        # The computation knows no pooling, which is little.
        return msgspec.structs.replace(made, exact=made.exact and made.method != "computed")


@dataclass(frozen=True, slots=True)
class _WithMore:
    """What is loaded beside the weights lies where they do; on several devices, on each in its part."""

    estimating: Estimating
    more_bytes: int

    def __call__(
        self, configuration: Configuration, gpus: Sequence[Gpu], *, pipeline: bool = True
    ) -> Estimate:
        made = self.estimating(configuration, gpus, pipeline=pipeline)
        weights = made.host.weights_bytes + sum(device.weights_bytes for device in made.devices)

        def with_part(held_bytes: int) -> int:
            return held_bytes + ceil(self.more_bytes * held_bytes / max(1, weights))

        return msgspec.structs.replace(
            made,
            devices=tuple(
                msgspec.structs.replace(device, weights_bytes=with_part(device.weights_bytes))
                for device in made.devices
            ),
            host=msgspec.structs.replace(made.host, weights_bytes=with_part(made.host.weights_bytes)),
        )


def _in_order(estimate: Estimate, names: Sequence[str]) -> Estimate:
    """The devices as they were asked for; one that holds nothing is not in llama.cpp's account."""
    known = {device.name: device for device in estimate.devices}
    devices = tuple(known.get(name) or DeviceMemory(name=name) for name in names)
    return msgspec.structs.replace(estimate, devices=devices)


def _size(artifact: ModelArtifact) -> int:
    return sum(layer.size for layer in artifact.layers(Role.WEIGHTS))
