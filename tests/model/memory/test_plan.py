"""Plans: the best verdict that the machine allows, never more than it has, and nothing against the wishes."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwenctl.errors import UsageError
from qwenctl.model.host import Host, Ram
from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.plan import RANK, Plan, Wishes, needed_ram_bytes
from tests.model.memory.plan_builders import GIB, MIB, Computing, card, machine, planner, qwen, small

LADDER = [
    # RAM, GPUs, verdict, layers on GPUs, context, slots
    (28, (16,), "gpu", 29, 32_768, 4),
    (28, (10,), "gpu", 29, 32_768, 2),
    (28, (8,), "gpu", 29, 32_768, 1),
    (28, (6,), "gpu", 29, 16_384, 1),
    (28, (5.4,), "gpu", 29, 8192, 1),
    (28, (5,), "gpu", 29, 4096, 1),
    (28, (4, 4), "gpus", 29, 32_768, 1),
    (28, (3, 3, 3), "gpus", 29, 32_768, 1),
    (28, (4,), "partial", 20, 8192, 1),
    (28, (2,), "partial", 6, 8192, 1),
    (28, (0.6,), "cpu", 0, 8192, 4),
    (28, (), "cpu", 0, 8192, 4),
    (6, (), "cpu", 0, 8192, 1),
    (4, (), "no", 0, 4096, 1),
    (1, (4,), "no", 0, 4096, 1),
    (0.1, (0.1,), "no", 0, 4096, 1),
]

ASKED = st.builds(
    Wishes,
    context_tokens=st.sampled_from([None, 1, 1000, 4096, 20_000, 65_536]),
    slots=st.sampled_from([None, 1, 2, 5]),
    batch_tokens=st.sampled_from([8, 512, 2048]),
    ubatch_tokens=st.sampled_from([128, 512]),
    kv_type=st.sampled_from(["f16", "q8_0"]),
    flash_attention=st.sampled_from(["auto", "on"]),
    gpu_layers=st.sampled_from([None, None, None, 0, 3, 7, -1]),
)
FREE = st.one_of(st.floats(0, 1.3), st.floats(0, 4))
CARDS = st.lists(st.tuples(FREE, st.sampled_from([0, 300]), st.booleans()), max_size=3)


def host_of(available_gib: float, cards: list[tuple[float, int, bool]]) -> Host:
    """A machine with these GPUs: free GiB, MiB for each process, whether it takes them from the RAM."""
    gpus = tuple(
        card(free, index, overhead_mib=overhead, shares_ram=shares)
        for index, (free, overhead, shares) in enumerate(cards)
    )
    available = int(available_gib * GIB)
    return Host(ram=Ram(total_bytes=8 * GIB, available_bytes=available), gpus=gpus)


def planned(model: Computing, host: Host, wishes: Wishes | None = None) -> Plan:
    """The plan for a model on a machine."""
    return planner(model, host).plan(wishes or Wishes())


@pytest.mark.parametrize(("ram", "free", "verdict", "layers", "context", "slots"), LADDER)
def test_the_ladder(
    ram: float, free: tuple[float, ...], verdict: str, layers: int, context: int, slots: int
) -> None:
    """Qwen2.5 7B in Q4_K_M: fewer slots first, then shorter contexts, then fewer layers, then the CPU."""
    plan = planned(qwen(), machine(ram, *free))
    shown = (plan.verdict, plan.estimate.gpu_layers, plan.configuration.context_tokens)
    assert (*shown, plan.configuration.slots) == (verdict, layers, context, slots)
    assert plan.fits == (verdict != "no") == (plan.shortage is None)


@pytest.mark.parametrize(
    ("name", "quantization", "host", "verdict"),
    [
        ("qwen2.5-72b", "Q4_K_M", machine(64, 24), "partial"),
        ("qwen2.5-72b", "Q4_K_M", machine(64, 24, 24, 24), "gpus"),
        ("qwen2.5-72b", "Q4_K_M", machine(28, 8), "no"),
        ("qwen2.5-0.5b", "F16", machine(4, 2), "gpu"),
        ("qwen3-8b", "Q8_0", machine(16), "cpu"),
        ("llama-3.1-8b", "Q4_K_M", machine(16, 8), "gpu"),
    ],
)
def test_other_models(name: str, quantization: str, host: Host, verdict: str) -> None:
    """Large and small ones, of several families."""
    assert planned(qwen(name, quantization), host).verdict == verdict


@settings(max_examples=150, deadline=None)
@given(st.floats(0, 4), CARDS, ASKED)
@example(4.0, [(1.2, 300, True)], Wishes())
def test_a_plan_takes_no_more_than_is_free_less_the_margin(
    available: float, cards: list[tuple[float, int, bool]], wishes: Wishes
) -> None:
    """On each GPU with what its driver takes, and in RAM with what GPUs without a memory take of it."""
    host = host_of(available, cards)
    plan = planned(small(), host, wishes)
    gpus = [gpu for gpu in host.gpus if gpu.name in plan.devices]
    needed_ram = needed_ram_bytes(plan.estimate, gpus)
    needed = {gpu.name: device.total_bytes for gpu, device in zip(gpus, plan.estimate.devices, strict=True)}
    usable = {gpu.name: gpu.free_bytes - gpu.overhead_bytes - gpu.margin_bytes for gpu in gpus}
    over = [gpu.name for gpu in gpus if needed[gpu.name] > max(0, usable[gpu.name])]
    over += ["RAM"] * (needed_ram > host.ram.available_bytes - host.ram.margin_bytes)
    assert plan.fits == (not over)
    assert (plan.shortage and plan.shortage.place) == (over[0] if over else None)
    if plan.shortage is not None:
        assert plan.shortage.needed_bytes > plan.shortage.budget_bytes
    shown = [*(needed[gpu.name] + gpu.overhead_bytes for gpu in gpus), needed_ram]
    assert [place.needed_bytes for place in plan.places] == shown
    assert [place.name for place in plan.places] == [*plan.devices, "RAM"]


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 4), CARDS, ASKED)
def test_wishes_are_kept(available: float, cards: list[tuple[float, int, bool]], wishes: Wishes) -> None:
    """What is asked for is in the configuration as it was asked, whatever the verdict; the rest a default."""
    host = host_of(available, cards)
    plan = planned(small(), host, wishes)
    configuration = plan.configuration
    for name in ("batch_tokens", "ubatch_tokens", "kv_type", "flash_attention"):
        assert getattr(configuration, name) == getattr(wishes, name)
    assert configuration.context_tokens == wishes.context_tokens or wishes.context_tokens is None
    assert configuration.context_tokens in (32_768, 16_384, 8192, 4096, wishes.context_tokens)
    assert configuration.slots == wishes.slots or (wishes.slots is None and configuration.slots in (4, 2, 1))
    if wishes.gpu_layers is not None:
        assert configuration.gpu_layers == (wishes.gpu_layers if host.gpus else 0)
        assert bool(plan.devices) == bool(configuration.gpu_layers)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 4), st.floats(0, 2), st.floats(0, 1), st.floats(0, 1), ASKED)
def test_more_memory_is_never_worse(
    ram: float, free: float, more_ram: float, more_free: float, wishes: Wishes
) -> None:
    """More RAM, a larger GPU or both never lead to a worse verdict or to fewer layers on the GPU."""
    before, after = (
        planned(small(), host, wishes)
        for host in (
            host_of(ram, [(free, 300, False)]),
            host_of(ram + more_ram, [(free + more_free, 300, False)]),
        )
    )
    assert RANK[after.verdict] >= RANK[before.verdict]
    if before.fits:
        assert after.estimate.gpu_layers >= before.estimate.gpu_layers


@settings(max_examples=60, deadline=None)
@given(st.floats(0.6, 2), st.floats(0, 2), st.sampled_from([0, 1]))
def test_a_further_gpu_is_never_in_the_way(free: float, other: float, place: int) -> None:
    """However small it is and wherever it stands: a GPU that does not help is left out."""
    alone = planned(small(), host_of(4, [(free, 300, False)]))
    cards = [(free, 300, False)]
    cards.insert(place, (other, 300, False))
    assert RANK[planned(small(), host_of(4, cards)).verdict] >= min(RANK[alone.verdict], RANK["gpus"])


@pytest.mark.parametrize("free", [1.4, 2, 3, 4, 4.7])
@pytest.mark.parametrize("wishes", [Wishes(), Wishes(context_tokens=16_384, slots=2), Wishes(kv_type="q8_0")])
def test_as_many_layers_as_fit(free: float, wishes: Wishes) -> None:
    """So many fit, and one more does not."""
    host = machine(28, free)
    plan = planned(qwen(), host, wishes)
    assert plan.verdict == "partial"
    layers, chosen = plan.estimate.gpu_layers, plan.configuration

    def with_layers(count: int) -> Plan:
        asked = Wishes(
            context_tokens=chosen.context_tokens,
            slots=chosen.slots,
            kv_type=chosen.kv_type,
            gpu_layers=count,
        )
        return planned(qwen(), host, asked)

    assert with_layers(layers).verdict == "partial"
    more = with_layers(layers + 1)
    assert more.shortage is not None and more.shortage.place == "CUDA0"


@pytest.mark.parametrize(
    ("ram", "free", "wishes"),
    [
        (28, (6,), Wishes()),
        (28, (8,), Wishes(kv_type="q8_0")),
        (28, (4,), Wishes()),
        (28, (4, 3), Wishes(slots=1)),
        (6, (), Wishes()),
        (7, (), Wishes(context_tokens=4096, slots=2)),
        (28, (4,), Wishes(gpu_layers=12)),
    ],
)
def test_the_largest_context(ram: float, free: tuple[float, ...], wishes: Wishes) -> None:
    """It fits with the same layers on the same GPUs; 256 tokens more do not, unless it is the trained one."""
    host = machine(ram, *free)
    plan = planned(qwen(), host, wishes)
    largest = planner(qwen(), host).largest_context(wishes, plan)
    assert plan.configuration.context_tokens <= largest <= 32_768

    def with_context(tokens: int) -> Plan:
        asked = Wishes(
            context_tokens=tokens,
            slots=plan.configuration.slots,
            kv_type=wishes.kv_type,
            gpu_layers=plan.configuration.gpu_layers,
        )
        return planned(qwen(), host, asked)

    assert with_context(largest).verdict == plan.verdict
    assert largest == 32_768 or not with_context(largest + 256).fits


def test_the_largest_context_grows_with_the_memory() -> None:
    """More memory never makes it shorter, while all layers stay on the GPU."""
    wishes = Wishes(context_tokens=4096, slots=1)
    hosts = [machine(28, 5 + step / 10) for step in range(20)]
    found = [planner(qwen(), host).largest_context(wishes, planned(qwen(), host, wishes)) for host in hosts]
    assert found == sorted(found)
    assert found[0] < 8192 and found[-1] == 32_768


def test_a_context_beyond_the_trained_one_is_kept() -> None:
    """The user knows better; the largest context is then the one that the model can be stretched to."""
    host, wishes = machine(28, 16), Wishes(context_tokens=65_536, slots=1)
    plan = planned(qwen(), host, wishes)
    assert plan.configuration.context_tokens == 65_536
    assert planner(qwen(), host).largest_context(wishes, plan) == 131_072
    assert planner(qwen(), host).largest_context(Wishes(slots=1), plan) == 32_768


def test_a_context_that_the_model_does_not_take_is_refused() -> None:
    """With the numbers, whatever memory there is."""
    with pytest.raises(UsageError, match=r"131073 tokens .* stretched to 131072"):
        planned(qwen(), machine(500), Wishes(context_tokens=131_073))


def test_layers_that_are_asked_for() -> None:
    """So many, on all GPUs as llama.cpp spreads them; too many do not fit, though fewer would."""
    ten = planned(qwen(), machine(28, 4, 4), Wishes(gpu_layers=10, context_tokens=8192))
    assert (ten.verdict, ten.devices, ten.estimate.gpu_layers) == ("partial", ("CUDA0", "CUDA1"), 10)
    assert ten.configuration.tensor_split[0] == ten.configuration.tensor_split[1]
    all_of_them = planned(qwen(), machine(28, 4, 4), Wishes(gpu_layers=-1))
    assert (all_of_them.verdict, all_of_them.devices) == ("gpus", ("CUDA0", "CUDA1"))
    too_many = planned(qwen(), machine(28, 4), Wishes(gpu_layers=25))
    assert too_many.shortage is not None and too_many.shortage.place == "CUDA0"
    assert planned(qwen(), machine(28), Wishes(gpu_layers=10)).verdict == "cpu"


@pytest.mark.parametrize("free", [(0.0,), (0.3,), (0.0, 0.2)])
def test_layers_are_asked_for_and_no_gpu_has_room(free: tuple[float, ...]) -> None:
    """The model is not moved to the CPU behind the user's back: it does not fit."""
    plan = planned(qwen(), machine(28, *free), Wishes(gpu_layers=10))
    assert plan.shortage is not None and plan.shortage.place.startswith("CUDA")
    assert plan.shortage.budget_bytes == 0


