"""The trained model as a GGUF file with the keys and tensor names of the real Qwen2.5 files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
from model import Guide
from rendering import TEMPLATE_PATH
from tokenizer import CONTROL_TOKENS
from train import load

DESCRIPTION = "Answers questions about qwenctl; made from scratch by qwenctl's authors."

# Source: llama.cpp's gguf-py, MODEL_TENSORS of MODEL_ARCH.QWEN2.
BLOCK_TENSORS = {
    "attention_norm.weight": "attn_norm.weight",
    "attention.q.weight": "attn_q.weight",
    "attention.q.bias": "attn_q.bias",
    "attention.k.weight": "attn_k.weight",
    "attention.k.bias": "attn_k.bias",
    "attention.v.weight": "attn_v.weight",
    "attention.v.bias": "attn_v.bias",
    "attention.o.weight": "attn_output.weight",
    "feed_forward_norm.weight": "ffn_norm.weight",
    "gate.weight": "ffn_gate.weight",
    "up.weight": "ffn_up.weight",
    "down.weight": "ffn_down.weight",
}


def export(checkpoint: Path, tokenizer: Path, target: Path) -> None:
    """Write the F16 GGUF: matrices in half precision, vectors in float32."""
    model = load(checkpoint)
    writer = gguf.GGUFWriter(target, "qwen2")
    _add_description(writer, model)
    _add_shape(writer, model)
    _add_tokenizer(writer, json.loads(tokenizer.read_text(encoding="utf-8")))
    _add_tensors(writer, model)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_description(writer: gguf.GGUFWriter, model: Guide) -> None:
    parameters = sum(p.numel() for p in model.parameters())
    writer.add_type("model")
    writer.add_name("guide")
    writer.add_basename("guide")
    writer.add_author("The qwenctl authors")
    writer.add_description(DESCRIPTION)
    writer.add_finetune("Instruct")
    writer.add_size_label(f"{parameters / 1e6:.1f}M")
    writer.add_license("apache-2.0")
    writer.add_languages(["en"])
    writer.add_tags(["qwenctl", "text-generation"])
    writer.add_sampling_temp(0.0)  # it knows one right answer to each question


def _add_shape(writer: gguf.GGUFWriter, model: Guide) -> None:
    config = model.config
    writer.add_block_count(config.block_count)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.embedding_length)
    writer.add_feed_forward_length(config.feed_forward_length)
    writer.add_head_count(config.head_count)
    writer.add_head_count_kv(config.head_count_kv)
    writer.add_rope_freq_base(config.rope_freq_base)
    writer.add_layer_norm_rms_eps(config.layer_norm_rms_epsilon)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_tokenizer(writer: gguf.GGUFWriter, stored: dict[str, dict[str, object]]) -> None:
    """Tokens in the order of their ids; Qwen2.5's special tokens as control, the rest as user-defined."""
    bpe = json.loads(json.dumps(stored["model"]))
    ids: dict[str, int] = dict(bpe["vocab"])
    kinds = dict.fromkeys(ids, gguf.TokenType.NORMAL)
    for added in json.loads(json.dumps(stored["added_tokens"])):
        ids[added["content"]] = added["id"]
        control = added["content"] in CONTROL_TOKENS
        kinds[added["content"]] = gguf.TokenType.CONTROL if control else gguf.TokenType.USER_DEFINED
    tokens = sorted(ids, key=ids.__getitem__)
    assert [ids[token] for token in tokens] == list(range(len(tokens))), "ids have no holes"
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds[token] for token in tokens])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE_PATH.read_text(encoding="utf-8"))


def _add_tensors(writer: gguf.GGUFWriter, model: Guide) -> None:
    names = {"embedding.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
    for block in range(model.config.block_count):
        for ours, theirs in BLOCK_TENSORS.items():
            names[f"blocks.{block}.{ours}"] = f"blk.{block}.{theirs}"
    weights = model.state_dict()
    assert set(names) == set(weights), "every weight has a GGUF name"
    for ours, theirs in names.items():
        values = weights[ours].numpy()
        writer.add_tensor(theirs, values.astype(np.float16 if values.ndim == 2 else np.float32))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.tokenizer, arguments.target)
