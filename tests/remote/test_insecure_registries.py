"""Registries without a certificate, and registries that have had enough."""

from pathlib import Path

import pytest

from qwenctl.errors import (
    RateLimited,
    RegistryFailure,
    Unauthorized,
    Unreachable,
)
from qwenctl.oci.protocol import blob_path
from qwenctl.remote.client import find_base
from qwenctl.remote.credentials import Credentials
from qwenctl.remote.repository import open_repository
from qwenctl.remote.routes import Networks
from qwenctl.remote.transport import Request, Transport
from tests.remote.account_registry import account_registry
from tests.remote.conftest import Connect
from tests.remote.faulty_registry import FaultyRegistry, faulty_registry
from tests.remote.network_builders import (
    MADE,
    at,
    make_authority_in,
    own_credentials,
    pull,
    raised,
    settings,
    stock,
)
from tests.remote.tls import Authority
from tests.remote.tls_front import tls_front


@pytest.fixture(autouse=True)
def stocked(faulty: FaultyRegistry) -> None:
    """The registry has a model."""
    stock(faulty)


class TestInsecureRegistries:
    """TLS that is not verified first, then plain HTTP, as Docker has it; and only for those listed."""

    def test_tls_without_a_certificate_that_counts(self, secure: int, faulty: FaultyRegistry) -> None:
        """The certificate is not verified, and TLS is used: the credential goes over it."""
        name = f"0.0.0.0:{secure}"
        faulty.faults.basic = "me:secret"
        pull(name, settings(insecure_registries=frozenset({name})), own_credentials({name: "me:secret"}))
        assert faulty.seen[-1].headers["host"] == name
        assert faulty.seen[-1].headers["authorization"].startswith("Basic ")

    def test_plain_http_where_tls_is_not_spoken(self, faulty: FaultyRegistry) -> None:
        """After one try with TLS; the registry's credential is sent, as its user agreed to."""
        name = faulty.address.replace("127.0.0.1", "0.0.0.0")
        faulty.faults.basic = "me:secret"
        pull(name, settings(insecure_registries=frozenset({name})), own_credentials({name: "me:secret"}))
        assert faulty.seen[-1].headers["authorization"].startswith("Basic ")

    def test_the_origin_that_works(self, secure: int, faulty: FaultyRegistry) -> None:
        """HTTPS wins where both might; loopback that is not listed is plain, Docker Hub never is."""
        plain = faulty.address
        transport = Transport(networks=Networks(insecure=frozenset({f"127.0.0.1:{secure}", plain})))
        for registry, listed, base in (
            (f"127.0.0.1:{secure}", True, f"https://127.0.0.1:{secure}"),
            (plain, True, f"http://{plain}"),
            (plain, False, f"http://{plain}"),
            ("docker.io", True, "https://registry-1.docker.io"),
        ):
            insecure = frozenset({registry}) if listed else frozenset[str]()
            assert find_base(transport, registry, insecure) == base
        transport.close()

    def test_others_are_verified_all_the_same(self, secure: int, faulty: FaultyRegistry) -> None:
        """The same server under a name that is not listed is not believed."""
        chosen = settings(insecure_registries=frozenset({f"127.0.0.1:{secure}"}))
        assert "certificate" in raised(f"0.0.0.0:{secure}", chosen).message

    def test_a_redirect_leads_back_to_verification(
        self, secure: int, faulty: FaultyRegistry, authority: Authority
    ) -> None:
        """A listed registry may send us on, but who it sends us to has to show a certificate."""
        with faulty_registry() as storage, tls_front(authority.server, storage.address, "0.0.0.0") as port:
            stock(storage)
            faulty.faults.redirect_blobs = f"https://0.0.0.0:{port}"
            name = f"0.0.0.0:{secure}"
            chosen = settings(insecure_registries=frozenset({name}))
            blob = blob_path("me/model", str(MADE.manifest.config.digest))
            with (
                open_repository(at(name), chosen, Credentials()) as repository,
                pytest.raises(Unreachable, match=f"no secure connection to `https://0.0.0.0:{port}`"),
            ):
                repository.client.send(Request("GET", blob))
            assert storage.seen == []
            pull(name, settings(insecure_registries=chosen.insecure_registries, ca_bundle=authority.bundle))

    def test_the_token_server_is_verified(self, secure: int, faulty: FaultyRegistry, tmp_path: Path) -> None:
        """No secret goes to a token server without TLS, nor to one whose certificate nobody vouches for."""
        name = f"0.0.0.0:{secure}"
        chosen = settings(insecure_registries=frozenset({name}))
        known = own_credentials({name: "me:secret"})
        faulty.faults.bearer = True
        with pytest.raises(RegistryFailure, match="token server without TLS"):
            pull(name, chosen, known)
        assert not any(seen.path.startswith("/token") for seen in faulty.seen)
        assert not any("authorization" in seen.headers for seen in faulty.seen)
        other = make_authority_in(tmp_path / "other", "0.0.0.0")
        with (
            account_registry() as tokens,
            tls_front(other.server, tokens.address, "0.0.0.0") as port,
            account_registry(scheme="bearer", realm=f"https://0.0.0.0:{port}/token") as registry,
            tls_front(other.server, registry.address, "0.0.0.0") as front,
        ):
            name = f"0.0.0.0:{front}"
            known = own_credentials({name: "me:secret"})
            with pytest.raises(Unreachable, match=f"no secure connection to `https://0.0.0.0:{port}`"):
                pull(name, settings(insecure_registries=frozenset({name})), known)
            assert tokens.seen == [] and registry.shown == set()


