"""Makes what is generated from the commands: completions, the man page, the JSON Schemas of `--json`.

`python scripts/generate.py` writes the files into the checkout; with `--check` it writes nothing and fails,
naming them, when one of them is not what would be written.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def generated() -> dict[Path, str]:
    """Every generated file with its text."""
    from qwenctl.cli import completion, completion_spec, man_page, schema_source, tree
    from qwenctl.flows.catalog import Catalog

    root = tree.read()
    files = {ROOT / place: completion.SCRIPTS[shell] for shell, place in completion.PLACES.items()}
    files[ROOT / "qwenctl/cli/completion.json"] = completion_spec.render(root, Catalog.open().names())
    files[ROOT / "docs/qwenctl.1"] = man_page.render(root)
    for name, text in schema_source.render_all().items():
        files[ROOT / "qwenctl/cli/schemas" / name] = text
    return files


def main() -> int:
    """Write, or with `--check` compare; the exit status."""
    files = generated()
    strays = set((ROOT / "qwenctl/cli/schemas").glob("*.json")) - set(files)
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in sorted([*stale, *strays]):
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    if "--check" in sys.argv[1:]:
        return 1 if stale or strays else 0
    for path in strays:
        path.unlink()
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
