"""Fit: a model's header and a machine → a verdict with its numbers, for models that are here or not.

text → Reference → manifest → weights → header (two ranges) → Shape ┐
machine, or a profile of one → Host                                 ├→ Planner → Fit
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qwenctl.errors import UsageError
from qwenctl.flows.fit_report import Fit, describe, unknown_fit
from qwenctl.flows.header import read_file_header, read_remote_header
from qwenctl.flows.views import read_artifact
from qwenctl.model.artifact import ModelArtifact, Role
from qwenctl.model.host import Gpu, Host
from qwenctl.model.memory.architectures import check_known
from qwenctl.model.memory.configuration import CONTEXT_LIMIT, Configuration
from qwenctl.model.memory.estimate import Estimator
from qwenctl.model.memory.figures import Estimate
from qwenctl.model.memory.hyperparameters import Unknown, read_hyperparameters
from qwenctl.model.memory.plan import Estimating, Planner, Wishes
from qwenctl.model.memory.remedies import find_remedies
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.target import Source

Method = Literal["auto", "computed", "measured"]


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


def subject_of_file(path: Path) -> Subject:
    """A GGUF file. Raises: FileMissing, AccessDenied; Malformed, also when it is cut short."""
    header, size = read_file_header(path)
    shape = Shape.of(header)
    return Subject(path.name, shape, size, shape.quantization)


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


def planner_for(shape: Shape, machine: Machine) -> Planner:
    """A planner with the method that suits model and machine. Raises: Unknown; UsageError."""
    layers, trained = shape.block_count or 0, shape.context_length or 0
    if layers < 1:
        raise Unknown("the header does not say how many layers the model has")
    if not trained:
        raise Unknown("the header does not say for which context the model was trained")
    return Planner(machine.host, _estimating(shape, machine), layers + 1, min(trained, CONTEXT_LIMIT))


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


def _in_order(estimate: Estimate, names: Sequence[str]) -> Estimate:
    """The devices as they were asked for; one that holds nothing is not in llama.cpp's account."""
    import msgspec

    from qwenctl.model.memory.figures import DeviceMemory

    known = {device.name: device for device in estimate.devices}
    devices = tuple(known.get(name) or DeviceMemory(name=name) for name in names)
    return msgspec.structs.replace(estimate, devices=devices)


def _size(artifact: ModelArtifact) -> int:
    return sum(layer.size for layer in artifact.layers(Role.WEIGHTS))