class TestRateLimits:
    """429 after the retries."""

    @pytest.mark.parametrize(
        ("retry_after", "wait"),
        [
            ("120", "come back in 120 seconds (2m 00s)"),
            ("Fri, 02 Jan 2026 03:04:05 GMT", "come back at 2026-01-02 03:04:05 UTC"),
            ("soon", "come back later"),
            (None, "come back later"),
            ("9" * 40, "come back later"),
        ],
    )
    def test_when_to_come_back(
        self, connect: Connect, faulty: FaultyRegistry, retry_after: str | None, wait: str
    ) -> None:
        """In seconds or as a date, and that an account may ask more often."""
        faulty.faults.statuses = [429] * 20
        faulty.faults.retry_after = retry_after
        with pytest.raises(RateLimited) as caught:
            connect().resolve(at(faulty.address))
        assert wait in str(caught.value.hint)
        assert "qwenctl login" in str(caught.value.hint)
        assert caught.value.exit_code == 4

    @pytest.mark.parametrize(
        ("headers", "shown"),
        [
            (
                {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"},
                "0 of 100 pulls are left in 6h",
            ),
            ({"ratelimit-limit": "100", "ratelimit-remaining": "3"}, "3 of 100 pulls are left"),
            ({"ratelimit-limit": "100"}, ""),
            ({"ratelimit-limit": "many", "ratelimit-remaining": "few"}, ""),
        ],
    )
    def test_what_is_left(
        self, connect: Connect, faulty: FaultyRegistry, headers: dict[str, str], shown: str
    ) -> None:
        """Docker Hub's own figures, where they are sent and are figures."""
        faulty.faults.statuses = [429] * 20
        faulty.faults.more_headers = headers
        with pytest.raises(RateLimited) as caught:
            connect().resolve(at(faulty.address))
        assert shown in caught.value.message
        assert ("pulls are left" in caught.value.message) is bool(shown)


def test_a_refusal_says_what_to_do(connect: Connect, faulty: FaultyRegistry) -> None:
    """403 without a registry's explanation may be a proxy's; both are named."""
    faulty.faults.statuses = [403] * 20
    with pytest.raises(Unauthorized) as caught:
        connect().fetch(MADE.manifest.config)
    assert "proxy" in str(caught.value.hint)
