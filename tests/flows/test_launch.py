"""The table of programs: what each is told."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib

import pytest

from qwenctl.errors import NotFound, UsageError
from qwenctl.flows.launch import PROGRAMS, Endpoint, Wiring, exports, find_program

ENDPOINT = Endpoint("http://127.0.0.1:1234", "me/qwen3:8B", "k'1")
AWKWARD = "it's \"a\" $HOME \\ `x` \\'"


def wiring(name: str) -> Wiring:
    """How a program is wired to the endpoint."""
    return find_program(name, lambda _, __: None).wire(ENDPOINT)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_program_is_told_address_model_and_key(program: object) -> None:
    """In variables, arguments or files; no other address is in it, but that of a schema."""
    found = wiring(program.name)  # type: ignore[attr-defined]
    told = " ".join([*found.environment.values(), *found.arguments, *found.files.values()])
    assert ENDPOINT.url in told
    assert ENDPOINT.model in told
    assert ENDPOINT.api_key in told
    hosts = set(re.findall(r"https?://([^/\"' ]+)", told)) - {"opencode.ai"}
    assert hosts == {"127.0.0.1:1234"}


def test_claude() -> None:
    """All its models are ours, and a key for Anthropic is taken away: it would go before the token."""
    found = wiring("claude")
    assert found.environment["ANTHROPIC_BASE_URL"] == ENDPOINT.url  # it adds /v1/messages itself
    assert {value for name, value in found.environment.items() if name.endswith("_MODEL")} == {ENDPOINT.model}
    assert found.removed == ("ANTHROPIC_API_KEY",)


def test_codex() -> None:
    """Its arguments are TOML that makes a provider of ours, which speaks the Responses API."""
    pairs = wiring("codex").arguments
    assert set(pairs[::2]) == {"--config"}
    config = tomllib.loads("\n".join(pairs[1::2]))
    assert config["model"] == ENDPOINT.model
    provider = config["model_providers"][config["model_provider"]]
    assert provider == {
        "name": "qwenctl",
        "base_url": ENDPOINT.openai,
        "env_key": "OPENAI_API_KEY",
        "wire_api": "responses",
    }
    assert wiring("codex").environment["OPENAI_API_KEY"] == ENDPOINT.api_key


def test_opencode() -> None:
    """Its config is a provider with the model, which is the one in use."""
    config = json.loads(wiring("opencode").environment["OPENCODE_CONFIG_CONTENT"])
    provider, _, model = config["model"].partition("/")
    assert model in config["provider"][provider]["models"]
    assert config["provider"][provider]["options"]["baseURL"] == ENDPOINT.openai


def test_open_webui_stays_on_this_machine() -> None:
    """It listens on loopback, and nothing that it has kept goes before the variables."""
    found = wiring("openwebui")
    assert found.arguments == ("serve", "--host", "127.0.0.1")
    assert found.environment["ENABLE_PERSISTENT_CONFIG"] == "False"


def test_llm() -> None:
    """The file is YAML, and the name of its key is in the other one."""
    found = wiring("llm")
    (model,) = json.loads(found.files["extra-openai-models.yaml"])
    assert json.loads(found.files["keys.json"])[model["api_key_name"]] == ENDPOINT.api_key
    assert found.environment["LLM_USER_PATH"] == "{files}"


def test_a_program_that_is_not_known() -> None:
    """With the near names, else with all."""
    with pytest.raises(NotFound) as caught:
        find_program("x", lambda _, known: None)
    assert str(caught.value.hint).startswith("claude, codex")
    with pytest.raises(NotFound) as caught:
        find_program("x", lambda _, known: known[0])
    assert caught.value.hint == "claude"


@pytest.mark.parametrize("shell", ["sh", "fish"])
def test_a_shell_reads_the_lines(shell: str) -> None:
    """Whatever is in a value; what is to be removed is gone."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    lines = exports(Wiring({"A": AWKWARD, "B": ""}, removed=("GONE",)), shell)
    program = f'{lines}\nprintf "%s|%s|%s" "$A" "$B" "$GONE"'
    done = subprocess.run(
        [shell, "-c", program], env={"GONE": "x", "HOME": "/"}, capture_output=True, text=True
    )
    assert done.stdout == f"{AWKWARD}||"


def test_fish_quotes() -> None:
    """Its single quotes know two escapes."""
    assert exports(Wiring({"A": "a'b\\c"}), "fish") == "set -gx A 'a\\'b\\\\c'"
    assert shlex.split(exports(Wiring({"A": "a'b"}), "sh")) == ["export", "A=a'b"]


def test_an_unknown_shell() -> None:
    """Those that are known are named."""
    with pytest.raises(UsageError) as caught:
        exports(Wiring({}), "csh")
    assert "fish" in str(caught.value.hint)
