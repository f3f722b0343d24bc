"""The plan: a model and a machine → how to load it there, or by how much it does not fit.

    all layers on one GPU → on several → as many as fit, the rest in RAM → CPU alone → no

The first that fits is taken. Where the user leaves context and slots open, a shorter context and fewer slots
are tried before a layer leaves the GPU. A plan never takes more than what is free less a margin.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import msgspec

from qwenctl.errors import UsageError
from qwenctl.model.host import Gpu, Host
from qwenctl.model.memory.configuration import ALL_LAYERS, Configuration, FlashAttention, KvType
from qwenctl.model.memory.figures import Estimate
from qwenctl.model.reach import Reach

Verdict = Literal["gpu", "gpus", "partial", "cpu", "no"]
"""All layers on one GPU, on several; some layers on GPUs; none; it does not fit."""

RANK: Final[dict[Verdict, int]] = {"no": 0, "cpu": 1, "partial": 2, "gpus": 3, "gpu": 4}
"""How good a verdict is."""

PROCESS_BYTES: Final = 128 * 1024 * 1024
"""RAM of a worker beside llama.cpp's buffers: the interpreter, the vocabulary, the libraries. Measured: 70 to
120 MiB with vocabularies up to 152,000 tokens."""

DEFAULT_SLOTS: Final = 4
GPU_CONTEXT_TOKENS: Final = 32_768
"""The context that is planned on a GPU when none is asked for, if the model was trained for so much."""
CPU_CONTEXT_TOKENS: Final = 8192
"""The same without a GPU, where the cache takes RAM that the rest of the machine needs too."""
SMALLEST_CONTEXT_TOKENS: Final = 4096
"""Below this no context is shortened unasked. llama.cpp's `--fit` has the same bound."""
_CONTEXT_STEP: Final = 256


class Estimating(Protocol):
    """Where the bytes come from: computed, or measured by llama.cpp. May raise Unknown."""

    def __call__(
        self, configuration: Configuration, gpus: Sequence[Gpu], *, pipeline: bool = True
    ) -> Estimate:
        """The bytes of this configuration on these GPUs."""
        ...


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asks for; None is left to the plan."""

    context_tokens: int | None = None
    slots: int | None = None
    batch_tokens: int = 512
    ubatch_tokens: int = 512
    kv_type: KvType = "f16"
    flash_attention: FlashAttention = "auto"
    gpu_layers: int | None = None

    def configuration(self, context_tokens: int, slots: int, gpu_layers: int) -> Configuration:
        """A configuration that keeps to these wishes. Raises: UsageError for what cannot be."""
        return Configuration(
            context_tokens=context_tokens,
            slots=slots,
            batch_tokens=self.batch_tokens,
            ubatch_tokens=self.ubatch_tokens,
            kv_type=self.kv_type,
            flash_attention=self.flash_attention,
            gpu_layers=gpu_layers,
        )


class Shortage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a plan does not fit: a GPU's name or `RAM`; what is needed there and what may be taken."""

    place: str
    needed_bytes: int
    budget_bytes: int


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan takes of a GPU or of the `RAM`: buffers, and what driver or process take beside them."""

    name: str
    needed_bytes: int
    free_bytes: int
    capacity_bytes: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How to load a model. `devices` are the GPUs, by ggml's names; empty is the CPU alone.

    `places` are those GPUs, and last the RAM. With the verdict `no` it is what was tried last, and `shortage`
    says where it failed.
    """

    verdict: Verdict
    configuration: Configuration
    devices: tuple[str, ...]
    estimate: Estimate
    places: tuple[Place, ...]
    shortage: Shortage | None = None

    @property
    def fits(self) -> bool:
        """Whether it can be loaded."""
        return self.verdict != "no"


def needed_ram_bytes(estimate: Estimate, gpus: Sequence[Gpu]) -> int:
    """RAM for the buffers on the host, the process, and the GPUs that have no memory of their own."""
    shared = sum(
        device.total_bytes + gpu.overhead_bytes
        for device, gpu in zip(estimate.devices, gpus, strict=True)
        if gpu.shares_ram
    )
    return estimate.host.total_bytes + PROCESS_BYTES + shared


