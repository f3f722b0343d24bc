"""Put the finished GGUF files into the built-in registry, as models of the Docker format.

    python registry/guide/pack.py build/guide LATEST

Made with the product's own `create`, so that the layout is what any other store is. The time of creation is
that of the model's text, fixed, so that the same files give the same digests.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from qwenctl.flows.create import Parts, create
from qwenctl.oci.reference import BUILT_IN, Reference
from qwenctl.store.gc import collect
from qwenctl.store.store import Store

HERE = Path(__file__).parent
CREATED = datetime(2026, 11, 23, tzinfo=UTC)
VARIANTS = ("F16", "Q8_0", "Q4_K_M")


def pack(files: Path, latest: str) -> None:
    """Replace the guide models of the registry by the files in a folder; `latest` is one of the variants."""
    store = Store.open(HERE.parent)
    for variant in VARIANTS:
        reference = Reference(BUILT_IN, "guide", variant)
        parts = Parts(files / f"guide-{variant}.gguf", licenses=(HERE / "LICENSE",))
        manifest = create(parts, store, reference, CREATED)
        if variant == latest:
            store.tag(manifest.descriptor, reference.tagged("latest"))
        print(f"{reference.familiar()}  {manifest.descriptor.digest}  {manifest.content_size} bytes")
    swept = collect(store)
    print(f"freed {swept.size_bytes} bytes of older versions")


if __name__ == "__main__":
    pack(Path(sys.argv[1]), sys.argv[2])
