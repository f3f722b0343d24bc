"""Programs that talk to models, and how each is told to talk to ours: one entry of a table for each. Pure."""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from qwenctl.errors import NotFound, UsageError

DUMMY_KEY: Final = "qwenctl"
"""What goes where a program insists on a key and the server wants none."""

SHELLS: Final = ("sh", "fish")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a program finds the model: the address of the server, the model's name, the key."""

    url: str
    model: str
    api_key: str = field(default=DUMMY_KEY, repr=False)

    @property
    def openai(self) -> str:
        """The address that clients of OpenAI's API take."""
        return f"{self.url}/v1"


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a program is started: variables to set and to remove, arguments before the user's, files by name.

    `{files}` in a variable is the directory that the files are in.
    """

    environment: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Program:
    """A program, what it is, what it is called on PATH (None: nothing is started), and how it is had."""

    name: str
    summary: str
    executable: str | None
    install: str
    wire: Callable[[Endpoint], Wiring]


def _openai(endpoint: Endpoint) -> dict[str, str]:
    """The variables of OpenAI's own clients, and the older names that others took from its first ones.

    Source: openai-python, `OpenAI.__init__` (OPENAI_BASE_URL, OPENAI_API_KEY); OPENAI_API_BASE is that of
    its versions before 1.0 and of LiteLLM.
    """
    return {
        "OPENAI_API_KEY": endpoint.api_key,
        "OPENAI_BASE_URL": endpoint.openai,
        "OPENAI_API_BASE": endpoint.openai,
    }


def _claude(endpoint: Endpoint) -> Wiring:
    """Source: code.claude.com/docs, "Environment variables" and "Model configuration": the token goes as
    `Authorization: Bearer`; a key in ANTHROPIC_API_KEY would go before a login, so it is removed.
    ANTHROPIC_SMALL_FAST_MODEL is the name of ANTHROPIC_DEFAULT_HAIKU_MODEL before version 2.
    """
    models = (
        "MODEL",
        "SMALL_FAST_MODEL",
        "DEFAULT_OPUS_MODEL",
        "DEFAULT_SONNET_MODEL",
        "DEFAULT_HAIKU_MODEL",
    )
    return Wiring(
        {
            "ANTHROPIC_BASE_URL": endpoint.url,
            "ANTHROPIC_AUTH_TOKEN": endpoint.api_key,
            **{f"ANTHROPIC_{name}": endpoint.model for name in models},
            "CLAUDE_CODE_SUBAGENT_MODEL": endpoint.model,
            # Telemetry and looking for updates would leave this machine.
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
        removed=("ANTHROPIC_API_KEY",),
    )


def _codex(endpoint: Endpoint) -> Wiring:
    """Source: github.com/openai/codex, docs/config.md, `model_providers`; values of `--config` are TOML, and
    JSON's strings are strings there. Versions after 0.122 speak the Responses API alone (openai/codex#7782).
    """
    settings = {
        "model": endpoint.model,
        "model_provider": "qwenctl",
        "model_providers.qwenctl.name": "qwenctl",
        "model_providers.qwenctl.base_url": endpoint.openai,
        "model_providers.qwenctl.env_key": "OPENAI_API_KEY",
        "model_providers.qwenctl.wire_api": "responses",
    }
    pairs = (("--config", f"{key}={json.dumps(value)}") for key, value in settings.items())
    return Wiring(_openai(endpoint), tuple(word for pair in pairs for word in pair))


def _opencode(endpoint: Endpoint) -> Wiring:
    """Source: opencode.ai/docs, "Config" (OPENCODE_CONFIG_CONTENT is merged over its files) and "Providers"
    (`@ai-sdk/openai-compatible`, `options.baseURL`); a model is `PROVIDER/MODEL`.
    """
    name = f"qwenctl/{endpoint.model}"
    config = {
        "$schema": "https://opencode.ai/config.json",
        "model": name,
        "small_model": name,
        "provider": {
            "qwenctl": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "qwenctl",
                "options": {"baseURL": endpoint.openai, "apiKey": endpoint.api_key},
                "models": {endpoint.model: {"name": endpoint.model}},
            }
        },
    }
    return Wiring({"OPENCODE_CONFIG_CONTENT": json.dumps(config)})


def _open_webui(endpoint: Endpoint) -> Wiring:
    """Source: docs.openwebui.com, "Environment Variable Configuration". Addresses are kept in its database
    from the first start on, and go before the variables, unless ENABLE_PERSISTENT_CONFIG is off. It listens
    on all addresses by itself; HOST is `open-webui serve --host`.
    """
    return Wiring(
        {
            **_openai(endpoint),
            "OPENAI_API_BASE_URL": endpoint.openai,
            "OPENAI_API_BASE_URLS": endpoint.openai,
            "OPENAI_API_KEYS": endpoint.api_key,
            "OLLAMA_BASE_URL": endpoint.url,
            "ENABLE_OLLAMA_API": "False",  # the same models would be there twice
            "ENABLE_PERSISTENT_CONFIG": "False",
            "DEFAULT_MODELS": endpoint.model,
        },
        ("serve", "--host", "127.0.0.1"),
    )


def _aider(endpoint: Endpoint) -> Wiring:
    """Source: aider.chat/docs/llms/openai-compat.html."""
    return Wiring(_openai(endpoint), ("--model", f"openai/{endpoint.model}"))


def _llm(endpoint: Endpoint) -> Wiring:
    """Source: llm.datasette.io, "OpenAI-compatible models": `extra-openai-models.yaml` in the directory that
    LLM_USER_PATH names, its keys in `keys.json`; LLM_MODEL is `--model`. YAML contains JSON.
    """
    model = {
        "model_id": endpoint.model,
        "model_name": endpoint.model,
        "api_base": endpoint.openai,
        "api_key_name": "qwenctl",
        "can_stream": True,
    }
    files = {
        "extra-openai-models.yaml": json.dumps([model], indent=2) + "\n",
        "keys.json": json.dumps({"qwenctl": endpoint.api_key}) + "\n",
    }
    return Wiring({"LLM_USER_PATH": "{files}", "LLM_MODEL": endpoint.model}, files=files)


def _env(endpoint: Endpoint) -> Wiring:
    """What most clients of OpenAI's, Anthropic's and Ollama's APIs read.

    Source: anthropic-sdk-python (ANTHROPIC_BASE_URL, ANTHROPIC_AUTH_TOKEN); Ollama, docs/faq (OLLAMA_HOST).
    """
    return Wiring(
        {
            **_openai(endpoint),
            "OPENAI_MODEL": endpoint.model,
            "ANTHROPIC_BASE_URL": endpoint.url,
            "ANTHROPIC_AUTH_TOKEN": endpoint.api_key,
            "ANTHROPIC_MODEL": endpoint.model,
            "OLLAMA_HOST": endpoint.url,
        }
    )


PROGRAMS: Final = (
    Program("claude", "Claude Code", "claude", "npm install -g @anthropic-ai/claude-code", _claude),
    Program("codex", "OpenAI's Codex", "codex", "npm install -g @openai/codex", _codex),
    Program("opencode", "OpenCode", "opencode", "npm install -g opencode-ai", _opencode),
    Program("open-webui", "Open WebUI, in the browser", "open-webui", "pip install open-webui", _open_webui),
    Program(
        "aider", "pair programming in git", "aider", "pip install aider-install && aider-install", _aider
    ),
    Program("llm", "prompts in the shell", "llm", "pip install llm", _llm),
    Program("env", 'variables for other programs: eval "$(qwenctl launch env)"', None, "", _env),
)


def find_program(name: str, near: Callable[[str, list[str]], str | None]) -> Program:
    """The program of this name. Raises: NotFound with the `near` names, or all."""
    wanted = name.lower().replace("openwebui", "open-webui")  # Docker spells it so
    for program in PROGRAMS:
        if program.name == wanted:
            return program
    known = [program.name for program in PROGRAMS]
    raise NotFound(f"`{name}` is no program that is known here", hint=near(name, known) or ", ".join(known))


def exports(wiring: Wiring, shell: str) -> str:
    """The lines that set, and remove, the variables in a shell. Raises: UsageError for an unknown one."""
    if shell not in SHELLS:
        raise UsageError(f"there are no lines for `{shell}`", hint=f"it is one of {', '.join(SHELLS)}")
    if shell == "fish":
        lines = [f"set -gx {name} {_fish(value)}" for name, value in wiring.environment.items()]
        return "\n".join([*(f"set -e {name}" for name in wiring.removed), *lines])
    lines = [f"export {name}={shlex.quote(value)}" for name, value in wiring.environment.items()]
    return "\n".join([*(f"unset {name}" for name in wiring.removed), *lines])


def _fish(value: str) -> str:
    """Source: fish documentation, "Quotes": within single quotes only `\\\\` and `\\'` are escapes."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
