"""Against other people's programs: Debian's docker-registry and skopeo."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.builders import model
from tests.cli.conftest import Command
from tests.peers import require_peer
from tests.remote.debian_registry import debian_registry

pytestmark = pytest.mark.peer


def skopeo(*arguments: str) -> str:
    """What skopeo prints."""
    program = require_peer("skopeo")
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def test_package_push_copy_pull(qwenctl: Command, tmp_path: Path) -> None:
    """Through a foreign registry and a foreign copier, the digests stay what they were."""
    gguf = tmp_path / "tiny.gguf"
    gguf.write_bytes(model(padding=2_000_000).weights)
    with debian_registry(tmp_path) as address:
        made = qwenctl("package", "--gguf", str(gguf), f"{address}/me/tiny:v1", "--push", "--json").data
        skopeo(
            "copy",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            f"docker://{address}/me/tiny:v1",
            f"docker://{address}/you/copy:v2",
        )
        before = qwenctl("inspect", f"{address}/me/tiny:v1", "--json").data
        qwenctl("rm", f"{address}/me/tiny:v1")
        assert qwenctl("list", "--json").data["models"] == []
        pulled = qwenctl("pull", f"{address}/you/copy:v2", "--json").data
        after = qwenctl("inspect", f"{address}/you/copy:v2", "--json").data
        assert pulled["id"] == made["id"] == after["id"]
        assert after["layers"] == before["layers"]
        unknown = qwenctl("pull", f"{address}/you/copy:v3")
        assert unknown.status == 3
        assert f"{address}/you/copy:v2" in unknown.err


def test_skopeo_reads_the_store(qwenctl: Command, store_path: Path) -> None:
    """The store is a plain OCI layout, addressed by the full name."""
    qwenctl("pull", "guide:Q8_0")
    shown = json.loads(skopeo("inspect", "--raw", f"oci:{store_path}:qwenctl.internal/guide:Q8_0"))
    inspected = qwenctl("inspect", "guide:Q8_0", "--json").data
    assert [layer["digest"] for layer in shown["layers"]] == [row["digest"] for row in inspected["layers"]]
