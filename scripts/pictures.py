"""The pictures of the documents: the real program in a real terminal, drawn into `docs/pictures`.

`python scripts/pictures.py` makes them anew. The models that are pulled and measured come from a registry on
loopback and have the shapes and sizes of the real ones, with nothing in them; the guide is itself.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.terminal_picture import Terminal  # noqa: E402 - the checkout is on the path only now

if TYPE_CHECKING:
    from tests.chat.screens import Screen

PICTURES: Final = ROOT / "docs/pictures"
BYTES_PER_SECOND: Final = 100 << 20
"""What the registry sends: a good line, so that there is something to be seen of a download."""

_BOX: Final = """\
name: gaming PC
ram: {total: 32GiB, available: 28GiB}
gpus: [{description: RTX 4060, total: 8GiB, free: 7.6GiB}]
"""
_PROMPT: Final = "\x1b[32m$\x1b[0m "
_REDRAWN: Final = re.escape("\r\x1b[2K\x1b[1A")
"""Where bars are drawn anew: before it stands a whole screen."""
_ENOUGH: Final = re.compile(r" [5-9]\d%[^%]*\Z")
"""The last percentage of a moment worth a picture."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture's name, its title, the terminal's width, and what is written to it."""

    name: str
    title: str
    columns: int
    play: Callable[[int], str]


def program(columns: int, line: str, type_keys: "Callable[[Screen], None] | None" = None) -> str:
    """What a command writes to a terminal of so many columns, behind a prompt."""
    from tests.chat.screens import screen_of

    command = [sys.executable, "-m", *line.split()]
    with screen_of(command, COLUMNS=str(columns)) as screen:
        screen.resize(40, columns)
        if type_keys is not None:
            type_keys(screen)
        screen.end()
        return f"{_PROMPT}{line}\r\n{screen.raw}"


def quietly(*arguments: str, **variables: str) -> None:
    """Run a command for what it does. Raises: CalledProcessError."""
    command = [sys.executable, "-m", "qwenctl", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **variables})


def _pull(columns: int) -> str:
    """Stopped in the middle; then the moment when the second pull has most of it."""
    line = "qwenctl pull qwen3:0.6B-Q4_K_M"

    def stop(screen: "Screen") -> None:
        while not re.search(r" [4-9]\d%$", screen.wait("%")):
            pass
        screen.keys("\x03")

    stopped, whole = program(columns, line, stop), program(columns, line)
    *_, moment = (
        found.start() for found in re.finditer(_REDRAWN, whole) if _ENOUGH.search(whole[: found.start()])
    )
    return stopped + whole[:moment]


def _fit(columns: int) -> str:
    Path("box.yaml").write_text(_BOX)
    return program(columns, "qwenctl fit qwen2.5:7B-Q4_K_M --host box.yaml")


def _list(columns: int) -> str:
    return program(columns, "qwenctl list")


def _run(columns: int) -> str:
    def talk(screen: "Screen") -> None:
        for line in ("How do I remove a model?", "What is a blob?", "/bye"):
            screen.prompt()
            screen.keys(f"{line}\r")

    return program(columns, "qwenctl run guide", talk)


SCENES: Final = (
    Scene("pull", "qwenctl pull: stopped with Ctrl-C, and gone on with", 80, _pull),
    Scene("fit", "qwenctl fit: what a model would take on another machine", 96, _fit),
    Scene("run", "qwenctl run: a chat with the guide model", 88, _run),
    Scene("list", "qwenctl list: the models in the store", 106, _list),
)


def play(scene: Scene) -> Terminal:
    """A terminal with what the scene shows, on the `stage`."""
    terminal = Terminal(scene.columns)
    terminal.write(scene.play(scene.columns))
    return terminal


@contextmanager
def served(path: Path) -> Iterator[str]:
    """The address of a registry over a layout, behind a line of its own."""
    from tests.crash.slow_proxy import slow_proxy

    options = ["--store", str(path), "--port", "0", "--json"]
    command = [sys.executable, "-m", "qwenctl", "registry", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as registry:
        assert registry.stdout is not None
        try:
            with slow_proxy(json.loads(registry.stdout.readline())["address"], BYTES_PER_SECOND) as line:
                yield line.address
        finally:
            registry.send_signal(signal.SIGINT)
            registry.stdout.read()


@contextmanager
def stage(home: Path) -> Iterator[None]:
    """A home with models, to work in, and a registry that stands for Docker Hub; no runner stays."""
    from qwenctl.oci.reference import Reference
    from qwenctl.store.store import Store
    from tests.docs.world import end_runner
    from tests.shape_models import write_shape_model
    from tests.sparse_models import put_sparse_model

    hub, own = Store.open(home / ".hub"), Store.open(home / ".local/share/qwenctl/store")
    for store, name, shape, quantization in (
        (hub, "qwen2.5:7B-Q4_K_M", "qwen2.5-7b", "Q4_K_M"),
        (own, "qwen2.5:7B-Q4_K_M", "qwen2.5-7b", "Q4_K_M"),
        (own, "qwen3:30B-A3B-Q4_K_M", "qwen3-30b-a3b", "Q4_K_M"),
        (own, "me/qwen3:4B-Q8_0", "qwen3-4b", "Q8_0"),
    ):
        put_sparse_model(store, Reference.parse(name), shape, quantization)
    before = Path.cwd()
    os.chdir(home)
    write_shape_model(home / "pulled.gguf", "qwen3-0.6b", "Q4_K_M", vocabulary="real-size")
    # Of what is really pulled the digest has to be true, so the program itself makes that model.
    package = ["package", "--gguf", "pulled.gguf", "qwen3:0.6B-Q4_K_M", "--quiet"]
    quietly(*package, QWENCTL_STORE=str(home / ".hub"))
    with served(home / ".hub") as address:
        os.environ["QWENCTL_MIRRORS"] = f"docker.io=http://{address}"
        try:
            quietly("pull", "guide", "--quiet")
            yield
        finally:
            end_runner()
            os.chdir(before)


def main() -> int:
    """Draw every picture, in a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        os.environ.clear()
        os.environ.update(
            kept, HOME=home, XDG_RUNTIME_DIR=home, TZ="UTC", TERM="xterm-256color", PYTHONPATH=str(ROOT)
        )
        PICTURES.mkdir(exist_ok=True)
        with stage(Path(home)):
            for scene in SCENES:
                (PICTURES / f"{scene.name}.svg").write_text(play(scene).svg(scene.title))
    return 0


if __name__ == "__main__":
    sys.exit(main())
