"""Models through the command line: pull, list, show, inspect, tag, rm, package, push."""

import json
import os
import re
from pathlib import Path

import pytest

from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store
from tests.builders import model
from tests.cli.conftest import Command
from tests.registry.running import running_registry

HEADERS = ["NAME", "PARAMETERS", "QUANTIZATION", "ARCHITECTURE", "ID", "CREATED", "CONTEXT", "SIZE"]
GUIDE = ("guide:F16", "guide:Q8_0", "guide:Q4_K_M", "guide:latest")


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A tiny GGUF file."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(model().weights)
    return path


class TestPull:
    """`qwenctl pull`."""

    @pytest.mark.parametrize("name", GUIDE)
    def test_every_built_in_variant(self, qwenctl: Command, name: str) -> None:
        """The built-in models are pulled without a network, after the verdict; again they are up to date."""
        first = qwenctl("pull", name)
        assert first.status == 0
        assert re.fullmatch(rf"{name.removesuffix(':latest')}: .* [0-9.]+ (MiB|GiB) .*\n", first.err)
        assert first.out.startswith(f"pulled {name.removesuffix(':latest')} (")
        again = qwenctl("pull", name)
        assert again.out == f"{name.removesuffix(':latest')} is up to date\n"

    def test_json_is_a_stream_that_ends_with_the_envelope(self, qwenctl: Command) -> None:
        """Events, one JSON object a line, what is planned first; the second pull moves no bytes."""
        shown = qwenctl("pull", "guide", "--json")
        lines = [json.loads(line) for line in shown.out.splitlines()]
        assert lines[0]["event"] == "planned" and lines[0]["size"] >= shown.data["moved_bytes"]
        weights = [line["event"] for line in lines[1:-1] if line["size"] > 1_000_000]
        assert [event for event in weights if event != "progress"] == ["started", "verifying", "finished"]
        assert shown.data["up_to_date"] is False
        assert shown.data["moved_bytes"] > 1_000_000
        again = qwenctl("pull", "guide", "--json").data
        assert (again["up_to_date"], again["moved_bytes"]) == (True, 0)

    def test_an_unknown_model_has_near_names(self, qwenctl: Command) -> None:
        """Exit status 3, and what was probably meant."""
        shown = qwenctl("pull", "guide:q4km")
        assert shown.status == 3
        assert shown.out == ""
        assert shown.err.splitlines()[0].startswith("error: no model `guide:q4km`")
        assert "`guide:Q4_K_M`" in shown.err.splitlines()[1]

    def test_no_registry(self, qwenctl: Command) -> None:
        """Exit status 4, the address and what to try."""
        shown = qwenctl("pull", "127.0.0.1:1/me/model")
        assert shown.status == 4
        assert "`http://127.0.0.1:1`" in shown.err
        assert "hint:" in shown.err

    def test_a_slip_without_a_network(self, qwenctl: Command) -> None:
        """The network is at fault first; but the name was probably another one."""
        os.environ["QWENCTL_REGISTRY"] = "127.0.0.1:1"
        assert "did you mean" not in qwenctl("pull", "smollm2:135M-Q4_0").err
        qwenctl("pull", "guide:Q8_0")
        qwenctl("tag", "guide:Q8_0", "127.0.0.1:1/me/model:v1")
        shown = qwenctl("pull", "127.0.0.1:1/me/modle:v1")
        assert shown.status == 4
        assert "HTTPS_PROXY; did you mean `127.0.0.1:1/me/model:v1`" in shown.err

    def test_a_pinned_pull_moves_no_tag(self, qwenctl: Command, tmp_path: Path) -> None:
        """The digest is brought and kept; the tag stays where it was."""
        remote = Store.open(tmp_path / "remote")
        old, new = model(1), model(2)
        with running_registry(remote) as address:
            name = f"{address}/me/model"
            reference = Reference.parse("me/model:latest")
            old.put(remote, reference)
            assert qwenctl("pull", name).status == 0
            new.put(remote, reference)
            pinned = f"{name}@{new.manifest.descriptor.digest}"
            assert qwenctl("pull", pinned).status == 0
            rows = {row["name"]: row["id"] for row in qwenctl("list", "--json").data["models"]}
        assert rows == {
            name: str(old.manifest.descriptor.digest),
            pinned: str(new.manifest.descriptor.digest),
        }
        again = qwenctl("pull", pinned)  # its registry is gone, but there is nothing to ask it
        assert (again.status, again.out) == (0, f"{pinned} is up to date\n")
        assert qwenctl("rm", pinned).status == 0
        assert len(qwenctl("list", "--json").data["models"]) == 1

    @pytest.mark.parametrize("name", ["UPPER CASE", "a b", ":tag", "x@sha256:1", "", "../etc/passwd", "a//b"])
    def test_names_that_are_none(self, qwenctl: Command, name: str) -> None:
        """Exit status 2 with a hint, never a traceback."""
        shown = qwenctl("pull", name)
        assert shown.status == 2
        assert shown.err.startswith("error: ")


