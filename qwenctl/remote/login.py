"""Whether a credential opens a registry: `GET /v2/` with the same dialogue as every other request.

Source: distribution-spec v1.1.1, end-1; distribution's token specification.
"""

from typing import Final

from qwenctl.errors import InvalidReference, RegistryFailure, RemoteError, Unauthorized, UsageError
from qwenctl.oci.reference import BUILT_IN, Reference
from qwenctl.remote.client import Client, failure, find_base
from qwenctl.remote.credential_helper import redacted
from qwenctl.remote.credentials import Credential
from qwenctl.remote.routes import networks_of
from qwenctl.remote.transport import Request, Transport, origin
from qwenctl.settings import Settings

_PROBE: Final = "me/model"  # any repository: it makes a host into a name that the grammar can judge


def parse_registry(text: str) -> str:
    """The registry that `text` names, `host[:port]` in lower case; of an address the host is taken.

    Raises: UsageError, without the text where it holds a secret.
    """
    scheme, separator, rest = text.strip().partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        raise UsageError(f"`{scheme}` is not a registry's scheme", hint="write HOST[:PORT]")
    host = (rest if separator else scheme).partition("/")[0]
    if "@" in host:
        raise UsageError(
            "a registry is named without a user", hint="write HOST[:PORT], and the user after --username"
        )
    try:
        reference = Reference.parse(f"{host}/{_PROBE}")
    except InvalidReference:
        reference = None
    if reference is None or reference.repository != _PROBE or reference.registry == BUILT_IN:
        raise UsageError(
            f"`{host[:200]}` is not a registry that one logs in to", hint="write HOST.DOMAIN or HOST:PORT"
        )
    return reference.registry


def prove(registry: str, credential: Credential, settings: Settings) -> bool:
    """Whether `registry` asked for the credential; it was accepted then. False: it lets anybody in.

    Raises: Unauthorized when it is refused; Unreachable, RateLimited, RegistryFailure.
    """
    transport = Transport(networks=networks_of(settings))
    try:
        base = find_base(transport, registry, settings.insecure_registries)
        client = Client(transport, base, credential)
        with client.send(Request("GET", "/v2/")) as response:
            if origin(response.url) != base:  # a page to log in with a browser, such as a company's portal
                raise RegistryFailure(f"`{base}` is not a registry: it redirects to `{origin(response.url)}`")
            if response.status == 200:
                return client.challenged
            if response.status == 404:
                raise RegistryFailure(f"`{base}` is not a registry: it has no `/v2/`")
            raise failure(response, "the login")
    except RemoteError as error:  # the words are the server's in part, and it has just seen the secret
        secret = credential.secret or credential.identity_token or credential.registry_token
        wants = "many registries want an access token of the account in place of its password"
        hint = wants if isinstance(error, Unauthorized) else error.hint
        raise type(error)(redacted(error.message, credential.user, secret), hint=hint) from None
    finally:
        transport.close()
