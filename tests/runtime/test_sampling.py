import math

import pytest

from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import CompletionRequest
from qwenctl.runtime.sampling import RANDOM_SEED, Sampling, Stage, stages


def test_the_default_chain_is_llama_cpps() -> None:
    """Order and values of common/common.h, with what is neutral left out."""
    assert stages(Sampling(), 100) == (
        Stage("top_k", (40,)),
        Stage("top_p", (0.95, 1)),
        Stage("min_p", (0.05, 1)),
        Stage("temp", (0.8,)),
        Stage("dist", (RANDOM_SEED,)),
    )


def test_every_stage_in_order() -> None:
    """Penalties come first, then the filters, then temperature and the draw."""
    sampling = Sampling(
        repeat_penalty=1.1, presence_penalty=0.5, frequency_penalty=0.25, typical_p=0.9, seed=3
    )
    chain = stages(sampling, 100)
    assert [stage.name for stage in chain] == [
        "penalties",
        "top_k",
        "typical",
        "top_p",
        "min_p",
        "temp",
        "dist",
    ]
    assert chain[0].arguments == (100, 64, 1.1, 0.25, 0.5)
    assert chain[-1].arguments == (3,)


def test_temperature_zero_is_greedy() -> None:
    """Nothing but the penalties changes which token is likeliest."""
    assert stages(Sampling(temperature=0), 100) == (Stage("greedy", ()),)
    penalized = stages(Sampling(temperature=0, repeat_penalty=1.2), 100)
    assert [stage.name for stage in penalized] == ["penalties", "greedy"]


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 1.5},
        {"min_p": -1.0},
        {"top_k": -1},
        {"repeat_penalty": 0.0},
        {"penalty_window": -1},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float]) -> None:
    """The message names the parameter."""
    with pytest.raises(InvalidRequest, match=next(iter(values))):
        Sampling(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "limits", [{"max_tokens": 0}, {"stop": ("",)}, {"stop": ("x",) * 65}, {"stop": ("x" * 1025,)}]
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, object]) -> None:
    """No tokens at all, empty, too many or too long stop strings."""
    with pytest.raises(InvalidRequest):
        CompletionRequest(prompt="x", **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("triggers", [("",), ("x" * 65,), ("x",) * 17])
def test_triggers_have_bounds(triggers: tuple[str, ...]) -> None:
    """Empty, too long or too many ones are refused."""
    with pytest.raises(InvalidRequest, match="grammar_triggers"):
        Sampling(grammar="root ::= [a]", grammar_triggers=triggers)
