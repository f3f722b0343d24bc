"""The wishes for a load: over HTTP, above what is set, and as the engine takes them."""

from pathlib import Path

import msgspec

from qwenctl.runner.messages import LoadOptions
from qwenctl.runner.models import FoundModel, engine_options
from qwenctl.runtime.engine import Adapter

WISHES = LoadOptions(
    context_length=512,
    adapters=(Adapter("/models/lora.gguf", 0.5),),
    speculation="draft",
    draft_tokens=4,
    draft="/models/small.gguf",
)
FOUND = FoundModel("me/split", "sha256:1", Path("/store/1"), splits=(Path("/store/2"),))


def test_they_travel_as_json() -> None:
    """What is not wished for is left out."""
    assert msgspec.json.decode(msgspec.json.encode(WISHES), type=LoadOptions) == WISHES
    assert msgspec.json.encode(LoadOptions()) == b"{}"


def test_the_engine_gets_what_was_wished_for() -> None:
    """With paths as paths; the rest stays the engine's own choice."""
    options = engine_options(FOUND, WISHES)
    assert (options.path, options.splits) == (Path("/store/1"), (Path("/store/2"),))
    assert (options.context_length, options.adapters) == (512, WISHES.adapters)
    assert (options.speculation, options.draft_tokens) == ("draft", 4)
    assert options.draft == Path("/models/small.gguf")
    plain = engine_options(FOUND, LoadOptions())
    assert (plain.adapters, plain.speculation, plain.draft) == ((), "off", None)


def test_wishes_go_before_what_is_set() -> None:
    """Adapters as a whole; none is no wish."""
    other = LoadOptions(adapters=(Adapter("/models/other.gguf"),))
    assert WISHES.over(other).adapters == WISHES.adapters
    assert LoadOptions(slots=2).over(other).adapters == other.adapters
