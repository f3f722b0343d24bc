"""`qwenctl show`: what a person sees of a card at several widths, and what a program gets."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store
from tests.cli.conftest import Command
from tests.cli.schemas import check_output
from tests.cli.terminals import at_terminal
from tests.sparse_models import put_sparse_model

GOLDEN = Path(__file__).parents[1] / "golden"
GAMING = """
name: gaming PC
ram: {total: 16GiB, available: 12GiB}
gpus: [{description: RTX 4060, total: 8GiB, free: 6.5GiB}]
"""
TWO_CARDS = """
name: two cards
ram: {total: 32GiB, available: 28GiB}
gpus: [{description: RTX 3060, total: 6GiB, free: 5GiB}, {description: RTX 3060, total: 6GiB, free: 5GiB}]
"""
SMALL = "{name: small, ram: {total: 8GiB, available: 3GiB}}"
CARDS = ("guide", "qwen2.5", "qwen3", "qwen3-coder", "qwen3-embedding", "qwen3-reranker", "qwen3-vl", "qwq")


@pytest.fixture
def host(tmp_path: Path) -> str:
    """The path of a machine's profile, which a test may write again."""
    path = tmp_path / "box.yaml"
    path.write_text(GAMING)
    return str(path)


def put(store_path: Path) -> None:
    """One of Qwen2.5's variants in the store of this test."""
    put_sparse_model(Store.open(store_path), Reference.parse("ai/qwen2.5:3B-Q4_K_M"), "qwen2.5-3b", "Q4_K_M")


def typed(columns: int, *arguments: str) -> str:
    """What a terminal of so many columns shows."""
    os.environ["COLUMNS"] = str(columns)
    shown = at_terminal("show", *arguments)
    assert shown.status == 0
    return shown.shown


def is_plain(text: str) -> bool:
    """Whether it has no character that a terminal would obey, but for the ends of lines."""
    return not any(unicodedata.category(sign) == "Cc" for sign in text.replace("\n", ""))


class TestTranscripts:
    """The page, sign by sign; the machine is a profile, so the numbers stay the same."""

    @pytest.mark.parametrize("columns", [80, 60])
    def test_at_a_terminal(self, store_path: Path, host: str, columns: int) -> None:
        """Nothing is wider than the terminal: columns of the table are left out, texts are wrapped."""
        put(store_path)
        shown = typed(columns, "qwen2.5", "--host", host)
        assert shown == (GOLDEN / f"show-qwen2.5-{columns}.txt").read_text()
        assert max(map(len, shown.splitlines())) <= columns

    def test_in_a_pipe(self, qwenctl: Command, store_path: Path, host: str) -> None:
        """The table is whole."""
        put(store_path)
        shown = qwenctl("show", "qwen2.5", "--host", host)
        assert (shown.status, shown.err) == (0, "")
        assert shown.out == (GOLDEN / "show-qwen2.5-pipe.txt").read_text()

    @pytest.mark.parametrize("family", CARDS)
    @pytest.mark.parametrize("columns", [80, 100])
    def test_every_card_fits_a_terminal(self, store_path: Path, host: str, family: str, columns: int) -> None:
        """Whatever their names are; and there is no character that a terminal obeys."""
        shown = typed(columns, family, "--host", host)
        assert max(map(len, shown.splitlines())) <= columns
        assert is_plain(shown)

    def test_a_very_narrow_one(self, store_path: Path, host: str) -> None:
        """What is left of the table is the names and whether they fit; addresses stay whole."""
        lines = typed(34, "qwen2.5", "--host", host).splitlines()
        assert max(len(line) for line in lines if "http" not in line) <= 34
        assert "*  qwen2.5:7B-Q4_K_M  yes, GPU" in lines
        assert any(line.endswith("https://qwenlm.github.io/blog/qwen2.5/") for line in lines)

    def test_a_pipe_has_no_colours(self, qwenctl: Command, host: str) -> None:
        """Neither they nor anything else for a terminal."""
        assert is_plain(qwenctl("show", "qwen3", "--host", host).out)


def fits(out: str) -> dict[str, str]:
    """What the column FITS says, by tag."""
    lines = out.splitlines()
    header = next(line for line in lines if "VARIANT" in line)
    begin, end = header.index("FITS"), header.index("NEEDS")
    rows = lines[lines.index(header) + 1 :]
    table = rows[: rows.index("")]
    return {line.split(":")[1].split()[0]: line[begin:end].strip() for line in table}


