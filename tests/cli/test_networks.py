"""Commands on networks as they are: proxies, certificates, insecure registries, mirrors."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store
from tests.builders import model
from tests.cli.conftest import Command
from tests.registry.counted import Counted, counted_registry
from tests.remote.account_registry import account_registry
from tests.remote.forward_proxy import forward_proxy
from tests.remote.tls import Authority, make_authority
from tests.remote.tls_front import tls_front

NAME = "me/model:v1"
MADE = model()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Counted]:
    """A registry with a model."""
    store = Store.open(tmp_path / "there")
    MADE.put(store, Reference.parse(NAME))
    with counted_registry(store) as wire:
        yield wire


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority that only this test knows."""
    return make_authority(tmp_path, "0.0.0.0", "registry.test")


def by_any_name(wire: Counted) -> str:
    """The registry's address, as one that is not known to be loopback."""
    return wire.address.replace("127.0.0.1", "0.0.0.0")


class TestProxies:
    """From the environment."""

    def test_a_pull_over_tls_through_a_proxy(
        self, qwenctl: Command, there: Counted, authority: Authority
    ) -> None:
        """The name is known to the proxy alone, the authority to the settings."""
        with (
            tls_front(authority.server, there.address) as port,
            forward_proxy({"registry.test:443": port}) as proxy,
        ):
            os.environ.update(
                HTTPS_PROXY=proxy.logged_in_as("me:secret"), QWENCTL_CA_BUNDLE=str(authority.bundle)
            )
            proxy.login = "me:secret"
            shown = qwenctl("pull", f"registry.test/{NAME}", "--json")
            assert shown.data["id"] == str(MADE.manifest.descriptor.digest)
            proxy.login = "me:other"
            shown = qwenctl("pull", f"registry.test/{NAME}")
        assert shown.status == 4
        assert "hint: " in shown.err and "secret" not in shown.err

    def test_a_local_registry_needs_no_exemption(self, qwenctl: Command, there: Counted) -> None:
        """Loopback is reached directly with a proxy that is not even there."""
        os.environ["HTTP_PROXY"] = os.environ["HTTPS_PROXY"] = "http://127.0.0.1:1"
        assert qwenctl("pull", f"{there.address}/{NAME}").status == 0

    def test_a_proxy_that_is_none(self, qwenctl: Command) -> None:
        """Exit status 2, and the variable's form."""
        os.environ["HTTPS_PROXY"] = "ftp://me:secret@proxy"
        shown = qwenctl("pull", f"registry.test/{NAME}")
        assert shown.status == 2
        assert "HTTPS_PROXY=" in shown.err and "secret" not in shown.err


class TestCertificates:
    """An authority of one's own."""

    def test_unknown_known_and_missing(
        self, qwenctl: Command, there: Counted, authority: Authority, tmp_path: Path
    ) -> None:
        """4 without the bundle, 0 with it, 3 when it is not there, 2 when it is something else."""
        with tls_front(authority.server, there.address, "0.0.0.0") as port:
            name = f"0.0.0.0:{port}/{NAME}"
            shown = qwenctl("pull", name)
            assert shown.status == 4
            assert "QWENCTL_CA_BUNDLE" in shown.err
            file = tmp_path / "config.yaml"
            os.environ["QWENCTL_CONFIG"] = str(file)
            for bundle, status in ((tmp_path / "absent", 3), (file, 2), (authority.bundle, 0)):
                file.write_text(f"ca_bundle: {bundle}\n")
                shown = qwenctl("pull", name)
                assert shown.status == status, shown
                assert "Traceback" not in shown.err
            os.environ.pop("QWENCTL_CONFIG")
            os.environ["SSL_CERT_FILE"] = str(authority.bundle)
            assert qwenctl("pull", name).status == 0


