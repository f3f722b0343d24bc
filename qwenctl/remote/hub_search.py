"""What Docker Hub has under `ai/`: its own catalogue of models, which any client may list.

GET {hub}/v2/repositories/ai/?page_size=100      → {"next": URL | null, "results": [{"name": …}, …]}
"""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urljoin

import msgspec

from qwenctl.errors import RegistryFailure
from qwenctl.oci.reference import DEFAULT_NAMESPACE
from qwenctl.remote.routes import networks_of
from qwenctl.remote.transport import Request, Transport, origin
from qwenctl.settings import Settings

CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 5.0
"""A search waits for nobody: without an answer there is the catalogue."""
PAGE_LIMIT: Final = 5
_PAGE_SIZE: Final = 100  # the most that the Hub gives
_OK: Final = 200


class HubModel(msgspec.Struct, frozen=True, kw_only=True):
    """One repository. `description` is its maker's line; counts are null where the Hub does not say."""

    name: str
    description: str | None = None
    pull_count: int | None = None
    star_count: int | None = None
    last_updated: str | None = None


class _Page(msgspec.Struct, frozen=True):
    results: list[HubModel]
    next: str | None = None


def list_hub(settings: Settings) -> Iterator[HubModel]:
    """Every model of Docker Hub's `ai/`, page by page.

    Raises: Unreachable; RegistryFailure for an answer that is none; InvalidSettings, FileMissing,
    AccessDenied for a proxy or certificates that cannot be used.
    """
    transport = Transport(CONNECT_SECONDS, READ_SECONDS, networks_of(settings))
    try:
        url: str | None = f"{settings.hub}/v2/repositories/{DEFAULT_NAMESPACE}/?page_size={_PAGE_SIZE}"
        for _ in range(PAGE_LIMIT):
            if url is None:
                return
            page = _page(transport, url)
            yield from page.results
            following = urljoin(url, page.next) if page.next else None
            url = following if following and origin(following) == origin(url) else None
    finally:
        transport.close()


def _page(transport: Transport, url: str) -> _Page:
    with transport.send(Request("GET", url, {"Accept": "application/json"})) as response:
        if response.status != _OK:
            raise RegistryFailure(f"`{origin(url)}` answered a search with status {response.status}")
        body = response.read()
    try:
        return msgspec.json.decode(body, type=_Page)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RegistryFailure(f"`{origin(url)}` answered a search with something else") from error
