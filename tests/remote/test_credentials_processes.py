"""The file of credentials between processes, and Docker itself."""

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qwenctl.remote.credentials import Credential
from qwenctl.remote.docker_config import DockerConfig
from tests.remote.credential_builders import found, read, write
from tests.remote.helper_programs import working_helper

ROOT = Path(__file__).parent.parent.parent
ME = Credential("me", "pa:ss")
AUTH = {"auth": base64.b64encode(b"me:pa:ss").decode()}
HUB = "https://index.docker.io/v1/"


class TestProcesses:
    """Several at once, and one that is killed."""

    PROGRAM = (
        "import sys; from pathlib import Path;"
        "from qwenctl.remote.credentials import Credential;"
        "from qwenctl.remote.docker_config import DockerConfig\n"
        "config = DockerConfig(Path(sys.argv[1])); print('ready', flush=True); sys.stdin.readline()\n"
        "for number in range(int(sys.argv[3])):"
        " config.save(f'{sys.argv[2]}{number}.example', Credential('me', 'secret' * 200))"
    )

    def start(self, config: DockerConfig, name: str, count: int) -> "subprocess.Popen[str]":
        """A process that logs in to `count` registries once it is told to."""
        command = [sys.executable, "-c", self.PROGRAM, str(config.path), name, str(count)]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def test_nobody_is_lost(self, config: DockerConfig) -> None:
        """Three processes with twenty logins each: sixty entries, and no litter."""
        children = [self.start(config, name, 20) for name in "abc"]
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        for child in children:
            _, errors = child.communicate(timeout=60)
            assert (child.returncode, errors) == (0, "")
        auths = read(config)["auths"]
        assert isinstance(auths, dict) and len(auths) == 60
        assert list(config.path.parent.iterdir()) == [config.path]

    def test_a_killed_one(self, config: DockerConfig) -> None:
        """The file is whole at every moment, and the next login works."""
        for number in range(5):
            with self.start(config, f"k{number}-", 10_000) as child:
                assert child.stdout is not None and child.stdin is not None
                child.stdout.readline()
                child.stdin.write("\n")
                child.stdin.flush()
                while not (config.path.exists() and f"k{number}-1." in config.path.read_text()):
                    assert not config.path.exists() or read(config)
                child.kill()
            read(config)
        config.save("r.example", ME)
        assert found(config, "r.example") == ME
        assert list(config.path.parent.iterdir()) == [config.path]


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("docker") is None, reason="Docker's command line is not installed")
def test_docker_agrees(config: DockerConfig, tmp_path: Path) -> None:
    """Docker's own command line takes out what we entered, from file and helper, and we see it gone."""
    helper = working_helper(tmp_path / "bin")
    environ = {**os.environ, "DOCKER_CONFIG": str(config.path.parent)}
    for document in ({}, {"credsStore": "test"}):
        write(config, document)
        for registry, server in (("r.example:5000", "r.example:5000"), ("docker.io", "")):
            config.save(registry, ME)
            assert found(config, registry) == ME
            subprocess.run(["docker", "logout", *filter(None, [server])], env=environ, check=True, timeout=60)
            assert found(config, registry) is None
        assert helper.kept == {}