class TestInsecureRegistries:
    """`--insecure-registry`, beside the setting."""

    @pytest.mark.parametrize("secure", [False, True])
    def test_the_flag(self, qwenctl: Command, there: Counted, authority: Authority, secure: bool) -> None:
        """Pull, fit and push need it for plain HTTP, and for a certificate that nobody vouches for."""
        with tls_front(authority.server, there.address, "0.0.0.0") as port:
            host = f"0.0.0.0:{port}" if secure else by_any_name(there)
            name, flag = f"{host}/{NAME}", ("--insecure-registry", host)
            assert qwenctl("pull", name).status == 4
            assert qwenctl("pull", name, "--insecure-registry", "other.example").status == 4
            assert qwenctl("fit", f"{name}", *flag).status == 0
            assert qwenctl("pull", name, "--insecure-registry", "other.example", *flag).status == 0
            assert qwenctl("push", name).status == 4
            assert qwenctl("push", name, *flag).status == 0

    def test_run_pulls_with_it(self, qwenctl: Command, there: Counted) -> None:
        """A model that is missing is looked for where the flag allows it."""
        host = by_any_name(there)
        assert qwenctl("run", f"{host}/me/absent", "hello").status == 4
        assert qwenctl("run", f"{host}/me/absent", "hello", "--insecure-registry", host).status == 3

    def test_login_with_it(self, qwenctl: Command, authority: Authority) -> None:
        """The password goes to a server without a good certificate only where the flag says so."""
        with account_registry() as registry, tls_front(authority.server, registry.address, "0.0.0.0") as port:
            host = f"0.0.0.0:{port}"
            login = ("login", host, "--username", "me", "--password-stdin")
            assert qwenctl(*login, piped="pa:ss").status == 4
            assert registry.shown == set()
            assert qwenctl(*login, "--insecure-registry", host, piped="pa:ss").status == 0
            assert registry.shown

    def test_what_is_no_host(self, qwenctl: Command) -> None:
        """Refused with the flag's name."""
        shown = qwenctl("pull", "a.example/b/c", "--insecure-registry", "http://a.example")
        assert shown.status == 2
        assert "error: --insecure-registry: `http://a.example` is not a registry" in shown.err


class TestMirrors:
    """From the settings."""

    def test_pulls_come_from_a_mirror_and_pushes_go_to_the_registry(
        self, qwenctl: Command, there: Counted, tmp_path: Path
    ) -> None:
        """From a registry that is empty at first, everything is the mirror's; nothing is pushed to it."""
        own = Store.open(tmp_path / "own")
        with counted_registry(own) as registry:
            os.environ["QWENCTL_MIRRORS"] = f"{registry.address}=http://{there.address}"
            name = f"{registry.address}/{NAME}"
            assert qwenctl("pull", name).status == 0
            assert registry.requests == []
            assert qwenctl("fit", name, "--json").status == 0
            there.requests.clear()
            assert qwenctl("push", name).status == 0
            assert there.requests == []
        assert own.resolve(Reference.parse(NAME)) == MADE.manifest.descriptor

    def test_a_mirror_that_is_gone_is_told_once(self, qwenctl: Command, there: Counted) -> None:
        """On stderr, by each command anew; the result is the same."""
        os.environ["QWENCTL_MIRRORS"] = f"{there.address}=http://127.0.0.1:1"
        for _ in range(2):
            shown = qwenctl("pull", f"{there.address}/{NAME}")
            assert shown.status == 0
            assert shown.err.count("the mirror `http://127.0.0.1:1` is left out: ") == 1
            qwenctl("rm", f"{there.address}/{NAME}")

    def test_mirrors_in_the_settings_file(self, qwenctl: Command, there: Counted, tmp_path: Path) -> None:
        """A mapping of lists, in their order."""
        file = tmp_path / "config.yaml"
        os.environ["QWENCTL_CONFIG"] = str(file)
        file.write_text(f"mirrors:\n  registry.test: [http://127.0.0.1:1, http://{there.address}]\n")
        shown = qwenctl("pull", f"registry.test/{NAME}", "--json")
        assert shown.data["reference"] == f"registry.test/{NAME}"
        file.write_text("mirrors: {registry.test: [nonsense]}\n")
        assert qwenctl("pull", f"registry.test/{NAME}").status == 2