class TestVerdicts:
    """Of variants that are not in the store, without a network."""

    @pytest.mark.parametrize(
        ("machine", "tag", "words"),
        [
            (GAMING, "7B-Q4_K_M", "yes, GPU"),
            (GAMING, "7B-F16", "partly"),
            (GAMING, "1.5B-F16", "yes, GPU"),
            (TWO_CARDS, "7B-Q4_K_M", "yes, 2 GPUs"),
            (TWO_CARDS, "7B-F16", "partly"),
            (SMALL, "3B-Q4_K_M", "yes, RAM"),
            (SMALL, "7B-Q4_0", "no"),
        ],
    )
    def test_in_words(self, qwenctl: Command, tmp_path: Path, machine: str, tag: str, words: str) -> None:
        """As the machine is."""
        path = tmp_path / "other.yaml"
        path.write_text(machine)
        assert fits(qwenctl("show", "qwen2.5", "--host", str(path)).out)[tag] == words

    def test_what_the_card_has_no_numbers_for(self, qwenctl: Command, host: str) -> None:
        """It is a question mark, which is explained."""
        shown = qwenctl("show", "qwen3", "--host", host).out
        assert fits(shown)["4B-UD-Q4_K_XL"] == "?" and fits(shown)["0.6B-Q4_K_M"] == "yes, GPU"
        assert "?: the card has no numbers for it" in shown

    def test_the_same_as_fit_gives(self, qwenctl: Command, store_path: Path, host: str) -> None:
        """For a variant in the store: the same configuration, verdict and bytes."""
        put(store_path)
        shown = by_tag(qwenctl("show", "qwen2.5", "--host", host, "--json").data)["3B-Q4_K_M"]["fit"]
        fit = qwenctl("fit", "qwen2.5:3B-Q4_K_M", "--host", host, "--json").data
        for key in ("verdict", "configuration", "gpu_layers", "layers", "exact"):
            assert shown[key] == fit[key]
        places = {place["name"]: place["needed_bytes"] for place in shown["places"]}
        assert places == {"CUDA0": fit["devices"][0]["total"], "RAM": fit["host"]["total"]}

    def test_this_machine(self, qwenctl: Command) -> None:
        """Without a profile it is this one."""
        assert "this machine: " in qwenctl("show", "guide").out


def by_tag(data: Any) -> dict[str, Any]:
    """The variants of a report by their first tag."""
    return {variant["tags"][0]: variant for variant in data["variants"]}


class TestDocument:
    """`--json`."""

    def test_the_card_is_whole(self, qwenctl: Command, store_path: Path, tmp_path: Path) -> None:
        """With its shapes and all their sources; with a verdict for each variant."""
        put(store_path)
        host = tmp_path / "box.yaml"
        host.write_text(SMALL)
        shown = qwenctl("show", "qwen2.5", "--host", str(host), "--json")
        check_output("show", shown.out)
        data = shown.data
        assert data["card"]["shapes"]["7B"]["block_count"] == 28
        assert data["machine"]["name"] == "small"
        assert [len(data[key]) for key in ("variants", "stored")] == [7, 1]
        variants = by_tag(data)
        assert variants["3B-Q4_K_M"]["here"] and variants["3B-Q4_K_M"]["fit"]["source"] == "file"
        assert not variants["7B-F16"]["here"]
        short = variants["7B-F16"]["fit"]
        assert (short["verdict"], short["source"], short["exact"]) == ("no", "card", True)
        assert short["shortage"]["needed_bytes"] > short["shortage"]["budget_bytes"]

    def test_without_a_card_there_is_no_verdict(self, qwenctl: Command, store_path: Path) -> None:
        """A model that no card describes is shown as it is."""
        put_sparse_model(Store.open(store_path), Reference.parse("me/model:v1"), "qwen2.5-0.5b", "F16")
        data = qwenctl("show", "me/model:v1", "--json").data
        assert (data["card"], data["machine"], data["variants"]) == (None, None, [])
        assert [model["name"] for model in data["stored"]] == ["me/model:v1"]
        assert "FITS" not in qwenctl("show", "me/model:v1").out
