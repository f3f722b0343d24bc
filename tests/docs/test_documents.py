"""What README and docs say is what the program does: every command runs, and prints what is shown."""

import re
import shutil
from pathlib import Path

import pytest

from qwenctl.errors import error_classes
from tests.docs.transcripts import DOCUMENTS, ROOT, Step, calls, command_lines, parts, pattern, problem
from tests.docs.world import world
from tests.peers import require_peer

PROGRAMS = ("curl", "jq", "skopeo", "openssl")
RUN = [path for path in DOCUMENTS if any(isinstance(part, Step) for part in parts(path.read_text()))]


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_every_transcript_is_true(clean_environment: Path, path: Path) -> None:
    """The steps of a document run in its order on a fresh home: status 0, and the output that is shown."""
    found = parts(path.read_text())
    text = "\n".join(part.command for part in found if isinstance(part, Step) and not part.skipped)
    for program in PROGRAMS:
        if re.search(rf"\b{program}\b", text) and not shutil.which(program):
            require_peer(program)
    wrong = []
    with world(clean_environment) as here:
        for part in found:
            outcome = here.take(part)
            if outcome is None or not isinstance(part, Step):
                continue
            status, out = outcome
            if status or (part.shown is not None and not pattern(part.shown).fullmatch(out)):
                wrong.append(f"{path.name}:{part.line}: $ {part.command}\n{out}(status {status})")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_command_line_parses(path: Path) -> None:
    """Also those that are not run, and those in prose: the commands and their options exist."""
    wrong = [
        f"{path.name}:{line}: {' '.join(arguments)}: {found}"
        for line, arguments, whole in command_lines(path.read_text())
        if (found := problem(arguments, whole=whole))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.stem)
def test_every_link_leads_somewhere(path: Path) -> None:
    """Files that are linked exist, and headings that are linked, too."""
    for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", path.read_text()):
        place, _, heading = next(filter(None, target)).partition("#")
        if place.startswith("http"):
            continue
        file = (path.parent / place).resolve() if place else path
        assert file.exists(), f"{path.name}: {place}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{path.name}: {place}#{heading}"


def test_every_document_is_in_the_index() -> None:
    """`docs/README.md` links all of them."""
    index = (ROOT / "docs/README.md").read_text()
    for path in DOCUMENTS[1:]:
        assert path.stem == "README" or f"]({path.name})" in index, path.name


def test_every_error_is_explained() -> None:
    """`docs/troubleshooting.md` has a row for each code that `--json` may have, below its exit status."""
    text = (ROOT / "docs/troubleshooting.md").read_text()
    sections = re.split(r"^## .*\bstatus (\d+)\b.*$", text, flags=re.MULTILINE)
    explained = {
        (int(status), code)
        for status, rows in zip(sections[1::2], sections[2::2], strict=True)
        for code in re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)
    }
    assert explained == {(error.exit_code, error.code) for error in error_classes()}


class TestTranscripts:
    """How documents are read."""

    def test_steps_and_what_they_print(self) -> None:
        """Commands go on behind `> `; nothing below a command is not shown."""
        text = "```console\n$ a <<E\n> b\n> E\nout …\n$ c\n```\n"
        first, second = (part for part in parts(text) if isinstance(part, Step))
        assert (first.command, first.shown) == ("a <<E\nb\nE", ["out …"])
        assert (second.command, second.shown, second.line) == ("c", None, 6)

    def test_a_comment_spares_one_block(self) -> None:
        """The next one is run again."""
        block = "```console\n$ x\n```\n"
        steps = list(parts(f"<!-- test: parse, no network -->\n{block}{block}"))
        assert [step.skipped for step in steps if isinstance(step, Step)] == ["no network", ""]

    @pytest.mark.parametrize(
        ("shown", "out", "same"),
        [
            (["a … c"], "a b c\n", True),
            (["a … c"], "a b\n", False),
            (["a", "…", "z"], "a\nb\nc\nz\n", True),
            (["a", "…", "z"], "a\nz\n", True),
            (["a"], "a\nb\n", False),
            (["(1.0)"], "(1x0)\n", False),
        ],
    )
    def test_wildcards(self, shown: list[str], out: str, same: bool) -> None:
        """`…` is any text of a line; alone it is any lines."""
        assert bool(pattern(shown).fullmatch(out)) is same

    @pytest.mark.parametrize(
        "line",
        [
            "qwenctl nope",
            "qwenctl pull --nope x",
            "qwenctl chats nope",
            "a | qwenctl pull",
            "qwenctl tag a b c",
            "qwenctl run -n",
        ],
    )
    def test_what_does_not_exist_is_noticed(self, line: str) -> None:
        """Commands, also of groups, options, arguments that are missing or too many."""
        (arguments,) = calls(line)
        assert problem(arguments, whole=True)

    @pytest.mark.parametrize(
        "line", ["qwenctl", "qwenctl chats", "qwenctl run x 'a b' -n 3 --seed=4", "qwenctl ls"]
    )
    def test_what_exists_is_right(self, line: str) -> None:
        """Options with their values, arguments that may be left out, aliases."""
        (arguments,) = calls(f"{line} > file | qwenctl_ # qwenctl nope")
        assert problem(arguments, whole=True) == ""
