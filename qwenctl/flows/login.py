"""Login and logout: a credential is proved at its registry, then kept where Docker keeps it.

login    registry, credential → proved by the registry → helper or file
logout   registry → helper and file, all spellings
"""

from dataclasses import dataclass
from pathlib import Path

from qwenctl.remote.credentials import Credential
from qwenctl.remote.docker_config import DockerConfig
from qwenctl.remote.login import prove
from qwenctl.settings import Settings


@dataclass(frozen=True, slots=True)
class Login:
    """What came of a login. `checked`: the registry asked for the credential and took it.

    `helper` is the program that keeps the secret; None: it is in the file at `path`, unencrypted.
    """

    registry: str
    user: str
    checked: bool
    path: Path
    helper: str | None


def login(registry: str, credential: Credential, settings: Settings, config: DockerConfig) -> Login:
    """Prove `credential`, then save it. Nothing is saved of one that is refused.

    Raises: Unauthorized, Unreachable, RateLimited, RegistryFailure; AccessDenied, DiskFull, Malformed.
    """
    checked = prove(registry, credential, settings)
    helper = config.save(registry, credential)
    return Login(registry, credential.user, checked, config.path, helper)


def logout(registry: str, config: DockerConfig) -> bool:
    """Forget what is kept for `registry`; whether there was anything. Raises: AccessDenied, Malformed."""
    return config.remove(registry)
