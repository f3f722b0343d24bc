"""The estimate: what a model takes of each device and of the host, before it is loaded.

    header → hyperparameters ┐
    configuration → sizes    ├→ weights + cache + graph → scheduler → allocator → bytes
    GPUs → rules, shares     ┘

What it leaves out is not in any buffer of llama.cpp: the context of the GPU's driver (`Gpu.overhead_bytes`),
and the process itself.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import msgspec

from qwenctl.model.host import Gpu
from qwenctl.model.memory.allocator import allocate
from qwenctl.model.memory.architectures import EXACT, build_graph, check_known
from qwenctl.model.memory.backends import CPU_RULES, RULES
from qwenctl.model.memory.configuration import Configuration, normalise
from qwenctl.model.memory.graph import Setting
from qwenctl.model.memory.hyperparameters import Hyperparameters, Unknown, read_hyperparameters
from qwenctl.model.memory.placement import cache_bytes, place_layers, weight_bytes
from qwenctl.model.memory.scheduler import PIPELINE_COPIES, assign, schedule
from qwenctl.model.shape import Shape

Method = Literal["computed", "measured", "loaded"]
"""Ours; llama.cpp's own without allocating; llama.cpp's own of a model that is loaded."""

_LOGIT_BYTES = 4


class DeviceMemory(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"weights_bytes": "weights", "kv_cache_bytes": "kv_cache", "compute_bytes": "compute"},
):
    """Bytes on one GPU."""

    name: str
    weights_bytes: int = 0
    kv_cache_bytes: int = 0
    compute_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes


class HostMemory(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={
        "weights_bytes": "weights",
        "kv_cache_bytes": "kv_cache",
        "compute_bytes": "compute",
        "output_bytes": "output",
    },
):
    """Bytes in RAM. `output_bytes` are the logits of one token for each slot."""

    weights_bytes: int = 0
    kv_cache_bytes: int = 0
    compute_bytes: int = 0
    output_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes + self.output_bytes


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration takes. `gpu_layers` are on GPUs, of `layers` that count the output as one.

    `exact`: the figures are llama.cpp's to the byte; else they are within 3 % in total on models of
    this family. `pipeline`: several GPUs work on several batches at a time, which takes more memory.
    """

    method: Method
    devices: tuple[DeviceMemory, ...]
    host: HostMemory
    gpu_layers: int
    layers: int
    flash_attention: bool
    pipeline: bool = False
    exact: bool = True

    @property
    def total_bytes(self) -> int:
        """All devices and the host."""
        return sum(device.total_bytes for device in self.devices) + self.host.total_bytes


def estimate(
    shape: Shape,
    configuration: Configuration,
    gpus: Sequence[Gpu] = (),
    *,
    repacked: frozenset[int] = frozenset(),
    pipeline: bool = True,
    pinned: bool = True,
) -> Estimate:
    """The bytes that llama.cpp of the pinned version allocates for this model.

    `gpus` are those that are used, in order; none is a load on the CPU alone. `repacked` are the tensor
    types that the CPU stores in another order. `pipeline` False is llama.cpp's second attempt, after
    a pipeline of GPUs did not fit. `pinned` False is how a measurement without allocation sees it.

    Raises: Unknown, with the reason, where the figures would be guesses.
    """
    return Estimator(shape, gpus, repacked).estimate(configuration, pipeline=pipeline, pinned=pinned)


