#!/usr/bin/env python3
"""Writes a random checkpoint with the true dimensions of Qwen2.5-VL-3B-Instruct, to try memory, speed and file handling.

    python make_full_shape.py OUT [--tokenizer path/to/tokenizer.json] [--shards 2] [--seed 1]

About 7.5 GB of bf16 in OUT, which must not be inside a repository. Tensors are drawn and written one after the other, so
memory stays below half a gigabyte. Only numpy is needed. The weights mean nothing, but they are scaled so that
activations stay finite and logits have a spread of a few units.

--tokenizer takes the real file (of Qwen2.5, or of Qwen3, whose vocabulary is the same; the tokens Qwen3 added are dropped).
Without it the small tokenizer of text/ is used and config.json carries its token ids.
"""

import argparse
import json
import pathlib
import shutil
import struct
import sys
import zlib

import numpy as np

TEXT = pathlib.Path(__file__).resolve().parent / "text"

HIDDEN, MLP, LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 2048, 11008, 36, 16, 2, 128, 151936
V_HIDDEN, V_MLP, V_DEPTH, V_MERGED = 1280, 3420, 32, 4 * 1280
PARAMETERS = 3_754_622_976
CHUNK = 1 << 24  # elements drawn at a time


def tensors():
    """(name, shape) under the original hub names, in the order of the files. lm_head is tied, so it is not stored."""
    yield "visual.patch_embed.proj.weight", (V_HIDDEN, 3, 2, 14, 14)
    for i in range(V_DEPTH):
        b = f"visual.blocks.{i}."
        yield b + "norm1.weight", (V_HIDDEN,)
        yield b + "norm2.weight", (V_HIDDEN,)
        yield b + "attn.qkv.weight", (3 * V_HIDDEN, V_HIDDEN)
        yield b + "attn.qkv.bias", (3 * V_HIDDEN,)
        yield b + "attn.proj.weight", (V_HIDDEN, V_HIDDEN)
        yield b + "attn.proj.bias", (V_HIDDEN,)
        for part in ("gate_proj", "up_proj"):
            yield b + f"mlp.{part}.weight", (V_MLP, V_HIDDEN)
            yield b + f"mlp.{part}.bias", (V_MLP,)
        yield b + "mlp.down_proj.weight", (V_HIDDEN, V_MLP)
        yield b + "mlp.down_proj.bias", (V_HIDDEN,)
    yield "visual.merger.ln_q.weight", (V_HIDDEN,)
    yield "visual.merger.mlp.0.weight", (V_MERGED, V_MERGED)
    yield "visual.merger.mlp.0.bias", (V_MERGED,)
    yield "visual.merger.mlp.2.weight", (HIDDEN, V_MERGED)
    yield "visual.merger.mlp.2.bias", (HIDDEN,)
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for i in range(LAYERS):
        b = f"model.layers.{i}."
        yield b + "input_layernorm.weight", (HIDDEN,)
        for part, rows in (("q", HEADS * HEAD_DIM), ("k", KV_HEADS * HEAD_DIM), ("v", KV_HEADS * HEAD_DIM)):
            yield b + f"self_attn.{part}_proj.weight", (rows, HIDDEN)
            yield b + f"self_attn.{part}_proj.bias", (rows,)
        yield b + "self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD_DIM)
        yield b + "post_attention_layernorm.weight", (HIDDEN,)
        yield b + "mlp.gate_proj.weight", (MLP, HIDDEN)
        yield b + "mlp.up_proj.weight", (MLP, HIDDEN)
        yield b + "mlp.down_proj.weight", (HIDDEN, MLP)
    yield "model.norm.weight", (HIDDEN,)


def mean_and_std(name, shape):
    if len(shape) == 1:
        return (0.0, 0.1) if name.endswith("bias") else (1.0, 0.1)
    if "embed_tokens" in name:
        return 0.0, 2.5 / HIDDEN ** 0.5   # tied: logits get a spread of about 2.5
    # Branch outputs at half strength: the residual stream grows to a few units over all layers.
    gain = 0.5 if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")) else 1.0
    return 0.0, gain / np.prod(shape[1:]) ** 0.5


def to_bf16(values):
    """Round to nearest even, as 16-bit integers."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def write_shard(path, part, seed):
    """A safetensors file: 8 bytes of header length, the header, then the data in header order."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in part:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in part:
            # A generator per tensor, seeded by its name: the content does not depend on order or sharding.
            rng = np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))
            mean, std = (np.float32(v) for v in mean_and_std(name, shape))
            left = int(np.prod(shape))
            while left:
                n = min(left, CHUNK)
                values = rng.standard_normal(n, dtype=np.float32)
                values *= std
                values += mean
                out.write(to_bf16(values).tobytes())
                left -= n
    return offset


def config(ids):
    """config.json of the hub checkpoint (flat layout)."""
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "attention_dropout": 0.0,
        "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"],
        "vision_token_id": ids["<|vision_pad|>"], "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"], "hidden_act": "silu", "hidden_size": HIDDEN, "initializer_range": 0.02,
        "intermediate_size": MLP, "max_position_embeddings": 128000, "max_window_layers": 70,
        "model_type": "qwen2_5_vl", "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.41.2", "use_cache": True,
        "use_sliding_window": False,
        "vision_config": {
            "depth": V_DEPTH, "hidden_act": "silu", "hidden_size": V_HIDDEN, "intermediate_size": V_MLP, "num_heads": 16,
            "in_chans": 3, "out_hidden_size": HIDDEN, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
            "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2, "temporal_patch_size": 2},
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "vocab_size": VOCAB,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    def save(name, value):
        (args.out / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

    tokenizer = json.loads((args.tokenizer or TEXT / "tokenizer.json").read_text(encoding="utf-8"))
    names = [t["content"] for t in json.loads((TEXT / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]]
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] in names]
    ids = {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    assert sorted(ids, key=ids.get) == names, "not a Qwen2.5 or Qwen3 tokenizer"
    (args.out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    tokenizer_config = json.loads((TEXT / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer_config["added_tokens_decoder"] = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in tokenizer["added_tokens"]}
    tokenizer_config["chat_template"] = (TEXT / "chat_template.jinja").read_text(encoding="utf-8")
    save("tokenizer_config.json", tokenizer_config)
    shutil.copy(TEXT / "chat_template.json", args.out / "chat_template.json")
    save("config.json", config(ids))
    save("generation_config.json", {
        "bos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"], "do_sample": True,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]], "repetition_penalty": 1.05, "temperature": 0.000001,
        "transformers_version": "4.49.0"})
    save("preprocessor_config.json", {
        "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"})

    everything = list(tensors())
    total = sum(int(np.prod(shape)) for _, shape in everything)
    assert total == PARAMETERS, total
    parts, seen = [[] for _ in range(args.shards)], 0
    for name, shape in everything:
        parts[min(seen * args.shards // total, args.shards - 1)].append((name, shape))
        seen += int(np.prod(shape))
    index = {}
    for i, part in enumerate(parts):
        file = "model.safetensors" if args.shards == 1 else f"model-{i + 1:05}-of-{args.shards:05}.safetensors"
        size = write_shard(args.out / file, part, args.seed)
        index.update({name: file for name, _ in part})
        print(f"{file}: {len(part)} tensors, {size} bytes", file=sys.stderr, flush=True)
    if args.shards > 1:
        save("model.safetensors.index.json", {"metadata": {"total_size": 2 * total}, "weight_map": dict(sorted(index.items()))})


if __name__ == "__main__":
    main()
