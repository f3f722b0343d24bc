from collections.abc import Callable
from pathlib import Path

import pytest

from qwenctl.runtime.engine import Engine, EngineOptions
from qwenctl.runtime.local import open_engine
from qwenctl.runtime.scripted import ScriptedEngine
from tests.contracts.engine import LARGEST_CONTEXT, SUITE, Open
from tests.runtime.runtime_builders import write_tiny_model


@pytest.mark.parametrize("check", SUITE, ids=lambda check: check.__name__)
def test_scripted_engine_keeps_the_contract(check: Callable[[Open], None]) -> None:
    """`ScriptedEngine` behaves as every engine."""
    check(lambda slots, context: ScriptedEngine(slots=slots, context_length=context, pause_seconds=0.0005))


@pytest.mark.parametrize("check", SUITE, ids=lambda check: check.__name__)
def test_llama_engine_keeps_the_contract(check: Callable[[Open], None], tmp_path: Path) -> None:
    """`LlamaEngine` behaves as every engine, on a real model file."""
    path = write_tiny_model(tmp_path / "tiny.gguf", context_length=LARGEST_CONTEXT)

    def opener(slots: int, context_length: int) -> Engine:
        # Without flash attention, which sums in half precision on a CPU: its rounding depends on how prompts
        # are cut into batches, and this model, being random, has many ties that a rounding decides.
        options = EngineOptions(
            path=path, slots=slots, context_length=context_length, threads=1, flash_attention="off"
        )
        return open_engine(options)

    check(opener)
