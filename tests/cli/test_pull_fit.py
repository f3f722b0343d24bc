"""`qwenctl pull` and memory: the verdict before, the question at a terminal, the variant that fits."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from qwenctl.model.artifact import CONFIG_V01, WEIGHTS_TYPE, describe
from qwenctl.model.gguf import read_header
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import content_of
from qwenctl.registry.app import RegistryApp
from qwenctl.store.store import Store
from tests.builders import CREATED
from tests.cli.conftest import Command
from tests.flows.fit_builders import foreign_file, put_files
from tests.flows.header_builders import SMALL, SMALL_METADATA, small_tensors
from tests.model.gguf_builders import F32, Q8_0, Weights, gguf_file, gguf_header
from tests.registry.counted import Counted
from tests.registry.running import running_app

_WIDTH, _INNER, _WORDS = 1 << 17, 1 << 20, 1 << 12


def vast_header() -> bytes:
    """A Qwen2 of one layer, and of more than a tebibyte: no machine has room for it."""
    sizes = {"embedding_length": _WIDTH, "feed_forward_length": _INNER, "attention.head_count": 1024}
    own = {f"qwen2.{key}": value for key, value in (sizes | {"attention.head_count_kv": 8}).items()}
    cache = _WIDTH // 1024 * 8
    matrices = {
        "attn_q": (_WIDTH, _WIDTH),
        "attn_k": (_WIDTH, cache),
        "attn_v": (_WIDTH, cache),
        "attn_output": (_WIDTH, _WIDTH),
        "ffn_gate": (_WIDTH, _INNER),
        "ffn_up": (_WIDTH, _INNER),
        "ffn_down": (_INNER, _WIDTH),
    }
    tensors = (
        Weights("token_embd.weight", (_WIDTH, _WORDS)),
        Weights("output_norm.weight", (_WIDTH,)),
        *(Weights(f"blk.0.{name}.weight", shape) for name, shape in matrices.items()),
        *(Weights(f"blk.0.{name}.bias", (matrices[name][1],)) for name in ("attn_q", "attn_k", "attn_v")),
        *(Weights(f"blk.0.{name}.weight", (_WIDTH,)) for name in ("attn_norm", "ffn_norm")),
    )
    words = tuple(f"{number:x}" for number in range(_WORDS))
    assert all(tensor.type == F32 for tensor in tensors)
    return gguf_header({**SMALL_METADATA, **own, "tokenizer.ggml.tokens": words}, tensors)


def put_vast(store: Store, name: str) -> Descriptor:
    """The vast model in a store: its weights are a hole, their digest is made up."""
    header, digest = vast_header(), Digest.of(b"vast")
    path = store.layout.blob(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w+b") as file:
        file.write(header)
        file.seek(0)
        found = read_header(file)
        file.truncate(found.file_bytes)
    config = describe(Shape.of(found), digest, CREATED)
    described = Descriptor.of(config, CONFIG_V01)
    manifest = build_manifest(described, (Descriptor(WEIGHTS_TYPE, digest, found.file_bytes),))
    store.push(described, content_of(config))
    store.push(manifest.descriptor, content_of(manifest.raw))
    store.tag(manifest.descriptor, Reference.parse(name))
    return manifest.descriptor


@dataclass
class Guarded:
    """A registry that gives pieces of the vast model and never all of it: no test transfers a tebibyte."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        ranged = any(name == b"range" and not value.endswith(b"-") for name, value in scope["headers"])
        if Digest.of(b"vast").short in scope["path"] and scope["method"] == "GET" and not ranged:
            await Response("not whole", 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)


@dataclass(frozen=True)
class Remote:
    """A registry on loopback, and what is asked of it."""

    store: Store
    wire: Counted

    def name(self, tag: str = "") -> str:
        """A model of the registry's only repository."""
        return f"{self.wire.address}/me/model{':' if tag else ''}{tag}"


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    """A registry with one vast model, `vast`."""
    store = Store.open(tmp_path / "remote")
    put_vast(store, "me/model:vast")
    counted = Counted(Guarded(RegistryApp(store)))
    with running_app(counted) as address:
        counted.address = address
        yield Remote(store, counted)


@dataclass(frozen=True)
class Typed:
    """What a command at a terminal showed, and its status."""

    status: int
    shown: str


