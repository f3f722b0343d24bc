"""Whose certificates are believed, and what to do about one that is not."""

import ssl
from pathlib import Path
from typing import Final

from qwenctl.errors import AccessDenied, FileMissing, InvalidSettings

_OUT_OF_TIME: Final = frozenset({9, 10})  # OpenSSL x509_vfy.h: X509_V_ERR_CERT_NOT_YET_VALID, _HAS_EXPIRED
_OTHER_NAME: Final = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH


def trusted(ca_bundle: Path | None) -> ssl.SSLContext:
    """A context that trusts the system's certificates, and those in the file `ca_bundle`.

    The system's are OpenSSL's, which SSL_CERT_FILE and SSL_CERT_DIR move elsewhere; a system that has none
    gets those of the package certifi. Raises: FileMissing, AccessDenied, InvalidSettings.
    """
    context = ssl.create_default_context()
    if not _system_has_certificates():
        import certifi

        context.load_verify_locations(certifi.where())
    if ca_bundle is None:
        return context
    where = "see `ca_bundle`, QWENCTL_CA_BUNDLE and SSL_CERT_FILE"
    try:
        context.load_verify_locations(ca_bundle)
    except FileNotFoundError as error:
        raise FileMissing(f"the CA bundle `{ca_bundle}` does not exist", hint=where) from error
    except ssl.SSLError as error:
        message = f"the CA bundle `{ca_bundle}` holds no certificates in PEM"
        raise InvalidSettings(message, hint=where) from error
    except OSError as error:
        raise AccessDenied(f"the CA bundle `{ca_bundle}` cannot be read: {error.strerror}") from error
    return context


def tls_failure(error: ssl.SSLError) -> tuple[str, str]:
    """What OpenSSL found wrong, and the step that helps."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return str(error), "does it speak TLS? a registry without belongs into QWENCTL_INSECURE_REGISTRIES"
    if error.verify_code in _OUT_OF_TIME:
        hint = "check this machine's clock; else the server's operator has to renew the certificate"
    elif error.verify_code in _OTHER_NAME:
        hint = "use the name that the certificate was made for, or have one made for this name"
    else:
        hint = (
            "for an authority of your own set QWENCTL_CA_BUNDLE to its certificates; "
            "a registry that needs no certificate belongs into QWENCTL_INSECURE_REGISTRIES"
        )
    return error.verify_message, hint


def _system_has_certificates() -> bool:
    """Whether OpenSSL finds any: a file, or a directory with names by hash, the only ones it looks for."""
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile) or (paths.capath is not None and any(Path(paths.capath).glob("*.[0-9]")))