class TestList:
    """`qwenctl list`."""

    def test_an_empty_store(self, qwenctl: Command) -> None:
        """The headers alone, and what to do on stderr."""
        shown = qwenctl("list")
        assert shown.status == 0
        assert shown.out.split() == [
            "NAME",
            "PARAMETERS",
            "QUANTIZATION",
            "ARCHITECTURE",
            "ID",
            "CREATED",
            "CONTEXT",
            "SIZE",
        ]
        assert "qwenctl run guide" in shown.err

    def test_a_row(self, qwenctl: Command) -> None:
        """Every column is filled; `ls` and a name narrow it; `-q` gives ids."""
        qwenctl("pull", "guide:Q8_0")
        qwenctl("tag", "guide:Q8_0", "mine:v1")
        row = qwenctl("list", "--json").data["models"][0]
        assert row["name"] == "guide:Q8_0"
        assert row["reference"] == "qwenctl.internal/guide:Q8_0"
        assert (row["quantization"], row["architecture"], row["format"]) == ("Q8_0", "qwen2", "gguf")
        assert row["context_length"] == 2048
        assert row["created"].endswith("Z")
        assert len(qwenctl("ls", "mine").out.splitlines()) == 2
        assert qwenctl("list", "-q").out.split() == [row["id"][7:19]] * 2

    def test_a_damaged_model_is_listed_as_such(self, qwenctl: Command, store_path: Path) -> None:
        """One bad blob does not hide the other models."""
        qwenctl("pull", "guide:Q8_0")
        made = model()
        made.put(Store.open(store_path), Reference.parse("me/model:v1"))
        config = Store.open(store_path).layout.blob(made.manifest.config.digest)
        config.chmod(0o600)
        config.write_bytes(b"x" * len(made.config))
        shown = qwenctl("list")
        assert shown.status == 0
        assert "damaged" in next(line for line in shown.out.splitlines() if line.startswith("me/model"))
        assert "guide:Q8_0" in shown.out

    def test_a_model_that_is_not_whole_is_named(self, qwenctl: Command, store_path: Path) -> None:
        """Running it says which model it is and what brings the rest, with the status of damage."""
        qwenctl("pull", "guide:Q8_0")
        max((store_path / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size).unlink()
        shown = qwenctl("run", "guide:Q8_0", "hi")
        assert shown.status == 5
        assert "`guide:Q8_0` is not whole" in shown.err
        assert "hint: `qwenctl pull guide:Q8_0`" in shown.err


class TestShow:
    """`qwenctl show`."""

    def test_a_card(self, qwenctl: Command) -> None:
        """The whole card of a family that is not here."""
        shown = qwenctl("show", "qwen2.5")
        for text in (
            "Qwen2.5-7B Instruct",
            "Alibaba Cloud",
            "qwen2.5:7B-Q4_K_M",
            "14.2 GiB",
            "MMLU-Pro",
            "Apache-2.0",
        ):
            assert text in shown.out
        card = qwenctl("show", "Qwen2.5-7B-Instruct", "--json").data
        assert (card["selected"], card["card"]["name"]) == ("7B-Q4_K_M", "qwen2.5")

    def test_what_is_in_the_store(self, qwenctl: Command) -> None:
        """The variants that are here are marked."""
        qwenctl("pull", "guide:Q8_0")
        lines = qwenctl("show", "guide").out.splitlines()
        assert next(line for line in lines if "guide:Q8_0" in line).endswith("yes")
        assert not next(line for line in lines if "guide:F16" in line).endswith("yes")

    @pytest.mark.parametrize("name", ["qwen2.5:7B-Q5_K_M", "nothing-like-it"])
    def test_unknown(self, qwenctl: Command, name: str) -> None:
        """Exit status 3; a missing quantization is never silently another one."""
        assert qwenctl("show", name).status == 3


class TestInspect:
    """`qwenctl inspect`."""

    def test_documents(self, qwenctl: Command) -> None:
        """Manifest, config and layers with their roles; by name and by id."""
        qwenctl("pull", "guide:Q8_0")
        shown = json.loads(qwenctl("inspect", "guide:Q8_0").out)
        assert [layer["role"] for layer in shown["layers"]] == ["weights", "license"]
        assert shown["manifest"]["schemaVersion"] == 2
        assert shown["config"]["config"]["quantization"] == "Q8_0"
        assert qwenctl("inspect", shown["id"][7:19], "--json").data["id"] == shown["id"]

    def test_what_is_not_here(self, qwenctl: Command) -> None:
        """Exit status 3 and the way to get it."""
        shown = qwenctl("inspect", "guide")
        assert shown.status == 3
        assert "qwenctl pull guide" in shown.err


class TestTagAndRemove:
    """`qwenctl tag` and `qwenctl rm`."""

    def test_the_last_name_frees_the_content(self, qwenctl: Command, store_path: Path) -> None:
        """Shared content stays until the last name goes."""
        qwenctl("pull", "guide:Q8_0")
        qwenctl("tag", "guide:Q8_0", "mine:v1")
        first = qwenctl("rm", "guide:Q8_0", "--json").data
        assert (first["untagged"], first["deleted"], first["freed_bytes"]) == (["guide:Q8_0"], [], 0)
        second = qwenctl("rm", "mine:v1", "--json").data
        assert len(second["deleted"]) == 4
        assert second["freed_bytes"] > 1_000_000
        assert not list((store_path / "blobs").glob("*/*"))

    def test_blobs_that_others_share_stay(self, qwenctl: Command) -> None:
        """The licence is one blob for all guide models."""
        qwenctl("pull", "guide:Q8_0")
        qwenctl("pull", "guide:Q4_K_M")
        assert len(qwenctl("rm", "guide:Q8_0", "--json").data["deleted"]) == 3
        assert qwenctl("inspect", "guide:Q4_K_M").status == 0

    def test_nothing_is_removed_when_one_name_is_wrong(self, qwenctl: Command) -> None:
        """All names are looked up first."""
        qwenctl("pull", "guide:Q8_0")
        assert qwenctl("rm", "guide:Q8_0", "guide:nope").status == 3
        assert len(qwenctl("list", "--json").data["models"]) == 1

    def test_by_id(self, qwenctl: Command) -> None:
        """An id removes its one name; with several the names are asked for."""
        qwenctl("pull", "guide:Q8_0")
        short = qwenctl("list", "-q").out.strip()
        qwenctl("tag", short, "mine:v1")
        refused = qwenctl("rm", short)
        assert refused.status == 2
        assert "`mine:v1`" in refused.err
        assert qwenctl("rm", "mine:v1").status == 0
        assert qwenctl("rm", short).out.startswith("untagged guide:Q8_0")

    def test_a_new_name_is_a_tag(self, qwenctl: Command) -> None:
        """A digest cannot be given to something."""
        qwenctl("pull", "guide:Q8_0")
        assert qwenctl("tag", "guide:Q8_0", f"me/x@sha256:{'0' * 64}").status == 2


class TestPackageAndPush:
    """`qwenctl package` and `qwenctl push`."""

    def test_there_and_back(self, qwenctl: Command, gguf: Path, tmp_path: Path) -> None:
        """Packaged, pushed, removed, pulled: the same digests."""
        remote = Store.open(tmp_path / "remote")
        with running_registry(remote) as address:
            name = f"{address}/me/tiny:v1"
            made = qwenctl("package", "--gguf", str(gguf), name, "--json").data
            shown = qwenctl("push", name, "--json")
            pushed = shown.data
            assert pushed["id"] == made["id"]
            events = [json.loads(line)["event"] for line in shown.out.splitlines()[:-1]]
            assert events[0] == "planned" and events.count("verifying") == events.count("finished") == 2
            assert pushed["blobs_moved"] == 2
            assert qwenctl("push", name, "--json").data["moved_bytes"] == 0
            qwenctl("rm", name)
            assert qwenctl("pull", name, "--json").data["id"] == made["id"]
        assert str(remote.resolve(Reference.parse("me/tiny:v1")).digest) == made["id"]

    def test_the_same_file_gives_the_same_model(self, qwenctl: Command, gguf: Path) -> None:
        """Packaging is deterministic; licence and template become layers."""
        extra = gguf.with_name("extra.txt")
        extra.write_text("text")
        options = ("--license", str(extra), "--chat-template", str(extra))
        one = qwenctl("package", "--gguf", str(gguf), "one", *options, "--json").data
        two = qwenctl("package", "--gguf", str(gguf), "two", *options, "--json").data
        assert one["id"] == two["id"]
        layers = qwenctl("inspect", "one", "--json").data["layers"]
        assert [layer["role"] for layer in layers] == ["weights", "license", "chat template"]

    @pytest.mark.parametrize(
        ("content", "status"), [(None, 3), (b"PK\x03\x04 a zip", 5), (b"GGUF\x03\x00", 5), (b"", 5)]
    )
    def test_files_that_are_no_models(
        self, qwenctl: Command, tmp_path: Path, content: bytes | None, status: int
    ) -> None:
        """Missing: 3; another kind of file or a cut one: 5. Nothing gets a name."""
        path = tmp_path / "file.gguf"
        if content is not None:
            path.write_bytes(content)
        shown = qwenctl("package", "--gguf", str(path), "x")
        assert shown.status == status
        assert qwenctl("list", "--json").data["models"] == []

    def test_weights_that_are_cut_short(self, qwenctl: Command, gguf: Path) -> None:
        """The header says how long the file must be."""
        gguf.write_bytes(gguf.read_bytes()[:-40])
        assert qwenctl("package", "--gguf", str(gguf), "x").status == 5

    def test_built_in_models_cannot_be_pushed(self, qwenctl: Command) -> None:
        """Exit status 2 and the way to do it."""
        qwenctl("pull", "guide")
        shown = qwenctl("push", "guide")
        assert shown.status == 2
        assert "qwenctl tag guide" in shown.err