def at_terminal(*arguments: str, answer: str | None = None, seconds: float = 30.0) -> Typed:
    """Runs a command behind a terminal; `answer` is typed once it asks."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "qwenctl", *arguments]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as child:
        os.close(slave)
        shown, deadline = "", time.monotonic() + seconds
        try:
            while piece := _next(master, deadline - time.monotonic()):
                shown += piece
                if answer is not None and "[y/N]" in shown:
                    os.write(master, f"{answer}\n".encode())
                    answer = None
            return Typed(child.wait(10), shown.replace("\r\n", "\n"))
        finally:
            child.kill()
            os.close(master)


def _next(master: int, seconds: float) -> str:
    assert select.select([master], [], [], max(0.0, seconds))[0], "nothing more is shown"
    try:
        return os.read(master, 65536).decode(errors="replace")
    except OSError:  # Linux, when the last process has closed the other end
        return ""


def is_empty(store_path: Path) -> bool:
    """Whether a store holds nothing at all, and no part of anything."""
    return not any(path.is_file() for part in ("blobs", "ingest") for path in (store_path / part).rglob("*"))


class TestWithoutTerminal:
    """In a pipe nobody can be asked."""

    def test_the_verdict_comes_first(self, qwenctl: Command, remote: Remote) -> None:
        """On stderr, one line; the result alone is on stdout."""
        put_files(remote.store, "me/model:small", SMALL)
        shown = qwenctl("pull", remote.name("small"))
        assert shown.status == 0
        first = shown.err.splitlines()[0]
        assert first.startswith(f"{remote.name('small')}: runs on the CPU with ")
        assert shown.out.startswith(f"pulled {remote.name('small')} (")

    def test_what_does_not_fit_is_a_warning(self, qwenctl: Command, remote: Remote, store_path: Path) -> None:
        """Both numbers, a warning, and the download begins: what ends it is the disk, or this registry."""
        shown = qwenctl("pull", remote.name("vast"))
        verdict, warning, *rest = shown.err.splitlines()
        assert verdict.startswith(f"{remote.name('vast')} does not fit: needs 1.6")
        assert "TiB of RAM, " in verdict and " can be used" in verdict
        assert warning.startswith(f"warning: {remote.name('vast')} is downloaded all the same")
        assert shown.status in (4, 6) and "memory" not in rest[0]

    def test_force_says_the_verdict_and_does_not_warn(self, qwenctl: Command, remote: Remote) -> None:
        """Who forces it knows."""
        shown = qwenctl("pull", remote.name("vast"), "--force")
        assert " does not fit: " in shown.err and "warning: " not in shown.err
        assert shown.status in (4, 6)

    def test_without_a_check_no_header_is_read(self, qwenctl: Command, remote: Remote) -> None:
        """Each blob is asked for once, and nothing is said."""
        root = put_files(remote.store, "me/model:small", SMALL)
        weights = str(Digest.of(SMALL))
        shown = qwenctl("pull", remote.name("small"), "--no-check")
        assert (shown.status, shown.err) == (0, "")
        unchecked = [path for _, path in remote.wire.of_blobs if path.endswith(weights)]
        assert len(unchecked) == 1
        remote.wire.requests.clear()
        qwenctl("rm", remote.name("small"))
        assert qwenctl("pull", remote.name("small")).status == 0
        assert len([path for _, path in remote.wire.of_blobs if path.endswith(weights)]) > 1
        assert remote.store.exists(root)

    def test_what_is_up_to_date_is_not_checked(self, qwenctl: Command, remote: Remote) -> None:
        """Nothing is downloaded, so there is nothing to say."""
        put_files(remote.store, "me/model:small", SMALL)
        qwenctl("pull", remote.name("small"))
        remote.wire.requests.clear()
        again = qwenctl("pull", remote.name("small"))
        assert (again.out, again.err) == (f"{remote.name('small')} is up to date\n", "")
        assert remote.wire.of_blobs == []

    def test_a_model_that_is_not_in_gguf(self, qwenctl: Command, remote: Remote) -> None:
        """It is pulled like any other; there is no verdict."""
        other = "application/vnd.docker.ai.safetensors"
        put_files(remote.store, "me/model:safe", foreign_file(), media_type=other)
        shown = qwenctl("pull", remote.name("safe"), "--json")
        assert shown.status == 0 and shown.data["fit"] is None

    def test_a_model_that_nobody_knows(self, qwenctl: Command, remote: Remote) -> None:
        """It may fit: it is pulled, and the reason is told."""
        put_files(remote.store, "me/model:odd", foreign_file("nonsense"))
        shown = qwenctl("pull", remote.name("odd"))
        assert shown.status == 0
        assert ": its memory is unknown: llama.cpp refused" in shown.err and "warning" not in shown.err


class TestDocument:
    """`--json`."""

    def test_the_verdict_is_in_it(self, qwenctl: Command, remote: Remote) -> None:
        """The same as `fit` gives; null where nothing was checked."""
        put_files(remote.store, "me/model:small", SMALL)
        before = qwenctl("fit", remote.name("small"), "--json").data
        pulled = qwenctl("pull", remote.name("small"), "--json").data
        for key in ("verdict", "totals", "configuration", "id", "name", "header"):
            assert pulled["fit"][key] == before[key]
        assert qwenctl("pull", remote.name("small"), "--json").data["fit"] is None
        qwenctl("rm", remote.name("small"))
        assert qwenctl("pull", remote.name("small"), "--no-check", "--json").data["fit"] is None

    def test_nothing_is_asked_and_nothing_else_printed(self, qwenctl: Command, remote: Remote) -> None:
        """A program gets JSON alone, also of a model that does not fit."""
        shown = qwenctl("pull", remote.name("vast"), "--json")
        assert shown.err == ""
        assert shown.document["errors"][0]["code"] in ("disk_full", "unauthorized")


class TestAtTerminal:
    """A person is asked."""

    @pytest.mark.parametrize("answer", ["n", "", "nonsense"])
    def test_no_downloads_nothing(self, remote: Remote, store_path: Path, answer: str) -> None:
        """Anything but yes: exit status 6, what else may be done, and an empty store."""
        typed = at_terminal("pull", remote.name("vast"), answer=answer)
        assert typed.status == 6
        assert f"{remote.name('vast')} does not fit: needs 1.6" in typed.shown
        assert "TiB all the same? [y/N] " in typed.shown
        assert " --fit` takes a variant that fits, `--force` does not ask" in typed.shown
        assert is_empty(store_path)
        assert remote.wire.body_bytes < 256 * 1024

    def test_yes_begins_the_download(self, remote: Remote, store_path: Path) -> None:
        """It is not the memory that ends it."""
        typed = at_terminal("pull", remote.name("vast"), answer="y")
        assert "does not fit and was not downloaded" not in typed.shown
        assert "error: " in typed.shown

    @pytest.mark.parametrize("flag", ["--force", "--no-check"])
    def test_no_question(self, remote: Remote, store_path: Path, flag: str) -> None:
        """With `--force`, and where nothing was checked."""
        typed = at_terminal("pull", remote.name("vast"), flag)
        assert "[y/N]" not in typed.shown and "error: " in typed.shown

    def test_what_fits_is_not_asked_about(self, remote: Remote, store_path: Path) -> None:
        """The verdict, and the download."""
        put_files(remote.store, "me/model:small", SMALL)
        typed = at_terminal("pull", remote.name("small"))
        assert typed.status == 0 and "[y/N]" not in typed.shown


class TestFit:
    """`--fit`."""

    def put_small_ones(self, remote: Remote) -> None:
        """The same model with 16 and with 8 bits."""
        put_files(remote.store, "me/model:f16", SMALL)
        put_files(remote.store, "me/model:q8", gguf_file(SMALL_METADATA, small_tensors(Q8_0)))

    def test_the_largest_variant_that_fits(self, qwenctl: Command, remote: Remote) -> None:
        """Of all tags of the registry; whichever was named."""
        self.put_small_ones(remote)
        shown = qwenctl("pull", remote.name("vast"), "--fit")
        assert shown.status == 0
        assert shown.err.splitlines()[0] == f"{remote.name('f16')} is the largest variant that fits"
        assert shown.out.startswith(f"pulled {remote.name('f16')} (")
        again = qwenctl("pull", remote.name("q8"), "--fit")
        assert again.out == f"{remote.name('f16')} is up to date\n"
        assert [row["name"] for row in qwenctl("list", "--json").data["models"]] == [remote.name("f16")]

    def test_a_built_in_family(self, qwenctl: Command) -> None:
        """By its card, without a network."""
        assert qwenctl("pull", "guide", "--fit", "--json").data["name"] == "guide:F16"

    def test_none_fits(self, qwenctl: Command, remote: Remote, store_path: Path) -> None:
        """Exit status 6, why, how to see them all, and an empty store."""
        shown = qwenctl("pull", remote.name("vast"), "--fit")
        assert (shown.status, shown.out) == (6, "")
        error, hint = shown.err.splitlines()
        name = remote.name("vast")
        assert error.startswith(
            f"error: no variant of `{name}` fits this machine; the smallest, `{name}` needs 1.6"
        )
        assert error.endswith(" can be used")
        assert hint == f"hint: `qwenctl fit {name} --all` shows them"
        assert is_empty(store_path)

    def test_it_is_a_check(self, qwenctl: Command) -> None:
        """With `--no-check` it contradicts itself."""
        shown = qwenctl("pull", "guide", "--fit", "--no-check")
        assert shown.status == 2 and "hint: " in shown.err
