"""Proxies, certificates, insecure registries, rate limits: networks as they are, with servers on loopback."""

import os
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from qwenctl.errors import (
    AccessDenied,
    FileMissing,
    InvalidSettings,
    RemoteError,
    Unreachable,
)
from qwenctl.remote.credentials import Credentials
from qwenctl.remote.repository import open_repository
from qwenctl.remote.routes import Networks, Route, is_insecure
from qwenctl.remote.transport import Request, Transport
from tests.builders import model
from tests.remote.faulty_registry import FaultyRegistry, faulty_registry
from tests.remote.forward_proxy import ForwardProxy, forward_proxy
from tests.remote.network_builders import (
    at,
    make_authority_in,
    own_credentials,
    pull,
    raised,
    read_all,
    settings,
    stock,
)
from tests.remote.tls import Authority
from tests.remote.tls_front import tls_front

NAME = "registry.test:5000"
"""A registry whose name only the proxy can resolve."""


@pytest.fixture(autouse=True)
def stocked(faulty: FaultyRegistry) -> None:
    """The registry has a model."""
    stock(faulty)


@pytest.fixture
def proxy(faulty: FaultyRegistry, secure: int) -> Iterator[ForwardProxy]:
    """A forward proxy; `registry.test` is the registry, with TLS at `:443` and without at `:5000`."""
    plain = int(faulty.address.rpartition(":")[2])
    with forward_proxy({NAME: plain, "registry.test:443": secure}) as running:
        yield running


PLAIN = settings(insecure_registries=frozenset({NAME}))


class TestWhichWay:
    """The pure choice of proxy and proof."""

    @pytest.mark.parametrize(
        ("url", "listed", "direct"),
        [
            ("https://a.example/", "", False),
            ("https://a.example/", "a.example", True),
            ("https://A.Example/", "a.EXAMPLE", True),
            ("https://b.a.example/", "other.example, a.example", True),
            ("https://b.a.example/", "other.example a.example", True),
            ("https://ba.example/", "a.example", False),
            ("https://a.example/", ".a.example", False),
            ("https://b.a.example/", ".a.example", True),
            ("https://b.a.example/", "*.a.example", True),
            ("https://a.example/", "*", True),
            ("https://a.example/", "a.example:443", True),
            ("https://a.example:5000/", "a.example:443", False),
            ("https://a.example:5000/", "a.example:5000", True),
            ("https://a.example:5000/", "a.example", True),
            ("https://10.1.2.3/", "10.0.0.0/8", True),
            ("https://10.1.2.3/", "10.1.2.3", True),
            ("https://10.1.2.3:1/", "10.1.2.3:2", False),
            ("https://11.1.2.3/", "10.0.0.0/8", False),
            ("https://10.1.2.3.example/", "10.1.2.3", False),
            ("https://[fd00::1]/", "fd00::/8", True),
            ("https://[fd00::1]:5/", "[fd00::1]:5", True),
            ("https://[fd00::1]:5/", "fd00::1", True),
            ("https://a.example/", "[", False),
        ],
    )
    def test_no_proxy(self, url: str, listed: str, direct: bool) -> None:
        """Names with their subdomains, addresses, networks, ports: as programs in Go read it."""
        networks = Networks({"https": "http://proxy:3128", "no": listed})
        assert (networks.route(url).proxy is None) is direct

    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:1"]
    )
    def test_loopback_is_reached_directly(self, host: str) -> None:
        """Whatever is set: a proxy elsewhere cannot reach this machine's registry."""
        networks = Networks({"http": "http://proxy:1", "https": "http://proxy:1", "all": "http://proxy:1"})
        assert networks.route(f"http://{host}/v2/").proxy is None
        assert networks.route(f"https://{host}/v2/").proxy is None

    def test_each_scheme_has_its_proxy(self) -> None:
        """`ALL_PROXY` is for what has none; an address without a scheme is one of HTTP."""
        networks = Networks({"http": "one:1", "all": "socks5://two:2"})
        assert networks.route("http://a.example/").proxy == "http://one:1"
        assert networks.route("https://a.example/").proxy == "socks5://two:2"
        assert Networks().route("https://a.example/").proxy is None

    @pytest.mark.parametrize(
        "address", ["ftp://me:secret@proxy", "http://", "http://me:secret@proxy:x", "http://proxy:0"]
    )
    def test_proxies_that_are_none(self, address: str) -> None:
        """InvalidSettings, without the password that may be in it."""
        with pytest.raises(InvalidSettings) as caught:
            Networks({"https": address}).route("https://a.example/")
        assert "secret" not in f"{caught.value.message}{caught.value.hint}"
        assert "HTTPS_PROXY=" in str(caught.value.hint)

    def test_a_socks_proxy_needs_its_package(self) -> None:
        """A proxy that the installed packages cannot speak to is named, with what to do."""
        transport = Transport(networks=Networks({"all": "socks5://me:secret@127.0.0.1:1"}))
        with pytest.raises(InvalidSettings, match="socksio") as caught:
            transport.send(Request("GET", "https://a.example/"))
        assert "secret" not in str(caught.value.hint)
        transport.close()

    def test_secrets_are_in_no_repr(self) -> None:
        """Neither of the networks nor of a route."""
        networks = Networks({"https": "http://me:secret@proxy:1"})
        assert "secret" not in f"{networks!r}{networks.route('https://a.example')!r}"

    @pytest.mark.parametrize(
        ("url", "insecure", "proof"),
        [
            ("http://a.example/", (), "none"),
            ("https://a.example/", (), "certificate"),
            ("https://a.example/", ("a.example",), "nothing"),
            ("https://a.example/", ("a.example:443",), "nothing"),
            ("https://a.example:5000/", ("a.example",), "certificate"),
            ("https://a.example:5000/", ("a.example:5000",), "nothing"),
            ("https://b.a.example/", ("a.example",), "certificate"),
            ("https://127.0.0.1:5/", (), "certificate"),
            ("https://[::2]:5/", ("[::2]:5",), "nothing"),
        ],
    )
    def test_proofs(self, url: str, insecure: tuple[str, ...], proof: Any) -> None:
        """A certificate from everybody but those listed, with exactly their port."""
        assert Networks(insecure=frozenset(insecure)).route(url) == Route(proof)
        assert is_insecure(url, frozenset(insecure)) is (proof == "nothing")