def test_the_gpu_with_the_most_room_is_taken_first() -> None:
    """One that holds all layers, wherever it stands; several come in ggml's order."""
    assert planned(qwen(), machine(28, 2, 16, 8)).devices == ("CUDA1",)
    assert planned(qwen(), machine(28, 4, 0.7, 4.5)).devices == ("CUDA0", "CUDA2")


@pytest.mark.parametrize("free", [0.0, 0.3, 0.5])
def test_a_gpu_without_room_is_none(free: float) -> None:
    """No layers, and no device: the CPU computes, with the defaults of a machine without a GPU."""
    plan = planned(qwen(), machine(28, free))
    assert (plan.verdict, plan.devices, plan.configuration.gpu_layers) == ("cpu", (), 0)


def test_a_gpu_without_memory_of_its_own_takes_it_from_the_ram() -> None:
    """What fits on the GPU must fit in what is available, too."""
    assert planned(qwen(), machine(20, 20, shares_ram=True)).verdict == "gpu"
    assert planned(qwen(), machine(4, 20, shares_ram=True)).verdict == "no"


def test_layers_on_gpus_can_save_the_ram() -> None:
    """Too little RAM for the CPU alone is enough where the GPU holds most layers."""
    plan = planned(qwen(), machine(3, 4))
    assert plan.verdict == "partial"
    assert planned(qwen(), machine(3)).verdict == "no"


