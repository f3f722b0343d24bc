"""The estimate: what a model takes of each device and of the host, before it is loaded.

    header → hyperparameters ┐
    configuration → sizes    ├→ weights + cache + graph → scheduler → allocator → bytes
    GPUs → rules, shares     ┘

What it leaves out is not in any buffer of llama.cpp: the context of the GPU's driver (`Gpu.overhead_bytes`),
and the process itself.
"""

from collections.abc import Sequence
from dataclasses import replace

from qwenctl.model.host import Gpu
from qwenctl.model.memory.architectures import EXACT, build_graph, check_known
from qwenctl.model.memory.backends import CPU_RULES, RULES, Rules
from qwenctl.model.memory.compute import compute_bytes
from qwenctl.model.memory.configuration import KV_TYPES, QUANTIZED_KV, Configuration, logit_rows, normalise
from qwenctl.model.memory.figures import DeviceMemory, Estimate, HostMemory
from qwenctl.model.memory.graph import Setting
from qwenctl.model.memory.hyperparameters import Hyperparameters, Unknown, read_hyperparameters
from qwenctl.model.memory.placement import cache_bytes, place_layers, weight_bytes
from qwenctl.model.memory.scheduler import PIPELINE_COPIES, assign
from qwenctl.model.quantization import TENSOR_TYPES
from qwenctl.model.shape import Shape

_LOGIT_BYTES = 4


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
        model = self._model
        _check_cache(model, configuration)
        # The engine hides GPUs that get no layers: llama.cpp would stage the host's weights on them.
        gpus = self._gpus if configuration.gpu_layers else ()
        rules = self._rules[-1 - len(gpus) :]
        setting = self._setting(configuration, gpus, pinned)
        copies = PIPELINE_COPIES if pipeline and _pipelines(setting, rules) else 1
        compute = compute_bytes(model, setting, rules, copies)
        weights = weight_bytes(model, setting.devices, rules, self._repacked)
        cache = cache_bytes(model, setting, rules)
        *on_gpus, on_host = zip(weights, cache, compute, strict=True)
        on_gpus += [(0, 0, 0)] * (len(self._gpus) - len(gpus))
        return Estimate(
            method="computed",
            devices=tuple(
                DeviceMemory(name=gpu.name, weights_bytes=w, kv_cache_bytes=k, compute_bytes=c)
                for gpu, (w, k, c) in zip(self._gpus, on_gpus, strict=True)
            ),
            host=HostMemory(
                weights_bytes=on_host[0],
                kv_cache_bytes=on_host[1],
                compute_bytes=on_host[2],
                output_bytes=model.vocabulary * _LOGIT_BYTES * logit_rows(configuration),
            ),
            gpu_layers=sum(1 for backend in setting.devices if backend < len(gpus)),
            layers=model.layers + 1,
            flash_attention=setting.flash_attention,
            pipeline=copies > 1,
            exact=model.architecture in EXACT and all(gpu.backend == "cuda" for gpu in gpus),
        )

    def _setting(self, configuration: Configuration, gpus: Sequence[Gpu], pinned: bool) -> Setting:
        model = self._model
        sizes = normalise(configuration)
        shares = _shares(configuration, gpus)
        devices = place_layers(model.layers, configuration.gpu_layers, shares)
        setting = Setting(
            sizes=sizes,
            flash_attention=configuration.flash_attention != "off",
            kv_type=configuration.kv_type,
            devices=devices,
            host=len(gpus),
            full_offload=bool(gpus) and len(gpus) not in devices,
            window_cells=_window_cells(model, configuration),
            transposed=configuration.flash_attention == "off",
            pinned=pinned,
            repacked=frozenset() if any(RULES[gpu.backend].pins_host for gpu in gpus) else self._repacked,
        )
        optional = configuration.flash_attention == "auto" and configuration.kv_type not in QUANTIZED_KV
        if optional and not self._flash_attention_stays(setting):
            return _without_flash_attention(setting)
        return setting

    def _flash_attention_stays(self, setting: Setting) -> bool:
        """Whether each layer's flash attention runs on the layer's device, which `auto` asks for.

        Source: llama-context.cpp, `resolve_fused_ops`, with a graph of one token for each sequence.
        """
        *layers, _ = setting.devices
        length = self._model.key_length
        if not all(self._rules[backend].has_attention(length) for backend in {*layers} - {setting.host}):
            return False
        mixed = setting.host in setting.devices and len({*setting.devices}) > 1
        if not mixed or setting.sizes.sequences < 2:
            return True  # without the host beside GPUs, or with one token, nothing moves elsewhere
        count = setting.sizes.sequences
        graph = build_graph(self._model, setting, count, count)
        assign(graph, self._rules)
        attention = [node.backend for node in graph.nodes if node.op == "FLASH_ATTN_EXT"]
        return attention == layers


def _check_cache(model: Hyperparameters, configuration: Configuration) -> None:
    """Source: llama-context.cpp, `llama_init_from_model`."""
    block = TENSOR_TYPES[KV_TYPES[configuration.kv_type]].block_elements
    if model.key_length % block or model.value_length % block:
        raise Unknown(f"a `{configuration.kv_type}` KV cache needs heads that are multiples of {block}")


def _pipelines(setting: Setting, rules: Sequence[Rules]) -> bool:
    """Source: llama-context.cpp, `pipeline_parallel`."""
    several = len(rules) > 2 and setting.full_offload
    return several and all(rule.pipelines for rule in rules[:-1])


def _shares(configuration: Configuration, gpus: Sequence[Gpu]) -> tuple[float, ...]:
    """The part of each GPU. Without any, llama.cpp takes what is free beside its context. Raises: Unknown."""
    if not gpus:
        return ()
    shares = configuration.tensor_split
    if not any(shares):
        shares = tuple(float(max(1, gpu.free_bytes - gpu.overhead_bytes)) for gpu in gpus)
    if len(shares) != len(gpus):
        raise Unknown(f"the split has {len(shares)} shares for {len(gpus)} GPUs")
    return shares


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