class TestThroughAProxy:
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY, with a real forward proxy."""

    def test_plain_http(self, proxy: ForwardProxy, faulty: FaultyRegistry) -> None:
        """Every request goes in absolute form to the proxy, which alone knows the name."""
        os.environ["HTTP_PROXY"] = proxy.url
        pull(NAME, PLAIN)
        assert {passed.target.partition("/v2/")[0] for passed in proxy.passed} == {f"http://{NAME}"}
        assert len(proxy.passed) == len(faulty.seen) > 3

    def test_tls_in_a_tunnel(self, proxy: ForwardProxy, faulty: FaultyRegistry, authority: Authority) -> None:
        """The proxy sees where to, and nothing else; the certificate is verified through it."""
        os.environ["HTTPS_PROXY"] = proxy.url
        pull("registry.test", settings(ca_bundle=authority.bundle))
        assert {(passed.method, passed.target) for passed in proxy.passed} == {
            ("CONNECT", "registry.test:443")
        }
        assert len(faulty.seen) > 3
        with pytest.raises(Unreachable, match=r"no secure connection to `https://registry\.test`"):
            pull("registry.test")

    def test_a_large_blob_in_a_tunnel(
        self, proxy: ForwardProxy, faulty: FaultyRegistry, authority: Authority
    ) -> None:
        """A body of many pieces arrives whole."""
        large = model(3, padding=9 << 20)
        stock(faulty, large)
        os.environ["HTTPS_PROXY"] = proxy.url
        with open_repository(
            at("registry.test"), settings(ca_bundle=authority.bundle), Credentials()
        ) as repository:
            read_all(repository, at("registry.test"), large)

    @pytest.mark.parametrize("exempt", ["0.0.0.0", "0.0.0.0/8", "*"])
    def test_no_proxy_is_honoured(self, proxy: ForwardProxy, faulty: FaultyRegistry, exempt: str) -> None:
        """What is exempt is reached directly."""
        address = faulty.address.replace("127.0.0.1", "0.0.0.0")
        chosen = settings(insecure_registries=frozenset({address}))
        os.environ["HTTP_PROXY"] = os.environ["HTTPS_PROXY"] = proxy.url
        with pytest.raises(RemoteError):
            pull(address, chosen)
        assert {passed.method for passed in proxy.passed} == {"CONNECT", "HEAD"}
        proxy.passed.clear()
        os.environ["NO_PROXY"] = exempt
        pull(address, chosen)
        assert proxy.passed == []

    def test_loopback_needs_no_exemption(self, proxy: ForwardProxy, faulty: FaultyRegistry) -> None:
        """A registry of this machine is reached with any proxy set."""
        os.environ["HTTP_PROXY"] = os.environ["ALL_PROXY"] = proxy.url
        pull(faulty.address)
        assert proxy.passed == []

    @pytest.mark.parametrize("secure_way", [False, True])
    def test_the_proxys_password_is_for_the_proxy(
        self, proxy: ForwardProxy, faulty: FaultyRegistry, authority: Authority, secure_way: bool
    ) -> None:
        """`Proxy-Authorization` on what the proxy itself reads; the registry gets only its own."""
        proxy.login = "me:pass@word"
        faulty.faults.basic = "you:own"
        os.environ["HTTP_PROXY"] = os.environ["HTTPS_PROXY"] = proxy.logged_in_as("me:pass%40word")
        name = "registry.test" if secure_way else NAME
        chosen = settings(ca_bundle=authority.bundle) if secure_way else PLAIN
        pull(name, chosen, own_credentials({name: "you:own"}))
        assert all("proxy-authorization" in passed.headers for passed in proxy.passed)
        assert not any("proxy-authorization" in seen.headers for seen in faulty.seen)
        assert faulty.seen[-1].headers["authorization"].startswith("Basic ")
        tunnels = [passed for passed in proxy.passed if passed.method == "CONNECT"]
        assert not any("authorization" in passed.headers for passed in tunnels)

    @pytest.mark.parametrize("name", ["registry.test", NAME])
    @pytest.mark.parametrize(
        ("refusal", "login", "hint"), [(403, None, "proxy|PROXY"), (None, "me:other", "USER:PASSWORD@")]
    )
    def test_a_proxy_that_refuses(
        self, proxy: ForwardProxy, name: str, refusal: int | None, login: str | None, hint: str
    ) -> None:
        """Exit status 4 with a hint, and no password in either."""
        proxy.refusal, proxy.login = refusal, login
        os.environ["HTTP_PROXY"] = os.environ["HTTPS_PROXY"] = proxy.logged_in_as("me:secret")
        with pytest.raises(RemoteError) as caught:
            pull(name, PLAIN)
        assert caught.value.exit_code == 4
        assert re.search(hint, str(caught.value.hint))
        assert "secret" not in f"{caught.value.message}{caught.value.hint}{caught.value!r}"

    def test_a_proxy_that_is_not_there(self) -> None:
        """The proxy is named, without its password, and the variables that set it."""
        os.environ["HTTPS_PROXY"] = "http://me:secret@127.0.0.1:1"
        with pytest.raises(Unreachable, match=r"through the proxy `http://127\.0\.0\.1:1`") as caught:
            pull("registry.test")
        assert "HTTPS_PROXY" in str(caught.value.hint)
        assert "secret" not in f"{caught.value.message}{caught.value.hint}"


class TestCertificates:
    """Whose certificates are believed."""

    def test_an_authority_of_ones_own(self, secure: int, authority: Authority) -> None:
        """Unknown it is refused with the way to make it known; with the bundle it is good."""
        error = raised(f"0.0.0.0:{secure}", settings())
        assert "unable to get local issuer certificate" in error.message
        assert "QWENCTL_CA_BUNDLE" in str(error.hint)
        pull(f"0.0.0.0:{secure}", settings(ca_bundle=authority.bundle))

    def test_the_bundle_adds_to_the_systems_certificates(
        self, secure: int, authority: Authority, tmp_path: Path
    ) -> None:
        """With one authority from SSL_CERT_FILE and another from the bundle, both are good."""
        other = make_authority_in(tmp_path / "other", "0.0.0.0")
        with faulty_registry() as registry, tls_front(other.server, registry.address, "0.0.0.0") as port:
            stock(registry)
            os.environ["SSL_CERT_FILE"] = str(authority.bundle)
            for place in (secure, port):
                pull(f"0.0.0.0:{place}", settings(ca_bundle=other.bundle))

    def test_certificates_that_are_out_of_time(self, faulty: FaultyRegistry, tmp_path: Path) -> None:
        """Expired: the clock and the operator are named."""
        ends = datetime.now(UTC) - timedelta(days=1)
        context, bundle = own_certificate(tmp_path, "0.0.0.0", not_after=ends)
        with tls_front(context, faulty.address, "0.0.0.0") as port:
            error = raised(f"0.0.0.0:{port}", settings(ca_bundle=bundle))
        assert "expired" in error.message and "clock" in str(error.hint)

    def test_certificates_of_another_name(self, faulty: FaultyRegistry, tmp_path: Path) -> None:
        """A certificate that is good for another host is good for nothing."""
        context, bundle = own_certificate(tmp_path, "other.test")
        with tls_front(context, faulty.address, "0.0.0.0") as port:
            error = raised(f"0.0.0.0:{port}", settings(ca_bundle=bundle))
        assert "0.0.0.0" in error.message and "name" in str(error.hint)

    def test_a_server_that_speaks_no_tls(self, faulty: FaultyRegistry) -> None:
        """The hint says how plain HTTP is allowed."""
        error = raised(faulty.address.replace("127.0.0.1", "0.0.0.0"), settings())
        assert "QWENCTL_INSECURE_REGISTRIES" in str(error.hint)

    @pytest.mark.parametrize(
        ("content", "kind"),
        [(None, FileMissing), (b"no certificates", InvalidSettings), (b"", InvalidSettings)],
    )
    def test_bundles_that_cannot_be_used(
        self, secure: int, tmp_path: Path, content: bytes | None, kind: type[Exception]
    ) -> None:
        """A missing file, or one without certificates, is named with the places where it may be set."""
        path = tmp_path / "bundle.pem"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(kind, match=r"bundle\.pem") as caught:
            pull(f"0.0.0.0:{secure}", settings(ca_bundle=path))
        assert "QWENCTL_CA_BUNDLE" in str(getattr(caught.value, "hint", ""))

    def test_a_bundle_that_is_a_directory(self, secure: int, tmp_path: Path) -> None:
        """It is no file of certificates, whatever is in it."""
        with pytest.raises((AccessDenied, InvalidSettings)):
            pull(f"0.0.0.0:{secure}", settings(ca_bundle=tmp_path))

    def test_a_system_without_certificates(self, secure: int, authority: Authority, tmp_path: Path) -> None:
        """The bundle works where OpenSSL finds nothing of its own."""
        os.environ["SSL_CERT_FILE"] = str(tmp_path / "absent")
        os.environ["SSL_CERT_DIR"] = str(tmp_path)
        pull(f"0.0.0.0:{secure}", settings(ca_bundle=authority.bundle))


def own_certificate(
    directory: Path, name: str, not_after: datetime | None = None
) -> tuple[ssl.SSLContext, Path]:
    """A server's certificate for `name`, and the authority's."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_after=not_after).configure_cert(context)
    authority.cert_pem.write_to_path(str(directory / "own.pem"))
    return context, directory / "own.pem"
