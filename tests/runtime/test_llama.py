import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from qwenctl.errors import FileMissing, InvalidRequest, LoadFailed
from qwenctl.runtime.batches import Outcome, Span
from qwenctl.runtime.decoder import LlamaDecoder
from qwenctl.runtime.engine import ChatRequest, CompletionRequest, EngineOptions, Message, SpecialToken
from qwenctl.runtime.events import Finished, TextDelta, Usage
from qwenctl.runtime.llama import LlamaModel
from qwenctl.runtime.local import LlamaEngine, open_engine
from qwenctl.runtime.sampling import Sampling
from tests.contracts.engine import run, text_of
from tests.runtime.runtime_builders import write_tiny_model

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file; tests must not change it."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf", context_length=2048)


def chat(*contents: str) -> ChatRequest:
    """User and assistant in turns."""
    roles = ("user", "assistant")
    messages = tuple(Message(roles[at % 2], content) for at, content in enumerate(contents))
    return ChatRequest(messages=messages, sampling=GREEDY, max_tokens=10)


def test_the_model_describes_itself(tiny: Path) -> None:
    """What the file says, and what was opened."""
    engine = open_engine(EngineOptions(path=tiny, slots=2, context_length=100))
    model = engine.model
    engine.close()
    assert (model.architecture, model.quantization, model.layers) == ("qwen2", "all F32", 2)
    assert (model.vocabulary_size, model.trained_context_length, model.context_length) == (260, 2048, 100)
    assert model.end_of_sequence == SpecialToken(258, "<|im_end|>")
    assert model.weights_bytes == 4 * model.parameters
    assert model.chat_template is not None and "im_start" in model.chat_template
    assert model.slots == 2


def test_the_default_context_is_the_trained_one_within_reason(tmp_path: Path) -> None:
    """What the model was trained with, but 8192 at most."""
    for trained, expected in ((300, 300), (20_000, 8192)):
        path = write_tiny_model(tmp_path / f"{trained}.gguf", context_length=trained)
        engine = open_engine(EngineOptions(path=path, slots=1))
        assert engine.model.context_length == expected
        engine.close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"context_length": 8193}, "8193.*2048 and stretched to 8192"),
        ({"context_length": 0}, "0 tokens"),
        ({"slots": 0}, "0 slots"),
        ({"slots": 9, "batch_tokens": 8}, "9 slots"),
        ({"threads": 0}, "threads"),
        ({"kv_type": "q8_0", "flash_attention": "off"}, "flash attention"),
        ({"slots": 300}, "slots of 300"),
    ],
)
def test_options_that_do_not_work_are_refused(tiny: Path, options: dict[str, object], reason: str) -> None:
    """With the numbers, or llama.cpp's own words."""
    with pytest.raises(LoadFailed, match=reason):
        open_engine(EngineOptions(path=tiny, **options))  # type: ignore[arg-type]


