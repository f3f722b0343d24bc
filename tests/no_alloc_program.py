"""Opens model files as llama.cpp's own memory measurement does, as a program: it may abort the process.

    python -m tests.no_alloc_program MODEL…

Each is opened without allocating, vocabulary included, and a small context is made. Prints a line of JSON
for each: parameters, bytes of the tensors, tokens, layers, whether there is a chat template.
"""

import ctypes
import json
import sys

import llama_cpp

_ERROR = 4  # GGML_LOG_LEVEL_ERROR


def main(*paths: str) -> None:
    """Print a line for each file."""
    said: list[str] = []

    def hear(level: int, piece: bytes, _context: object) -> None:
        if level == _ERROR:
            said.append(piece.decode("utf-8", "replace"))

    callback = llama_cpp.llama_log_callback(hear)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    for path in paths:
        said.clear()
        sys.stdout.write(json.dumps({"path": path, **_opened(path), "errors": said}) + "\n")
        sys.stdout.flush()


def _opened(path: str) -> dict[str, int | bool]:
    parameters = llama_cpp.llama_model_default_params()
    parameters.no_alloc = True
    parameters.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
    if model is None:
        return {}
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = 512
    context = llama_cpp.llama_init_from_model(model, options)
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    return {
        "parameters": llama_cpp.llama_model_n_params(model),
        "bytes": llama_cpp.llama_model_size(model),
        "tokens": llama_cpp.llama_vocab_n_tokens(vocabulary),
        "layers": llama_cpp.llama_model_n_layer(model),
        "templated": llama_cpp.llama_model_chat_template(model, None) is not None,
        "context": context is not None,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
