"""References: the full names of models, the short forms people type, and how one becomes the other.

    [registry "/"] repository [":" tag] ["@" digest]

    registry    a host, known by a `.`, a `:port` or the name `localhost` in the first component
    repository  path components of lower-case letters, digits and separators
    tag         a letter, digit or `_`, then up to 127 letters, digits, `.`, `_`, `-`

    qwen2.5                  docker.io/ai/qwen2.5:latest
    qwen2.5:7B-Q4_K_M        docker.io/ai/qwen2.5:7B-Q4_K_M     (a tag keeps its case, a name does not)
    me/model                 docker.io/me/model:latest
    localhost:5000/me/m@sha256:…                                (a digest pins; no tag is implied)

Source: distribution-spec v1.1, "Pulling manifests" (name and tag grammar); the `ai/` namespace and
lower-casing follow Docker Model Runner.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, Self

from qwenctl.errors import InvalidDigest, InvalidReference
from qwenctl.oci.digest import Digest

DOCKER_HUB: Final = "docker.io"
BUILT_IN: Final = "qwenctl.internal"
"""The registry that ships with the tool. `.internal` never resolves on the public network."""
DEFAULT_NAMESPACE: Final = "ai"
DEFAULT_TAG: Final = "latest"

_NAME_LIMIT: Final = 255  # many registries cap host and path together there
_HOST: Final = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
    r"|\[[0-9a-fA-F:.]+\])(?::([0-9]{1,5}))?"
)
_LAST_PORT: Final = 65535
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HUB_HOSTS: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})


def is_repository(text: str) -> bool:
    """Whether `text` is a repository path by the specification's grammar."""
    return len(text) <= _NAME_LIMIT and _REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether `text` is a tag by the specification's grammar."""
    return _TAG.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """A full name: where (`registry`), which (`repository`), and which version (`tag`, `digest`).

    At least one of `tag` and `digest` is set. With a digest the content is pinned: the tag, if
    any, is decoration and is never moved.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, *, registry: str = DOCKER_HUB, namespace: str = DEFAULT_NAMESPACE) -> Self:
        """The reference that `text` names, completed by the defaults for what it leaves out.

        Raises: InvalidReference for anything that the grammar refuses.
        """
        if not text.strip():
            raise _invalid(text, "the name is empty")
        name, at, pinned = text.strip().partition("@")
        digest = _parse_digest(pinned, text) if at else None
        head, slash, tail = name.rpartition("/")
        last, colon, tag = tail.partition(":")
        path = f"{head}{slash}{last}"
        if colon and not is_tag(tag):
            raise _invalid(text, f"`{tag[:200]}` is not a tag")
        host, repository = _split_host(path)
        if "/" not in repository and host in {None, DOCKER_HUB}:
            repository = f"{namespace}/{repository}"
        repository, host = repository.lower(), host or _normal_host(registry, text)
        if not is_repository(repository) or len(host) + len(repository) + 1 > _NAME_LIMIT:
            raise _invalid(text, f"`{repository[:200]}` is not a repository name")
        version = tag or (None if digest else DEFAULT_TAG)
        return cls(host, repository, version, digest)

    @property
    def pinned(self) -> bool:
        """Whether the digest, not the tag, says which version this is."""
        return self.digest is not None

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest if there is one, else the tag."""
        return str(self.digest) if self.digest else self.tag or DEFAULT_TAG

    def at(self, digest: Digest) -> Self:
        """The same repository, pinned to `digest`, without a tag."""
        return replace(self, tag=None, digest=digest)

    def tagged(self, tag: str) -> Self:
        """The same repository at another tag, not pinned. Raises: InvalidReference."""
        if not is_tag(tag):
            raise _invalid(tag, "it is not a tag")
        return replace(self, tag=tag, digest=None)

    def familiar(self) -> str:
        """The short form that parses back to this reference (or, for a built-in model, resolves to it)."""
        name = _short_name(self.registry, self.repository)
        if self.tag and (self.tag != DEFAULT_TAG or self.digest):
            name = f"{name}:{self.tag}"
        return f"{name}@{self.digest}" if self.digest else name

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def _split_host(path: str) -> tuple[str | None, str]:
    first, slash, rest = path.partition("/")
    if not slash or not _looks_like_host(first):
        return None, path
    return _normal_host(first, path), rest


def _looks_like_host(component: str) -> bool:
    return "." in component or ":" in component or component.lower() == "localhost"


def _normal_host(text: str, reference: str) -> str:
    match = _HOST.fullmatch(text)
    if not match or not _looks_like_host(text) or int(match[1] or 0) > _LAST_PORT:
        raise _invalid(reference, f"`{text[:200]}` is not a host")
    host = text.lower()
    return DOCKER_HUB if host in _HUB_HOSTS else host


def _short_name(registry: str, repository: str) -> str:
    """What may be left out so that the defaults bring the same name back."""
    namespace, slash, rest = repository.partition("/")
    if registry == BUILT_IN and not slash:
        return repository
    if registry == DOCKER_HUB and namespace == DEFAULT_NAMESPACE and "/" not in rest:
        return rest
    if registry == DOCKER_HUB and not _looks_like_host(namespace):
        return repository
    return f"{registry}/{repository}"


def _parse_digest(text: str, reference: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise _invalid(reference, f"`{text[:80]}` is not a digest") from error


def _invalid(text: str, why: str) -> InvalidReference:
    return InvalidReference(
        f"`{text[:200]}` is not a model name: {why}",
        hint="write NAME[:TAG], such as qwen2.5:7B-Q4_K_M, or HOST/NAME[:TAG]",
    )
