"""The engine: llama.cpp behind a closed stream of events, and the worker process that holds it.

`wire`, `events`, `engine`, `sampling` import msgspec only; `bindings` alone imports llama-cpp-python, and
only when a model is opened.
"""
