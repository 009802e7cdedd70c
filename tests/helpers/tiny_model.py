"""A language model of two layers with random weights and a vocabulary of 263 words: as a GGUF file, as large as a photo.

It goes through everything that the real one does (unpacking, training, adapters, serving) in seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

HEADS, KV_HEADS, WIDTH, HEAD, LAYERS, INNER, CONTEXT = 4, 2, 32, 8, 2, 64, 256
MERGES = ["t h", "i n", "Ġ a", "o u"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
END_TOKEN = 2


def write_tiny_gguf(path: Path, random_seed: int = 0, architecture: str = "llama") -> Path:
    """The model as a GGUF file in F32; other seeds give other weights."""
    import gguf

    draw = np.random.default_rng(random_seed)
    tokens = [*SPECIAL, *_byte_letters(), *(merge.replace(" ", "") for merge in MERGES)]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_rope_dimension_count(HEAD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(END_TOKEN)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(END_TOKEN)
    writer.add_add_bos_token(False)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, shape in _list_tensors(len(tokens), biases=architecture == "qwen2").items():
        values = np.ones(shape) if name.endswith("norm.weight") else draw.normal(0, 0.4, shape)
        writer.add_tensor(name, values.astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _list_tensors(vocabulary: int, biases: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocabulary, WIDTH), "output_norm.weight": (WIDTH,)}
    parts = {
        "attn_norm": (WIDTH,), "attn_q": (HEADS * HEAD, WIDTH), "attn_k": (KV_HEADS * HEAD, WIDTH), "ffn_norm": (WIDTH,),
        "attn_v": (KV_HEADS * HEAD, WIDTH), "attn_output": (WIDTH, HEADS * HEAD), "ffn_gate": (INNER, WIDTH),
        "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER),
    }  # fmt: skip
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{part}.weight": shape for part, shape in parts.items()}
        if biases:
            shapes |= {f"blk.{layer}.{part}.bias": parts[part][:1] for part in ("attn_q", "attn_k", "attn_v")}
    return shapes


def _byte_letters() -> list[str]:
    """The 256 letters that stand for bytes in a byte-level vocabulary: printable ones for themselves, the others from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [number for number in range(256) if number not in printable]
    letters = {number: chr(number) for number in printable} | {n: chr(256 + i) for i, n in enumerate(others)}
    return [letters[number] for number in range(256)]
