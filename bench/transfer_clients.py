"""The clients of the transfer benchmark: each moves an artifact once and tells what that took."""

import json
import os
import shutil
import sys
import urllib.request
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path

from bench.measured import Run, measure
from bench.transfer_content import Artifact
from bench.transfer_servers import Server
from qwenctl.oci.descriptor import OCI_MANIFEST

PROGRAMS = ("docker-registry", "skopeo", "curl")
"""What must be installed; the packages of Debian have the same names."""

_SKOPEO = ("skopeo", "--insecure-policy", "copy")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the benchmark works: a directory of its own, on the disk that is measured."""

    directory: Path

    @property
    def program(self) -> str:
        """The real program, beside the Python that runs this."""
        return str(Path(sys.executable).with_name("qwenctl"))

    @property
    def target(self) -> Path:
        """Where the runs write. Each begins without it."""
        return self.directory / "target"

    @property
    def log(self) -> Path:
        """What the last program said."""
        return self.directory / "log"

    def environ(self, **more: str) -> dict[str, str]:
        """A small environment without the person's settings, credentials and proxies."""
        home = str(self.directory)
        path = os.environ.get("PATH", os.defpath)
        return {"PATH": path, "HOME": home, "XDG_RUNTIME_DIR": home, "TMPDIR": home, "LANG": "C.UTF-8"} | more

    def clear(self) -> None:
        """Remove what a run wrote."""
        if self.target.exists():
            shutil.rmtree(self.target)


def missing_programs(place: Place) -> list[str]:
    """The programs that are not here."""
    return [name for name in (*PROGRAMS, place.program) if shutil.which(name) is None]


def pull_with_qwenctl(place: Place, server: Server, artifact: Artifact) -> Run:
    """`qwenctl pull` into a new store."""
    environ = place.environ(QWENCTL_STORE=str(place.target))
    if server.certificate:
        environ["SSL_CERT_FILE"] = str(server.certificate.authority)
    name = f"{server.registry}/{artifact.repository}:v1"
    return measure([place.program, "pull", "--no-check", name], environ, place.log, server.pid)


def pull_with_skopeo(place: Place, server: Server, artifact: Artifact) -> Run:
    """`skopeo copy` into a new directory; it verifies, and syncs each file."""
    certificate = server.certificate
    trust = f"--src-cert-dir={certificate.authority.parent}" if certificate else "--src-tls-verify=false"
    names = (f"docker://{server.address}/{artifact.repository}:v1", f"dir:{place.target}")
    return measure([*_SKOPEO, trust, *names], place.environ(), place.log, server.pid)


def pull_with_curl(place: Place, server: Server, artifact: Artifact) -> Run:
    """curl, one blob after the other on one connection, without a look at what comes, and without a sync."""
    place.target.mkdir()
    lines = []
    for layer in artifact.manifest.layers:
        lines.append(f'url = "{server.url}/v2/{artifact.repository}/blobs/{layer.digest}"')
        lines.append(f'output = "{place.target / layer.digest.hex}"')
    wanted = place.directory / "curl.config"
    wanted.write_text("\n".join(lines))
    return measure([*_curl(server), "--config", str(wanted)], place.environ(), place.log, server.pid)


def push_with_qwenctl(place: Place, server: Server, artifact: Artifact) -> Run:
    """`qwenctl push` from the store."""
    environ = place.environ(QWENCTL_STORE=str(artifact.store.path))
    name = artifact.tag_at(server.registry)
    return measure([place.program, "push", name], environ, place.log, server.pid)


def push_with_skopeo(place: Place, server: Server, artifact: Artifact) -> Run:
    """`skopeo copy` from a directory of the same files."""
    source = place.directory / f"dir-{artifact.shape.name}"
    if not source.exists():
        artifact.link_directory(source)
    names = (f"dir:{source}", f"docker://{server.address}/{artifact.repository}:v1")
    return measure([*_SKOPEO, "--dest-tls-verify=false", *names], place.environ(), place.log, server.pid)


def fetch_with_curl(place: Place, server: Server, artifact: Artifact) -> Run:
    """curl, the first layer, thrown away."""
    layer = artifact.manifest.layers[0]
    url = f"{server.url}/v2/{artifact.repository}/blobs/{layer.digest}"
    return measure([*_curl(server), "--output", "/dev/null", url], place.environ(), place.log, server.pid)


def send_with_curl(place: Place, server: Server, artifact: Artifact) -> Run:
    """curl, the first layer, in one PUT."""
    layer = artifact.manifest.layers[0]
    begin = urllib.request.Request(f"{server.url}/v2/{artifact.repository}/blobs/uploads/", method="POST")
    with _open(begin) as answer:
        location = answer.headers["Location"]
    url = location if "://" in location else server.url + location
    url += f"{'&' if '?' in url else '?'}digest={layer.digest}"
    head = ["--header", "Content-Type: application/octet-stream", "--header", "Expect:"]
    command = [*_curl(server), *head, "--upload-file", str(artifact.store.blob_path(layer)), url]
    return measure(command, place.environ(), place.log, server.pid)


def floor(place: Place, kind: str, artifact: Artifact) -> Run:
    """The same bytes hashed (`hash`) or written (`write`), and nothing else."""
    place.target.mkdir()
    shape = artifact.shape
    numbers = [str(shape.blob_bytes), str(shape.count), str(place.target)]
    command = [sys.executable, "-m", "bench.transfer_floors", kind, *numbers]
    root = str(Path(__file__).parent.parent)
    run = measure(command, place.environ(PYTHONPATH=root), place.log)
    figures = json.loads(place.log.read_text())
    return Run(figures["wall_seconds"], figures["cpu_seconds"], beside=run.beside)


def check_pushed(server: Server, artifact: Artifact, *, blobs_only: bool = False) -> None:
    """The registry has the artifact under its tag with its digest, or its first layer at least.

    Raises: AssertionError, OSError.
    """
    descriptor = artifact.manifest.layers[0] if blobs_only else artifact.manifest.descriptor
    kind, name = ("blobs", str(descriptor.digest)) if blobs_only else ("manifests", "v1")
    url = f"{server.url}/v2/{artifact.repository}/{kind}/{name}"
    with _open(urllib.request.Request(url, headers={"Accept": OCI_MANIFEST}, method="HEAD")) as answer:
        assert answer.headers["Docker-Content-Digest"] == str(descriptor.digest), "another digest"
        assert int(answer.headers["Content-Length"]) == descriptor.size, "another size"


def push_unmeasured(place: Place, server: Server, artifact: Artifact) -> None:
    """Bring an artifact to a registry from which it will be pulled. Raises: RunFailed."""
    push_with_qwenctl(place, server, artifact)
    check_pushed(server, artifact)


def _curl(server: Server) -> list[str]:
    """HTTP/1.1 also over TLS: HTTP/2 would be slower."""
    trust = ["--cacert", str(server.certificate.authority)] if server.certificate else []
    return ["curl", "--silent", "--show-error", "--fail", "--http1.1", *trust]


def _open(request: urllib.request.Request) -> HTTPResponse:
    answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)
    assert isinstance(answer, HTTPResponse)
    return answer