def test_damaged_files_are_refused_with_the_reason(tiny: Path, tmp_path: Path) -> None:
    """llama.cpp's first complaint is in the message."""
    content = tiny.read_bytes()
    path = tmp_path / "bad.gguf"
    for damaged, reason in (
        (b"", "magic"),
        (b"XXXX" + content[4:], "magic"),
        (content[:-1000], "corrupted or incomplete"),
        (content.replace(b"qwen2", b"qwenX"), "unknown model architecture"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(LoadFailed, match=reason):
            open_engine(EngineOptions(path=path))
    with pytest.raises(FileMissing):
        open_engine(EngineOptions(path=tmp_path / "absent.gguf"))


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("kv_type", ["f32", "f16", "q8_0"])
def test_ways_to_open_it(tiny: Path, mmap: bool, kv_type: str) -> None:
    """Each of them answers."""
    options = EngineOptions(path=tiny, mmap=mmap, kv_type=kv_type, gpu_layers=0)  # type: ignore[arg-type]
    engine = open_engine(options)
    assert (
        run(engine, CompletionRequest(prompt="x", sampling=GREEDY, max_tokens=5))[1].usage.completion_tokens
        == 5
    )
    engine.close()


def test_special_tokens_of_the_template_are_tokens(tiny: Path) -> None:
    """`<|im_start|>` is one token; everything else of this model is a byte each."""
    engine = open_engine(EngineOptions(path=tiny))
    written = "<|im_start|>user\nhé<|im_end|>\n<|im_start|>assistant\n"
    names = ("<|im_start|>", "<|im_end|>")
    expected = len(written.encode()) - sum(written.count(name) * (len(name) - 1) for name in names)
    assert engine.count_tokens(chat("hé")) == expected
    engine.close()


def test_the_next_turn_computes_only_what_is_new(tiny: Path) -> None:
    """The answer of the second turn is the same as without a cache, and most of its prompt was cached."""
    engine = open_engine(EngineOptions(path=tiny, slots=2, flash_attention="off"))
    first = text_of(list(engine.generate(chat("how are you today?"))))
    second = chat("how are you today?", first, "and tomorrow?")
    again, end = _text_and_usage(engine, second)
    assert end.cached_tokens >= engine.count_tokens(chat("how are you today?"))
    engine.close()
    engine = open_engine(EngineOptions(path=tiny, slots=2, flash_attention="off"))
    assert _text_and_usage(engine, second)[0] == again
    engine.close()


def test_seeds_decide(tiny: Path) -> None:
    """At a high temperature, the same seed gives the same text and another seed another one."""
    engine = open_engine(EngineOptions(path=tiny))

    def say(seed: int | None) -> str:
        sampling = Sampling(temperature=2.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed)
        return run(engine, CompletionRequest(prompt="x", sampling=sampling, max_tokens=30))[0]

    assert say(1) == say(1) != say(2)
    assert say(None) != say(None)
    engine.close()


def test_penalties_see_prompt_and_answer(tiny: Path) -> None:
    """With a huge presence penalty no letter comes twice, nor one of the prompt; without it they do."""
    engine = open_engine(EngineOptions(path=tiny))
    prompt = "abcdefghijkl"

    def repeats(sampling: Sampling) -> bool:
        text, _ = run(engine, CompletionRequest(prompt=prompt, sampling=sampling, max_tokens=30))
        letters = [*prompt, *(letter for letter in text if letter != "\ufffd")]
        return len(set(letters)) < len(letters)

    assert repeats(GREEDY)
    assert not repeats(Sampling(temperature=0, presence_penalty=100.0, penalty_window=2048))
    engine.close()


def test_every_delta_is_whole_characters(tiny: Path) -> None:
    """Random bytes of a random model come out as text that can be encoded, with no lone halves."""
    engine = open_engine(EngineOptions(path=tiny))
    sampling = Sampling(temperature=3.0, top_k=0, top_p=1.0, min_p=0.0, seed=4)
    request = CompletionRequest(prompt="x", sampling=sampling, max_tokens=500)
    for event in engine.generate(request):
        if isinstance(event, TextDelta):
            event.text.encode()
    engine.close()


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "no chat template"),
        ("{% if %}", "does not compile"),
        ("{{ raise_exception('no') }}", "refused.*no"),
    ],
)
def test_without_a_working_template_there_is_no_chat(
    tmp_path: Path, template: str | None, reason: str
) -> None:
    """The model opens and completes; a chat says what is wrong; a template from outside mends it."""
    path = write_tiny_model(tmp_path / "tiny.gguf", template=template)
    engine = open_engine(EngineOptions(path=path))
    with pytest.raises(InvalidRequest, match=reason):
        list(engine.generate(chat("hi")))
    assert run(engine, CompletionRequest(prompt="x", max_tokens=1))[1].usage.completion_tokens == 1
    engine.close()
    engine = open_engine(EngineOptions(path=path, chat_template="{{ messages[0].content }}"))
    assert engine.count_tokens(chat("hi")) == 2
    engine.close()


def test_requests_the_engine_cannot_follow(tiny: Path) -> None:
    """An empty prompt has nothing to go on from; a forced tool is not enforceable yet."""
    engine = open_engine(EngineOptions(path=tiny))
    with pytest.raises(InvalidRequest, match="empty"):
        list(engine.generate(CompletionRequest(prompt="")))
    with pytest.raises(InvalidRequest, match="tool_choice"):
        engine.count_tokens(ChatRequest(messages=(Message("user", "x"),), tool_choice="required"))
    engine.close()


def test_a_running_decode_is_interrupted(tiny: Path) -> None:
    """The flag that llama.cpp polls ends a long prompt early; the context works on afterwards."""
    options = EngineOptions(path=tiny, slots=1, batch_tokens=2048, ubatch_tokens=2048, threads=1)
    model = LlamaModel(options)
    decoder = LlamaDecoder(model, options, 2048)
    prompt = [Span(0, 0, [97] * 2048, True)]
    whole = time.perf_counter()
    assert decoder.decode(prompt) is Outcome.DONE
    whole = time.perf_counter() - whole
    assert decoder.keep(0, 0)
    timer = threading.Timer(whole / 10, decoder.interrupt, [True])
    timer.start()
    assert decoder.decode(prompt) is Outcome.INTERRUPTED
    timer.join()
    assert decoder.keep(0, 0)
    decoder.interrupt(False)
    assert decoder.decode([Span(0, 0, [97, 98], True)]) is Outcome.DONE
    assert decoder.decode([Span(0, 9, [97], True)]) is Outcome.FAILED
    assert "inconsistent sequence positions" in decoder.last_error()
    decoder.close()
    model.close()


def test_the_values_of_the_wire_are_light() -> None:
    """Whoever only talks to a worker loads msgspec, and no llama.cpp, numpy, jinja2 or psutil."""
    code = (
        "import sys, qwenctl.runtime.wire, qwenctl.runtime.worker, qwenctl.runtime.scripted\n"
        "heavy = ('llama_cpp', 'numpy', 'jinja2', 'psutil', 'asyncio')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_engine_needs_no_numpy(tiny: Path) -> None:
    """The bindings are loaded without the package's high-level class."""
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from qwenctl.runtime.engine import EngineOptions\nfrom qwenctl.runtime.local import open_engine\n"
        f"open_engine(EngineOptions(path=Path({str(tiny)!r}))).close()\n"
        "print([name for name in ('llama_cpp.llama_cpp', 'llama_cpp.llama', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("['llama_cpp.llama_cpp']\n", "")


def _text_and_usage(engine: LlamaEngine, request: ChatRequest) -> tuple[str, Usage]:
    events = list(engine.generate(request))
    assert isinstance(events[-1], Finished)
    return text_of(events), events[-1].usage
