"""The quantized variants, made by llama.cpp's own quantizer from the F16 file."""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path

import llama_cpp

# llama.cpp keeps the pointer for the rest of the process: the callback must never be collected.
_SILENT = llama_cpp.llama_log_callback(lambda _level, _text, _user: None)

VARIANTS = {
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}


def quantize(source: Path, target: Path, variant: str) -> None:
    """Write `source` with its weights in the variant's precision.

    Raises:
        RuntimeError: llama.cpp refused; its own log on stderr says why.
    """
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = VARIANTS[variant]
    parameters.nthread = 1
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(parameters)
    )
    if status != 0:
        raise RuntimeError(f"llama_model_quantize of {source} to {variant} returned {status}")


def quantize_all(source: Path) -> list[Path]:
    """Write every variant beside `NAME-F16.gguf`; return their paths."""
    llama_cpp.llama_backend_init()
    llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
    paths = []
    for variant in VARIANTS:
        paths.append(source.with_name(source.name.replace("F16", variant)))
        quantize(source, paths[-1], variant)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    for path in quantize_all(parser.parse_args().source):
        print(path, path.stat().st_size)
