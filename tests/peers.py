"""Programs of others that tests are held against."""

import os
import shutil

import pytest


def require_peer(program: str) -> str:
    """The path of a peer program; skips the test without it, or fails where peers are demanded."""
    found = shutil.which(program)
    if found:
        return found
    reason = f"`{program}` is not installed (Debian: apt-get install {program})"
    if os.environ.get("QWENCTL_TEST_REQUIRE_PEERS"):
        pytest.fail(reason)
    pytest.skip(reason)