class Estimator:
    """`estimate` for many configurations of one model on the same GPUs. Raises: Unknown."""

    def __init__(self, shape: Shape, gpus: Sequence[Gpu], repacked: frozenset[int] = frozenset()) -> None:
        self._model = read_hyperparameters(shape)
        check_known(self._model)
        self._gpus = tuple(gpus)
        self._repacked = repacked
        self._rules = [*(RULES[gpu.backend] for gpu in gpus), CPU_RULES]

    @property
    def model(self) -> Hyperparameters:
        """What the header says."""
        return self._model

    def estimate(
        self, configuration: Configuration, *, pipeline: bool = True, pinned: bool = True
    ) -> Estimate:
        """See `estimate`."""
        model, gpus, rules = self._model, self._gpus, self._rules
        setting = self._setting(configuration, pinned)
        copies = PIPELINE_COPIES if pipeline and self._pipelines(setting) else 1
        sizes = setting.sizes
        graph = build_graph(model, setting, sizes.tokens, sizes.outputs)
        compute = allocate(schedule(graph, len(rules), copies), rules)
        weights = weight_bytes(model, setting.devices, rules, self._repacked)
        cache = cache_bytes(model, setting, rules)
        *on_gpus, on_host = zip(weights, cache, compute, strict=True)
        return Estimate(
            method="computed",
            devices=tuple(
                DeviceMemory(name=gpu.name, weights_bytes=w, kv_cache_bytes=k, compute_bytes=c)
                for gpu, (w, k, c) in zip(gpus, on_gpus, strict=True)
            ),
            host=HostMemory(
                weights_bytes=on_host[0],
                kv_cache_bytes=on_host[1],
                compute_bytes=on_host[2],
                output_bytes=model.vocabulary * _LOGIT_BYTES * sizes.sequences,
            ),
            gpu_layers=sum(1 for backend in setting.devices if backend < len(gpus)),
            layers=model.layers + 1,
            flash_attention=setting.flash_attention,
            pipeline=copies > 1,
            exact=model.architecture in EXACT and all(gpu.backend == "cuda" for gpu in gpus),
        )

    def _setting(self, configuration: Configuration, pinned: bool) -> Setting:
        model, gpus = self._model, self._gpus
        sizes = normalise(configuration)
        shares = configuration.tensor_split or tuple(float(gpu.free_bytes) for gpu in gpus)
        if len(shares) != len(gpus):
            raise Unknown(f"the split has {len(shares)} shares for {len(gpus)} GPUs")
        devices = place_layers(model.layers, configuration.gpu_layers, shares)
        setting = Setting(
            sizes=sizes,
            flash_attention=configuration.flash_attention != "off",
            kv_type=configuration.kv_type,
            devices=devices,
            host=len(gpus),
            full_offload=bool(gpus) and len(gpus) not in devices,
            window_cells=_window_cells(model, configuration),
            pinned=pinned,
        )
        if configuration.flash_attention == "auto" and not self._flash_attention_stays(setting):
            return _without_flash_attention(setting)
        return setting

    def _flash_attention_stays(self, setting: Setting) -> bool:
        """Whether each layer's flash attention runs on the layer's device, which `auto` asks for.

        Source: llama-context.cpp, `resolve_fused_ops`, with a graph of one token for each sequence.
        """
        mixed = len(set(setting.devices)) > 1
        if not mixed or setting.sizes.sequences < 2:  # one token moves nothing to another device
            return True
        count = setting.sizes.sequences
        graph = build_graph(self._model, setting, count, count)
        assign(graph, len(self._rules))
        attention = [node.backend for node in graph.nodes if node.op == "FLASH_ATTN_EXT"]
        return attention == list(setting.devices[:-1])

    def _pipelines(self, setting: Setting) -> bool:
        several = len(self._gpus) > 1 and setting.full_offload
        return several and all(rules.pipelines for rules in self._rules[:-1])


def _window_cells(model: Hyperparameters, configuration: Configuration) -> int:
    """Positions that a layer with a window keeps. Source: llama-kv-cache-iswa.cpp."""
    sizes = normalise(configuration)
    if configuration.full_windows:
        return sizes.cells
    ubatch = min(configuration.batch_tokens, configuration.ubatch_tokens, sizes.context)
    kept = model.window * (configuration.slots if configuration.unified else 1) + ubatch
    return min(sizes.cells, -(-kept // 256) * 256)


def _without_flash_attention(setting: Setting) -> Setting:
    return replace(setting, flash_attention=False)
