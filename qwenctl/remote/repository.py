"""`Repository`: one repository of one registry as a Target.

Source: OCI distribution-spec v1.1.1. Manifests are hashed as received, never as parsed; a registry's own word
for a digest counts only when it matches.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Final

from qwenctl.errors import BlobUnknown, InvalidDigest, ReferenceUnknown, RegistryFailure, Unauthorized
from qwenctl.oci.descriptor import ACCEPTED_TYPES, Descriptor
from qwenctl.oci.digest import Digest, verify
from qwenctl.oci.manifest import MANIFEST_LIMIT, parse_document
from qwenctl.oci.protocol import (
    CONTENT_DIGEST,
    ErrorCode,
    blob_path,
    manifest_path,
    parse_next_link,
    tags_path,
    uploads_path,
)
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Content, Reader, blamed, content_of, piece_of, read_bytes
from qwenctl.remote.auth import login_hint
from qwenctl.remote.client import Client, failure, find_base
from qwenctl.remote.credentials import Credentials
from qwenctl.remote.download import Download
from qwenctl.remote.routes import networks_of
from qwenctl.remote.transport import Request, Response, Transport
from qwenctl.remote.upload import upload
from qwenctl.settings import Settings

_ACCEPT: Final = {"Accept": ", ".join(ACCEPTED_TYPES)}
_PAGE_LIMIT: Final = 1000  # pages of tags; a registry that links for ever is stopped


MountFrom = Callable[[Digest], str | None]
"""The name of a repository that may have a blob."""


def _nowhere(digest: Digest) -> str | None:
    return None


class Repository:
    """A repository on the network; see `Target` for the methods' contract.

    Every method may raise Unreachable, Unauthorized, RateLimited and RegistryFailure. Any thread may call.
    `mount_from` names another repository of the same registry that may hold a blob already.
    """

    def __init__(self, client: Client, name: str, *, mount_from: MountFrom = _nowhere) -> None:
        self.client = client
        self.name = name
        self._mount_from = mount_from
        self._sent: dict[Digest, tuple[str, bytes]] = {}

    @property
    def origin(self) -> str:
        """See `Located`."""
        return self.client.base

    def resolve(self, reference: Reference) -> Descriptor:
        """See `Source.resolve`: a HEAD, which does not count as a pull, else a GET that is hashed."""
        path = manifest_path(self.name, reference.version)
        with self._pull(Request("HEAD", path, _ACCEPT)) as response:
            if response.status == 404:
                raise self._unknown(reference)
            if response.status in (401, 403):
                raise self._refused(reference, response)
            described = self._described(response, reference.digest) if response.status == 200 else None
        return described or self._resolve_by_content(reference)

    def exists(self, descriptor: Descriptor) -> bool:
        """See `Source.exists`, by a HEAD."""
        with self._push(Request("HEAD", self._path(descriptor), _ACCEPT)) as response:
            if response.status == 200:
                length = response.headers.get("content-length", "")
                return not length.isdecimal() or int(length) == descriptor.size or descriptor.is_manifest
            if response.status == 404:
                return False
            raise failure(response, f"the question for `{descriptor.digest}`")

    def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None) -> Reader:
        """See `Source.fetch`. A blob's reader goes on by itself when the connection breaks."""
        if not descriptor.is_manifest:
            return Download(self.client, self._pull, self._path(descriptor), descriptor, offset, length)
        asked = Request("GET", self._path(descriptor), {"Accept": descriptor.media_type})
        response = self._pull_whole(asked)
        if response.status == 404:
            response.close()
            raise BlobUnknown(f"`{self.client.base}` does not have the manifest `{descriptor.digest}`")
        if response.status != 200:
            raise failure(response, f"the download of the manifest `{descriptor.digest}`")
        return piece_of(content_of(response.read(MANIFEST_LIMIT + 1))(offset), length)

    def push(self, descriptor: Descriptor, content: Content) -> None:
        """See `Target.push`: nothing when it is there, else mounted, else uploaded."""
        if self.exists(descriptor):
            return
        if not descriptor.is_manifest:
            upload(self.client, self._push, partial(self._begin, descriptor), descriptor, content)
            return
        raw = verify(read_bytes(content(0), MANIFEST_LIMIT), descriptor.digest, descriptor.size)
        self._put_manifest(str(descriptor.digest), descriptor.media_type, raw)
        self._sent[descriptor.digest] = (descriptor.media_type, raw)

    def tag(self, descriptor: Descriptor, reference: Reference) -> None:
        """See `Target.tag`: the same manifest, put under the tag; by its digest for a pinned reference."""
        sent = self._sent.get(descriptor.digest)
        if sent is None:
            raw = verify(
                read_bytes(self.fetch(descriptor), MANIFEST_LIMIT), descriptor.digest, descriptor.size
            )
            sent = (descriptor.media_type, raw)
        pinned = reference.pinned or reference.tag is None
        self._put_manifest(str(descriptor.digest) if pinned else str(reference.tag), *sent)

    def protect(self, descriptors: Iterable[Descriptor]) -> AbstractContextManager[None]:
        """See `Target.protect`: registries keep what was just uploaded for long enough."""
        return nullcontext()

    def tags(self) -> Iterator[str]:
        """All tags of the repository, page by page. Raises: ReferenceUnknown when it does not exist."""
        url: str | None = tags_path(self.name)
        for _ in range(_PAGE_LIMIT):
            if url is None:
                return
            with self._pull_whole(Request("GET", url)) as response:
                if response.status == 404:
                    raise ReferenceUnknown(f"no repository `{self.name}` at `{self.client.base}`")
                if response.status != 200:
                    raise failure(response, f"the list of tags of `{self.name}`")
                link = parse_next_link(response.headers.get("link"))
                url = self.client.resolve_url(link, response.url) if link else None
                yield from _parse_tags(response.read())

    def _pull(self, request: Request) -> Response:
        return self.client.send(request, (f"repository:{self.name}:pull",))

    def _pull_whole(self, request: Request) -> Response:
        return self.client.send(request, (f"repository:{self.name}:pull",), read_limit=MANIFEST_LIMIT + 1)

    def _push(self, request: Request) -> Response:
        return self.client.send(request, (f"repository:{self.name}:pull,push",))

    def _path(self, descriptor: Descriptor) -> str:
        path = manifest_path if descriptor.is_manifest else blob_path
        return path(self.name, str(descriptor.digest))

    def _begin(self, descriptor: Descriptor) -> Response:
        """The answer to the first request of an upload: 201 when the blob could be taken over from elsewhere.

        A registry that cannot mount begins a session instead; one that refuses is asked for one.
        """
        path, elsewhere = uploads_path(self.name), self._mount_from(descriptor.digest)
        if elsewhere is not None:
            scopes = (f"repository:{self.name}:pull,push", f"repository:{elsewhere}:pull")
            asked = Request("POST", f"{path}?mount={descriptor.digest}&from={elsewhere}", body=b"")
            with suppress(Unauthorized, RegistryFailure):  # it may be private, or gone
                response = self.client.send(asked, scopes)
                if response.status in (201, 202):
                    return response
                response.close()
        return self._push(Request("POST", path, body=b""))

    def _put_manifest(self, version: str, media_type: str, raw: bytes) -> None:
        headers, path = {"Content-Type": media_type}, manifest_path(self.name, version)
        request = Request("PUT", path, headers, raw, repeatable=True)
        with self._push(request) as response:
            if response.status in (200, 201, 202):
                return
            error = failure(response, f"the manifest `{self.name}:{version}`")
        if ErrorCode.MANIFEST_BLOB_UNKNOWN in error.message:
            raise BlobUnknown(error.message, hint="push the model again, whole") from error
        raise error

    def _resolve_by_content(self, reference: Reference) -> Descriptor:
        asked = Request("GET", manifest_path(self.name, reference.version), _ACCEPT)
        with self._pull_whole(asked) as response:
            if response.status == 404:
                raise self._unknown(reference)
            if response.status != 200:
                raise failure(response, f"the question for `{reference}`")
            kind = response.headers.get("content-type", "")
            raw = response.read(MANIFEST_LIMIT + 1)
        with blamed(self):
            if reference.digest is not None:
                verify(raw, reference.digest, len(raw))
            document = parse_document(raw, kind or None)
        return Descriptor(document.media_type, reference.digest or Digest.of(raw), len(raw))

    def _described(self, response: Response, pinned: Digest | None) -> Descriptor | None:
        """The descriptor in the headers of a HEAD; None when they do not say enough."""
        media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        length = response.headers.get("content-length", "")
        told = response.headers.get(CONTENT_DIGEST.lower())
        if (
            media_type not in ACCEPTED_TYPES
            or not length.isdecimal()
            or int(length) == 0
            or not (told or pinned)
        ):
            return None
        try:
            digest = Digest.parse(told) if told else pinned
        except InvalidDigest as error:
            raise RegistryFailure(f"`{self.client.base}` describes a manifest by a broken digest") from error
        if pinned is not None and digest != pinned:
            raise RegistryFailure(f"`{self.client.base}` answers `{pinned}` with `{digest}`")
        assert digest is not None
        return Descriptor(media_type, digest, int(length))

    def _unknown(self, reference: Reference) -> ReferenceUnknown:
        return ReferenceUnknown(f"no model `{reference.familiar()}` at `{self.client.base}`")

    def _refused(self, reference: Reference, response: Response) -> Exception:
        """Docker Hub answers 401 for what does not exist, unless one may see it."""
        error = failure(response, f"`{reference.familiar()}`")
        if isinstance(error, Unauthorized) and self.client.anonymous:
            return ReferenceUnknown(
                f"no model `{reference.familiar()}` at `{self.client.base}`, or it is not public",
                hint=f"for a private model {login_hint(self.client.base)}",
            )
        if isinstance(error, Unauthorized):
            return Unauthorized(error.message, hint=f"{login_hint(self.client.base)} as one who may read it")
        return error


@contextmanager
def open_repository(
    reference: Reference, settings: Settings, credentials: Credentials, *, mount_from: MountFrom = _nowhere
) -> Iterator[Repository]:
    """The repository of `reference` on its registry; its connections end with the block."""
    transport = Transport(networks=networks_of(settings))
    try:
        base = find_base(transport, reference.registry, settings.insecure_registries)
        client = Client(transport, base, credentials.find(reference.registry, reference.repository))
        yield Repository(client, reference.repository, mount_from=mount_from)
    finally:
        transport.close()


def _parse_tags(body: bytes) -> list[str]:
    try:
        tags = json.loads(body).get("tags")
    except (ValueError, AttributeError) as error:
        raise RegistryFailure("the registry's list of tags is not JSON") from error
    return [tag for tag in tags or [] if isinstance(tag, str)]
