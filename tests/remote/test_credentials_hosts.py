"""A credential is for one host: what a registry says about other places does not carry it there."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.errors import ReferenceUnknown, RegistryFailure, RemoteError, Unauthorized
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import content_of
from qwenctl.remote.client import Client
from qwenctl.remote.credentials import Credential, CredentialFile, Credentials
from qwenctl.remote.repository import Repository, open_repository
from qwenctl.remote.transport import Request, Transport
from qwenctl.settings import Settings
from tests.remote.account_registry import AccountRegistry, account_registry, basic

ME = Credential("me", "pa:ss")
SCOPES = ("repository:me/model:pull,push",)
BLOB = Descriptor.of(b"content", "application/octet-stream")


@pytest.fixture
def transport() -> Iterator[Transport]:
    """Connections that end with the test."""
    opened = Transport(connect_seconds=5, read_seconds=5)
    yield opened
    opened.close()


@pytest.fixture
def elsewhere() -> Iterator[AccountRegistry]:
    """Another host, which would like to see everything: it asks for a password itself."""
    with account_registry(scheme="basic", users={}) as other:
        yield other


class TestRedirects:
    """To another origin without credentials, also when it asks for them."""

    @pytest.mark.parametrize("scheme", ["basic", "bearer"])
    def test_elsewhere_asks(self, transport: Transport, elsewhere: AccountRegistry, scheme: str) -> None:
        """Its 401 is the answer; the token of the registry stays at home as well."""
        with account_registry(scheme=scheme) as registry:
            client = Client(transport, f"http://{registry.address}", ME)
            client.send(Request("GET", "/v2/"), SCOPES).close()  # logged in by now
            registry.redirect = f"http://{elsewhere.address}"
            with client.send(Request("GET", "/v2/me/model/blobs/x"), SCOPES) as response:
                assert response.status == 401
        assert elsewhere.seen and elsewhere.shown == set()

    @pytest.mark.parametrize("scheme", ["basic", "bearer"])
    def test_elsewhere_names_a_token_server_of_its_own(self, transport: Transport, scheme: str) -> None:
        """A realm is believed from the registry alone."""
        with account_registry(scheme=scheme) as other, account_registry(scheme="") as registry:
            registry.redirect = f"http://{other.address}"
            client = Client(transport, f"http://{registry.address}", ME)
            with client.send(Request("GET", "/v2/"), SCOPES) as response:
                assert response.status == 401
            assert other.requested("/token") == [] and other.shown == set()

    def test_another_port_is_another_origin(self, transport: Transport, elsewhere: AccountRegistry) -> None:
        """The name of the host alone does not make it the same."""
        with account_registry(redirect=f"http://{elsewhere.address}") as registry:
            client = Client(transport, f"http://{registry.address}", ME)
            client.send(Request("GET", "/v2/")).close()
        assert elsewhere.shown == set()


class TestTokenServers:
    """The realm of a Bearer challenge may be another host: that is the protocol; with limits."""

    def test_on_another_host(self, transport: Transport) -> None:
        """It gets the password, the registry gets the token alone, and not the password."""
        with account_registry(scheme="bearer") as tokens, account_registry(scheme="bearer") as registry:
            registry.bearer_tokens = tokens.bearer_tokens
            registry.realm = f"http://localhost:{tokens.address.partition(':')[2]}/token"
            client = Client(transport, f"http://{registry.address}", ME)
            with client.send(Request("GET", "/v2/"), SCOPES) as response:
                assert response.status == 200
            assert tokens.shown == {basic("me", "pa:ss")}
            assert registry.shown == {"Bearer token-0-me"}

    def test_a_bare_address_that_is_not_the_registrys(self, transport: Transport) -> None:
        """Such as the metadata service of a cloud: it is not asked at all."""
        with account_registry(scheme="bearer", realm="http://127.0.0.2:9/token") as registry:
            client = Client(transport, f"http://{registry.address}", ME)
            with pytest.raises(RegistryFailure, match="bare address"):
                client.send(Request("GET", "/v2/"))
            assert registry.shown == set()

    def test_that_redirects(self, transport: Transport, elsewhere: AccountRegistry) -> None:
        """It is not followed."""
        with account_registry(scheme="bearer") as registry:
            registry.realm = f"http://{registry.address}/moved"
            registry.moved_to = f"http://{elsewhere.address}/token"
            client = Client(transport, f"http://{registry.address}", ME)
            with pytest.raises(RegistryFailure, match="gave no token: status 307"):
                client.send(Request("GET", "/v2/"))
        assert elsewhere.seen == []

    def test_an_identity_token(self, transport: Transport) -> None:
        """It goes to the token server in a form, and never to the registry."""
        with account_registry(scheme="bearer", identity_tokens={"my-identity"}) as registry:
            client = Client(transport, f"http://{registry.address}", Credential(identity_token="my-identity"))
            with client.send(Request("GET", "/v2/"), SCOPES) as response:
                assert response.status == 200
            (asked,) = registry.requested("/token")
            assert b"refresh_token=my-identity" in asked.body and asked.authorization == ""
            assert not any("my-identity" in seen.authorization for seen in registry.seen)

    def test_a_registry_token(self, transport: Transport) -> None:
        """It is shown as it is, without a token server."""
        with account_registry(scheme="bearer", bearer_tokens={"mine"}) as registry:
            client = Client(transport, f"http://{registry.address}", Credential(registry_token="mine"))
            with client.send(Request("GET", "/v2/"), SCOPES) as response:
                assert response.status == 200
            assert registry.requested("/token") == []
            assert registry.shown == {"Bearer mine"}


class TestUploads:
    """A `Location` on another host gets the content, and no credentials."""

    @pytest.mark.parametrize("scheme", ["basic", "bearer"])
    def test_elsewhere(self, transport: Transport, scheme: str) -> None:
        """With the first request logged in, the second goes there bare."""
        with account_registry(scheme="") as storage, account_registry(scheme=scheme) as registry:
            registry.upload_at = f"http://{storage.address}"
            repository = Repository(Client(transport, f"http://{registry.address}", ME), "me/model")
            repository.push(BLOB, content_of(b"content"))
            assert [seen.method for seen in storage.seen] == ["PUT"]
            assert [seen.authorization for seen in storage.seen] == [""]
            assert registry.shown

    def test_elsewhere_that_asks(self, transport: Transport, elsewhere: AccountRegistry) -> None:
        """The push fails; the password was not given."""
        with account_registry() as registry:
            registry.upload_at = f"http://{elsewhere.address}"
            repository = Repository(Client(transport, f"http://{registry.address}", ME), "me/model")
            with pytest.raises(Unauthorized):
                repository.push(BLOB, content_of(b"content"))
        assert {seen.authorization for seen in elsewhere.seen} == {""}


class TestRepositories:
    """`open_repository` takes from the files what is filed for that repository, and nothing else."""

    def settings(self, tmp_path: Path) -> Settings:
        """Settings that matter to nobody here."""
        return Settings(store=tmp_path, runtime=tmp_path, state=tmp_path)

    def credentials(self, **users: str) -> Credentials:
        """One entry for each registry or namespace."""
        auths = {key: {"username": user, "password": "secret"} for key, user in users.items()}
        return Credentials((CredentialFile(Path("config.json"), {"auths": auths}),))

    def resolve(self, name: str, credentials: Credentials, tmp_path: Path) -> None:
        """Ask for a model that is not there."""
        reference = Reference.parse(name)
        with (
            pytest.raises((RemoteError, ReferenceUnknown)),
            open_repository(reference, self.settings(tmp_path), credentials) as repository,
        ):
            repository.resolve(reference)

    def test_of_the_namespace(self, tmp_path: Path) -> None:
        """Two namespaces of one registry have each their own."""
        with account_registry(users={"team-user": "secret"}) as registry:
            known = self.credentials(**{f"{registry.address}/team": "team-user", registry.address: "other"})
            self.resolve(f"{registry.address}/team/model", known, tmp_path)
            assert basic("team-user", "secret") in registry.shown
            assert basic("other", "secret") not in registry.shown
            registry.seen.clear()
            self.resolve(f"{registry.address}/else/model", known, tmp_path)
            assert registry.shown == {basic("other", "secret")}

    def test_of_another_registry(self, tmp_path: Path) -> None:
        """Not the environment's either: `DOCKER_PASSWORD` is for nobody in particular."""
        os.environ.update(DOCKER_USERNAME="env", DOCKER_PASSWORD="env", DOCKER_HUB_USER="env")
        with account_registry() as registry:
            known = self.credentials(**{"docker.io": "hub", "127.0.0.1": "portless", "r.example": "else"})
            self.resolve(f"{registry.address}/me/model", known, tmp_path)
            assert registry.seen and registry.shown == set()


def test_errors_carry_no_secret(transport: Transport) -> None:
    """Neither text nor repr nor causes of what a refusal raises."""
    with account_registry(users={}) as registry:
        repository = Repository(
            Client(transport, f"http://{registry.address}", Credential("me", "hidden")), "me/model"
        )
        with pytest.raises(RemoteError) as caught:
            repository.resolve(Reference.parse(f"{registry.address}/me/model"))
    error: BaseException | None = caught.value
    while error is not None:
        assert "hidden" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__
