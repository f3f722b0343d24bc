"""The table of statuses: one for every error that we can raise."""

import pytest

from qwenctl import errors
from qwenctl.api.failures import http_status

EXPECTED = {
    errors.InvalidReference: 400,
    errors.Conflict: 409,
    errors.ReferenceUnknown: 404,
    errors.DigestMismatch: 500,
    errors.MemoryShort: 507,
    errors.LoadFailed: 500,
    errors.GenerationFailed: 500,
    errors.InvalidRequest: 400,
    errors.PromptTooLong: 400,
    errors.WorkerDied: 503,
    errors.RateLimited: 429,
    errors.Unreachable: 502,
    errors.QwenctlError: 500,
}


@pytest.mark.parametrize(("kind", "status"), EXPECTED.items())
def test_statuses(kind: type[errors.QwenctlError], status: int) -> None:
    """A class without an entry of its own has that of its parent."""
    assert http_status(kind("x")) == status


def test_every_error_has_a_status() -> None:
    """Whatever is added to the tree is a client's or a server's error."""
    assert all(400 <= http_status(kind("x")) < 600 for kind in errors.error_classes())
