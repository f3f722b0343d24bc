"""Completion: what a word may become, in Python and in the real shells."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qwenctl.chat.archive import Archive, Chat
from qwenctl.cli.completion import SCRIPTS
from qwenctl.cli.names import complete
from qwenctl.cli.wiring import load_settings
from tests.cli.conftest import Command

ROOT = Path(__file__).parent.parent.parent
SHELLS = ("bash", "zsh", "fish")

# What a shell offers for a line is asked of its own machinery: readline's and zle's keys in a terminal, which
# `script` makes, would tell the same less plainly.
_BASH = """
source {script}
COMP_LINE=$1 COMP_POINT=${{#1}}
IFS=$' \\t\\n' read -ra plain <<< "$1"
[[ $1 == *' ' ]] && plain+=("")
COMP_WORDS=()
for word in "${{plain[@]}}"; do  # readline makes words of `:` and `=`
    while [[ $word == *[:=]* ]]; do
        head=${{word%%[:=]*}}; mark=${{word:${{#head}}:1}}
        [[ $head ]] && COMP_WORDS+=("$head")
        COMP_WORDS+=("$mark"); word=${{word#"$head$mark"}}
        [[ $word ]] || break
    done
    [[ $word || ${{#plain[@]}} -gt 0 && $word == "" && $1 == *' ' ]] && COMP_WORDS+=("$word")
done
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_qwenctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
_ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
ask() {{ zpty -w shell "$1" }}
ask 'PROMPT= RPROMPT= ; autoload -U compinit; compinit -D -u'
ask 'source {script}'
# what compadd gets is what would be offered
ask 'compadd() {{ local -a taken; builtin compadd -O taken "$@"; print -rl -- "<"${{^taken}}">"'
ask 'builtin compadd "$@" }}'
ask 'bindkey "^I" complete-word; print re""ady'
zpty -r -m shell line '*ready*'
zpty -w -n shell "$1"$'\\t'
sleep 0.1
zpty -r -t shell line
for ((i = 0; i < 60; i++)); do
    while zpty -r -t shell more; do line+=$more; done
    [[ $line == *'>'* ]] && ((i < 55)) && i=55
    sleep 0.1
done
print -r -- "$line"
"""


@pytest.fixture
def shell_environment(qwenctl: Command, tmp_path: Path) -> dict[str, str]:
    """An environment with `qwenctl` on the path, and the guide in its store."""
    qwenctl("pull", "guide:Q4_K_M")
    program = tmp_path / "bin/qwenctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m qwenctl "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}


def _offered(shell: str, line: str, environ: dict[str, str], directory: Path) -> set[str]:
    """What the shell offers for the last word of `line`, with the cursor at its end."""
    if shutil.which(shell) is None:
        if os.environ.get("QWENCTL_TEST_REQUIRE_PEERS"):
            pytest.fail(f"{shell} is not installed")
        pytest.skip(f"{shell} is not installed")
    script = directory / f"completion.{shell}"
    script.write_text(SCRIPTS[shell])
    if shell == "fish":
        program = f"source {script}; complete --do-complete {line!r}"
        arguments = ["fish", "--no-config", "-c", program]
    else:
        template = _BASH if shell == "bash" else _ZSH
        name = ["bash", "--norc"] if shell == "bash" else ["zsh", "-f"]
        arguments = [*name, "-c", template.format(script=script), shell, line]
    done = subprocess.run(
        arguments, env=environ, cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    if shell == "zsh":
        return {part.partition(">")[0].strip() for part in done.stdout.split("<")[1:]}
    return {row.partition("\t")[0] for row in done.stdout.splitlines() if row}


@pytest.mark.parametrize("shell", SHELLS)
class TestShells:
    """The scripts in the shells themselves."""

    def test_commands(self, shell: str, shell_environment: dict[str, str], tmp_path: Path) -> None:
        """The first word is a command."""
        assert _offered(shell, "qwenctl pu", shell_environment, tmp_path) >= {"pull", "push", "purge"}

    def test_options(self, shell: str, shell_environment: dict[str, str], tmp_path: Path) -> None:
        """Those of the command that stands there."""
        assert _offered(shell, "qwenctl rm --f", shell_environment, tmp_path) == {"--force"}

    def test_models(self, shell: str, shell_environment: dict[str, str], tmp_path: Path) -> None:
        """Of the store for what works on stored ones, of the catalogue too for what pulls."""
        assert _offered(shell, "qwenctl rm gu", shell_environment, tmp_path) == {"guide:Q4_K_M"}
        assert "qwen2.5" in _offered(shell, "qwenctl pull qwen2", shell_environment, tmp_path)

    def test_tags(self, shell: str, shell_environment: dict[str, str], tmp_path: Path) -> None:
        """After the colon, in any case, though bash takes the colon for the end of a word."""
        found = _offered(shell, "qwenctl pull qwen2.5:7b-q4", shell_environment, tmp_path)
        tags = {"7B-Q4_0", "7B-Q4_K_M"}
        assert found == (tags if shell == "bash" else {f"qwen2.5:{tag}" for tag in tags})

    def test_files(self, shell: str, shell_environment: dict[str, str], tmp_path: Path) -> None:
        """Where a file is wanted the shell looks for files itself."""
        (tmp_path / "weights.gguf").write_text("")
        found = _offered(shell, "qwenctl package --gguf wei", shell_environment, tmp_path)
        assert {Path(name).name for name in found} == {"weights.gguf"}


CASES = [
    ("pu", {"pull", "push", "purge"}),
    ("config se", {"set"}),
    ("config set po", {"port"}),
    ("help vers", {"version"}),
    ("schema he", {"help"}),
    ("completion f", {"fish"}),
    ("ls --j", {"--json"}),
    ("fit --flash-attention o", {"on", "off"}),
    ("fit --flash-attention=of", {"--flash-attention=off"}),
    ("fit --host ", {":files"}),
    ("fit --gguf=x", {":files"}),
    ("pull --expect ", set()),
    ("pull qwen2.5:3b-f", {"qwen2.5:3B-F16"}),
    ("rm x", set()),
    ("tag guide ", set()),
    ("nonsense ", set()),
    ("launch a", {"aider"}),
    ("launch aider --model guide:Q4", {"guide:Q4_K_M"}),
    ("stop --all -- --j", set()),
]


def test_names_of_contexts_registries_and_chats(qwenctl: Command, config: Path) -> None:
    """What the user has made, wherever it is asked for."""
    qwenctl("context", "create", "box", "--url", "http://box:1")
    config.parent.mkdir()
    config.write_text('{"auths": {"https://index.docker.io/v1/": {}, "ghcr.io": {}}}')
    chat = Chat.of("guide", "", ())
    Archive(load_settings().state / "chats").write(chat)
    for line, words in {
        "context use ": {"default", "box"},
        "context create ": set(),
        "ps --context-url b": {"box"},
        "logout ": {"docker.io", "ghcr.io"},
        "login gh": {"ghcr.io"},
        "chats show ": {chat.id},
        "run --resume ": {chat.id},
    }.items():
        assert {word for word, _ in complete(line.split(" "))} == words, line


@pytest.mark.parametrize(("line", "words"), CASES, ids=lambda value: str(value)[:30])
def test_candidates(qwenctl: Command, line: str, words: set[str]) -> None:
    """By command, place and option; an option's value is no argument."""
    assert {word for word, _ in complete(line.split(" "))} == words


def test_completion_makes_nothing(qwenctl: Command, store_path: Path) -> None:
    """No store comes of a Tab, and nothing is said of settings that are wrong."""
    assert complete(["rm", ""]) == []
    os.environ["QWENCTL_PORT"] = "x"
    shown = qwenctl("complete-words", "--", "rm", "")
    assert (shown.status, shown.out, shown.err) == (0, "", "")
    assert not store_path.exists()


def test_completion_loads_little(store_path: Path) -> None:
    """Neither typer nor the network, nor the engine: a Tab is not waited for."""
    heavy = ("typer", "httpx", "rich", "asyncio", "llama_cpp", "psutil", "starlette")
    program = (
        "import sys; from qwenctl.cli import main; main(['complete-words', '--', 'pull', 'q'])\n"
        f"sys.stderr.write(str([name for name in {heavy!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"
    assert "qwen2.5\tto pull" in done.stdout


def test_the_scripts_are_printed(qwenctl: Command) -> None:
    """For the shell that is named, else for one's own."""
    assert qwenctl("completion", "bash").out == SCRIPTS["bash"]
    os.environ["SHELL"] = "/usr/bin/fish"
    assert qwenctl("completion").out == SCRIPTS["fish"]
    shown = qwenctl("completion", "csh")
    assert (shown.status, shown.err.splitlines()[0]) == (2, "error: there is no completion for `csh`")
