"""What is installed: the wheel carries the built-in registry, and works outside the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=110,
    )
    return next(directory.glob("*.whl"))


def test_the_wheel_carries_the_built_in_registry(wheel: Path) -> None:
    """Layout, blobs and cards travel as data of the package; nothing claims the name `registry`."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "qwenctl/_catalog/index.json" in names
    assert "qwenctl/_catalog/oci-layout" in names
    assert "qwenctl/_catalog/catalog/qwen2.5.yaml" in names
    assert sum(name.startswith("qwenctl/_catalog/blobs/sha256/") for name in names) >= 9
    tops = {"qwenctl", "qwenctl-0.1.0.dist-info", "qwenctl-0.1.0.data"}
    assert {name.split("/")[0] for name in names} == tops


def test_the_wheel_installs_completions_and_the_man_page(wheel: Path) -> None:
    """Each lands where its reader looks, under `share/`; the schemas lie in the package."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    share = "qwenctl-0.1.0.data/data/share"
    assert {name for name in names if name.startswith("qwenctl-0.1.0.data/")} == {
        f"{share}/bash-completion/completions/qwenctl",
        f"{share}/zsh/site-functions/_qwenctl",
        f"{share}/fish/vendor_completions.d/qwenctl.fish",
        f"{share}/man/man1/qwenctl.1",
    }
    assert {"qwenctl/cli/completion.json", "qwenctl/cli/schemas/list.json"} <= names


def test_the_package_in_the_wheel_finds_its_registry(wheel: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere, the built-in model is pulled from inside the package."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    shown = subprocess.run(
        [sys.executable, "-P", "-m", "qwenctl", "pull", "guide"],
        env={"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.startswith("pulled guide (")
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import qwenctl; print(qwenctl.__file__)"],
        env={"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(tmp_path / "site"))
