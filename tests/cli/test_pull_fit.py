"""`qwenctl pull` and memory: the verdict before, the question at a terminal, the variant that fits."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qwenctl.oci.digest import Digest
from qwenctl.registry.app import RegistryApp
from qwenctl.store.store import Store
from tests.cli.conftest import Command
from tests.cli.terminals import at_terminal
from tests.cli.vast_models import Guarded, put_vast
from tests.flows.fit_builders import foreign_file, put_files
from tests.flows.header_builders import SMALL, SMALL_METADATA, small_tensors
from tests.model.gguf_builders import Q8_0, gguf_file
from tests.registry.counted import Counted
from tests.registry.running import running_app


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