def test_a_context_is_shortened_before_the_model_is_refused() -> None:
    """8192 tokens need more RAM than there is beside the layers on the GPU, 4096 do not."""
    roomy, narrow = (planned(qwen(), machine(ram, 4)) for ram in (2.2, 1.9))
    assert (roomy.verdict, roomy.configuration.context_tokens) == ("partial", 8192)
    assert (narrow.verdict, narrow.configuration.context_tokens) == ("partial", 4096)


def test_gpus_go_without_a_pipeline_where_it_cannot_be_had() -> None:
    """llama.cpp loads again without one when its copies of inputs exceed what is free; so does the plan."""
    wishes = Wishes(context_tokens=32_768, slots=1, batch_tokens=2048, ubatch_tokens=2048)
    roomy, narrow = (planned(qwen(), machine(28, free, free), wishes) for free in (5, 4.3))
    assert (roomy.verdict, roomy.estimate.pipeline) == ("gpus", True)
    assert (narrow.verdict, narrow.estimate.pipeline) == ("gpus", False)
    most = max(device.total_bytes for device in roomy.estimate.devices)
    assert most > int(4.3 * GIB) - 300 * MIB


def test_few_tokens_in_a_batch_take_few_slots() -> None:
    """A batch has room for one token of each slot; fewer slots than usual are planned then."""
    assert planned(qwen(), machine(28, 16), Wishes(batch_tokens=3)).configuration.slots == 2


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(context_tokens=0),
        Wishes(slots=300),
        Wishes(slots=4, batch_tokens=3),
        Wishes(batch_tokens=0),
        Wishes(ubatch_tokens=0),
        Wishes(kv_type="q8_0", flash_attention="off"),
    ],
)
@pytest.mark.parametrize("host", [machine(28), machine(28, 16)])
def test_wishes_that_cannot_be(wishes: Wishes, host: Host) -> None:
    """A usage error, whatever the machine."""
    with pytest.raises(UsageError):
        planned(qwen(), host, wishes)


def test_a_plan_names_its_configuration_as_llama_cpp_gets_it() -> None:
    """Several GPUs get shares by what may be taken of them; one gets everything."""
    host = machine(28, 4, 5)
    plan = planned(qwen(), host)
    assert plan.configuration.tensor_split == tuple(float(gpu.budget_bytes) for gpu in host.gpus)
    assert planned(qwen(), machine(28, 16)).configuration == Configuration(context_tokens=32_768, slots=4)
