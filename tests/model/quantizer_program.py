"""What llama.cpp's quantizer itself would do, as a program of its own: it may abort the process.

    python -m tests.model.quantizer_program MATRIX FILE_TYPES MODEL…

MATRIX is 1 to pretend an importance matrix, else 0; FILE_TYPES are numbers with commas. Prints one line of
JSON for each model and file type: `{"model": …, "file_type": …, "types": {tensor: type}}`, or with null for
the types where the quantizer refuses. Nothing is quantized (`dry_run`).
"""

import ctypes
import json
import re
import sys

import llama_cpp

_LINE = re.compile(
    r"\[ *\d+/ *\d+\] (\S+) +- \[.*?\], type = +(\w+), size = .*?(?:\((\w+)\))?$", re.MULTILINE
)


def main(matrix: str, file_types: str, *models: str) -> None:
    """Print a line for each model and file type."""
    said: list[str] = []

    def hear(_level: int, piece: bytes, _context: object) -> None:
        said.append(piece.decode("utf-8", "replace"))

    callback = llama_cpp.llama_log_callback(hear)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    entries = (llama_cpp.llama_model_imatrix_data * 2)()
    value = ctypes.c_float(1.0)
    entries[0] = llama_cpp.llama_model_imatrix_data(b"none", ctypes.pointer(value), 1)
    for model in models:
        for file_type in map(int, file_types.split(",")):
            parameters = llama_cpp.llama_model_quantize_default_params()
            parameters.ftype, parameters.dry_run, parameters.nthread = file_type, True, 1
            if matrix == "1":
                parameters.imatrix = ctypes.cast(entries, ctypes.POINTER(llama_cpp.llama_model_imatrix_data))
            said.clear()
            status = llama_cpp.llama_model_quantize(model.encode(), b"", ctypes.byref(parameters))
            rows = _LINE.findall("".join(said))
            types = {name: (new or old).upper() for name, old, new in rows}
            row = {"model": model, "file_type": file_type, "types": None if status else types}
            sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
