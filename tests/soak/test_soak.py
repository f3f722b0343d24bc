"""A long run in short; the long form is `python -m tests.soak.campaign`."""

import os
import time
from pathlib import Path

import pytest

from tests.soak.campaign import GROWTH_BYTES, Campaign, Server

SECONDS = float(os.environ.get("QWENCTL_TEST_SOAK_SECONDS", "20"))


@pytest.mark.slow
@pytest.mark.timeout(120 + 2 * SECONDS)
def test_no_client_pays_for_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside cancels, nonsense and changes of models each answer is what it is alone, and memory is flat."""
    server = Server(tmp_path, models=4)
    try:
        campaign = Campaign(server, seed=int(time.time()))
        figures = campaign.run(SECONDS)
    finally:
        status = server.end()
    with capsys.disabled():
        print(f"\nseed {campaign.seed}: {dict(figures.requests)}")  # noqa: T201 - the figures are what it is for
    assert figures.failures == []
    assert figures.growth_bytes <= GROWTH_BYTES
    assert status in (0, 130)
    assert all(figures.requests[kind] for kind in ("streamed", "whole", "given up", "refused"))