def find_shortage(estimate: Estimate, gpus: Sequence[Gpu], host: Host) -> Shortage | None:
    """The first place where more is needed than may be taken; None when it fits."""
    for device, gpu in zip(estimate.devices, gpus, strict=True):
        if device.total_bytes > gpu.budget_bytes:
            return Shortage(place=gpu.name, needed_bytes=device.total_bytes, budget_bytes=gpu.budget_bytes)
    needed = needed_ram_bytes(estimate, gpus)
    if needed > host.ram.budget_bytes:
        return Shortage(place="RAM", needed_bytes=needed, budget_bytes=host.ram.budget_bytes)
    return None


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans for one model on one machine. `layers` counts the output; `reach` is what context it takes."""

    host: Host
    estimating: Estimating
    layers: int
    reach: Reach

    def plan(self, wishes: Wishes) -> Plan:
        """The best plan that keeps to the wishes. Raises: Unknown; UsageError for wishes that cannot be."""
        asked = wishes.context_tokens
        if asked is not None and not self.reach.takes(asked):
            raise UsageError(self.reach.refusal(asked), hint=f"ask for at most {self.reach.most_tokens}")
        gpus = [gpu for gpu in self.host.gpus if gpu.budget_bytes > 0]
        if wishes.gpu_layers is not None:
            return self._with_layers(wishes, wishes.gpu_layers)
        return self._whole(wishes, gpus) or self._partial(wishes, gpus) or self._on_cpu(wishes)

    def largest_context(self, wishes: Wishes, plan: Plan) -> int:
        """The most tokens of context with which the plan still fits where it is, 0 when it does not with any.

        Up to the trained ones; beyond them only where the wishes are, for it costs quality.
        """
        beyond = (wishes.context_tokens or 0) > self.reach.trained_tokens
        most = self.reach.most_tokens if beyond else self.reach.trained_tokens
        gpus = [gpu for gpu in self.host.gpus if gpu.name in plan.devices]
        chosen = plan.configuration

        def fits(tokens: int) -> bool:
            configuration = wishes.configuration(tokens, chosen.slots, chosen.gpu_layers)
            return self._try(configuration, gpus, chosen.tensor_split).fits

        if fits(most):
            return most
        low, high = 0, -(-most // _CONTEXT_STEP)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle * _CONTEXT_STEP) else (low, middle)
        return low * _CONTEXT_STEP

    def _whole(self, wishes: Wishes, gpus: Sequence[Gpu]) -> Plan | None:
        """All layers on GPUs: the fewest, those with the most room."""
        choices = [*self._choices(wishes, GPU_CONTEXT_TOKENS)]
        smallest = wishes.configuration(*choices[-1], ALL_LAYERS)
        hopeful = [some for some in _sets(gpus) if self._try(smallest, some).fits]
        for context, slots in choices if hopeful else ():
            for some in hopeful:
                plan = self._try(wishes.configuration(context, slots, ALL_LAYERS), some)
                if plan.fits:
                    return plan
        return None

    def _partial(self, wishes: Wishes, gpus: Sequence[Gpu]) -> Plan | None:
        """As many layers as fit on GPUs; one slot, for the layers matter more.

        A GPU with little room can be in the way, for it takes buffers of its own: hence the most on any set.
        """
        for context in self._contexts(wishes, CPU_CONTEXT_TOKENS):
            best: Plan | None = None
            for some in _sets(gpus):
                best = self._most_layers(wishes, context, some, best) or best
            if best is not None:
                return best
        return None

    def _most_layers(
        self, wishes: Wishes, context: int, gpus: Sequence[Gpu], best: Plan | None
    ) -> Plan | None:
        """The most layers that fit on these GPUs; None when they are no more than those of `best`."""
        low, high, found = best.estimate.gpu_layers if best else 0, self.layers, None
        while high - low > 1:
            middle = (low + high) // 2
            plan = self._try(wishes.configuration(context, wishes.slots or 1, middle), gpus)
            if plan.fits:
                found, low = plan, middle
            elif plan.shortage and plan.shortage.place == "RAM":
                low = middle  # more layers on the GPUs leave fewer in RAM
            else:
                high = middle
        return found

    def _on_cpu(self, wishes: Wishes) -> Plan:
        """The CPU alone; the last attempt, if none fits."""
        for context, slots in self._choices(wishes, CPU_CONTEXT_TOKENS):
            plan = self._try(wishes.configuration(context, slots, 0), ())
            if plan.fits:
                break
        return plan

    def _with_layers(self, wishes: Wishes, layers: int) -> Plan:
        """So many layers as the user says, where llama.cpp puts them: on all GPUs, by their free memory.

        GPUs without any room are left out, if there are others.
        """
        gpus = [gpu for gpu in self.host.gpus if gpu.budget_bytes > 0] or self.host.gpus
        if layers == 0 or not gpus:
            return self._on_cpu(wishes)
        free = [max(1, gpu.free_bytes - gpu.overhead_bytes) for gpu in gpus]
        for context, slots in self._choices(wishes, GPU_CONTEXT_TOKENS):
            plan = self._try(wishes.configuration(context, slots, layers), gpus, free)
            if plan.fits:
                break
        return plan

    def _choices(self, wishes: Wishes, default_tokens: int) -> Iterator[tuple[int, int]]:
        """Contexts and slots in the order of preference: what is asked for is kept."""
        slots = [count for count in (DEFAULT_SLOTS, 2, 1) if count <= max(1, wishes.batch_tokens)]
        for context in self._contexts(wishes, default_tokens):
            for count in [wishes.slots] if wishes.slots else slots:
                yield context, count

    def _contexts(self, wishes: Wishes, default_tokens: int) -> Iterator[int]:
        """The context that is asked for; else the default one and its halves."""
        if wishes.context_tokens is not None:
            yield wishes.context_tokens
            return
        context = min(self.reach.trained_tokens, default_tokens)
        yield context
        while context >= 2 * SMALLEST_CONTEXT_TOKENS:
            context //= 2
            yield context

    def _try(self, configuration: Configuration, gpus: Sequence[Gpu], shares: Sequence[float] = ()) -> Plan:
        """`shares` of several GPUs; without any, what each of them may give."""
        if len(gpus) > 1:
            split = tuple(map(float, shares or (max(1, gpu.budget_bytes) for gpu in gpus)))
            configuration = msgspec.structs.replace(configuration, tensor_split=split)
        estimate = self.estimating(configuration, gpus)
        if estimate.pipeline and _exceeds_free(estimate, gpus):
            # llama.cpp will find out, and load again without the pipeline
            estimate = self.estimating(configuration, gpus, pipeline=False)
        shortage = find_shortage(estimate, gpus, self.host)
        return Plan(
            verdict="no" if shortage else _verdict(estimate),
            configuration=configuration,
            devices=tuple(gpu.name for gpu in gpus),
            estimate=estimate,
            places=_places(estimate, gpus, self.host),
            shortage=shortage,
        )


def _places(estimate: Estimate, gpus: Sequence[Gpu], host: Host) -> tuple[Place, ...]:
    on_gpus = [
        Place(
            name=gpu.name,
            needed_bytes=device.total_bytes + gpu.overhead_bytes,
            free_bytes=gpu.free_bytes,
            capacity_bytes=gpu.total_bytes,
        )
        for device, gpu in zip(estimate.devices, gpus, strict=True)
    ]
    ram = Place(
        name="RAM",
        needed_bytes=needed_ram_bytes(estimate, gpus),
        free_bytes=host.ram.available_bytes,
        capacity_bytes=host.ram.total_bytes,
    )
    return (*on_gpus, ram)


def _verdict(estimate: Estimate) -> Verdict:
    if not estimate.devices or not estimate.gpu_layers:
        return "cpu"
    if estimate.gpu_layers < estimate.layers:
        return "partial"
    return "gpu" if len(estimate.devices) == 1 else "gpus"


def _sets(gpus: Sequence[Gpu]) -> Iterator[Sequence[Gpu]]:
    """The GPU with the most room, the two with the most, …, each set in ggml's order."""
    ranked = sorted(gpus, key=lambda gpu: gpu.budget_bytes, reverse=True)
    for count in range(1, len(ranked) + 1):
        chosen = ranked[:count]
        yield [gpu for gpu in gpus if gpu in chosen]


def _exceeds_free(estimate: Estimate, gpus: Sequence[Gpu]) -> bool:
    return any(
        device.total_bytes > gpu.free_bytes - gpu.overhead_bytes
        for device, gpu in zip(estimate.devices, gpus, strict=True)
    )
