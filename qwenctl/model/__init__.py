"""What a model is, as pure values: its GGUF header, its quantization, its artifact, its card."""
