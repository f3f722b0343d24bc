"""A certificate authority of our own, for servers with TLS on loopback."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority: what a server needs, and the file that a client must be told of."""

    server: ssl.SSLContext
    bundle: Path


def make_authority(directory: Path, *names: str) -> Authority:
    """An authority whose server is `names` (`127.0.0.1` and `localhost` by default)."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
    bundle = directory / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    return Authority(context, bundle)
