"""Docker's file of credentials, written and read beside the code under test."""

import json
import stat
from pathlib import Path

from qwenctl.remote.credentials import Credential, load
from qwenctl.remote.docker_config import DockerConfig


def write(config: DockerConfig, document: object) -> bytes:
    """Put a document, or text, into the file; what is in it then."""
    config.path.parent.mkdir(exist_ok=True)
    config.path.write_text(document if isinstance(document, str) else json.dumps(document))
    return config.path.read_bytes()


def read(config: DockerConfig) -> dict[str, object]:
    """What is in the file."""
    document: dict[str, object] = json.loads(config.path.read_text())
    return document


def found(config: DockerConfig, registry: str) -> Credential | None:
    """What the other side finds."""
    return load({"DOCKER_CONFIG": str(config.path.parent)}, Path("/nonexistent")).find(registry)


def mode(path: Path) -> int:
    """Who may do what."""
    return stat.S_IMODE(path.stat().st_mode)
