#!/usr/bin/env python3
"""Writes a random checkpoint with the true dimensions of a model, to try memory, speed and file handling.

    python make_full_shape.py OUT [--model qwen2_5_vl_3b | qwen2_vl_2b | qwen3_vl_2b] [--tokenizer path/to/tokenizer.json]
                              [--shards 2] [--seed 1] [--expect]

4.3 to 7.5 GB of bf16 in OUT, which must not be inside a repository. Tensors are drawn and written one after the other, so
memory stays below half a gigabyte. Only numpy is needed. The weights mean nothing, but they are scaled so that
activations stay finite and logits have a spread of a few units.

--tokenizer takes the real file (of Qwen2.5, or of Qwen3, whose vocabulary is the same; tokens the model does not have are dropped).
Without it the small tokenizer of text/ is used and config.json carries its token ids.

--expect (also alone, on an OUT that is there): expected.safetensors and expected.messages.json, what transformers computes in f32 for
one picture, layer by layer (goldenlib/layerwise.py, which needs requirements.txt, 6 GB of memory and some minutes).
"""

import argparse
import json
import pathlib
import shutil
import struct
import sys
import zlib

import numpy as np

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
TEXT = HERE / "text"
CHUNK = 1 << 24  # elements drawn at a time
VOCAB, HEAD_DIM = 151936, 128

SHAPES = {  # of the decoder; of the tower
    "qwen2_5_vl_3b": dict(family="qwen2_5_vl", hidden=2048, mlp=11008, layers=36, heads=16, kv=2, v_hidden=1280, v_mlp=3420, v_depth=32,
                          parameters=3_754_622_976),
    "qwen2_vl_2b": dict(family="qwen2_vl", hidden=1536, mlp=8960, layers=28, heads=12, kv=2, v_hidden=1280, v_mlp=5120, v_depth=32,
                        parameters=2_208_985_600),
    "qwen3_vl_2b": dict(family="qwen3_vl", hidden=2048, mlp=6144, layers=28, heads=16, kv=8, v_hidden=1024, v_mlp=4096, v_depth=24,
                        deepstack=[5, 11, 17], v_positions=2304, parameters=2_127_532_032),
}


def linear(name, rows, columns, bias=True):
    yield name + ".weight", (rows, columns)
    if bias:
        yield name + ".bias", (rows,)


def norm(name, size, bias=False):
    yield name + ".weight", (size,)
    if bias:
        yield name + ".bias", (size,)


def tensors(shape):
    """(name, shape) under the hub's names, in the order of the files. lm_head is tied, so it is not stored."""
    family, wide, merged = shape["family"], shape["v_hidden"], 4 * shape["v_hidden"]
    hidden, mlp, layered = shape["hidden"], shape["mlp"], family != "qwen2_5_vl"
    visual, model = ("model.visual.", "model.language_model.") if family == "qwen3_vl" else ("visual.", "model.")
    patch = 16 if family == "qwen3_vl" else 14
    yield visual + "patch_embed.proj.weight", (wide, 3, 2, patch, patch)
    if family == "qwen3_vl":
        yield visual + "patch_embed.proj.bias", (wide,)
        yield visual + "pos_embed.weight", (shape["v_positions"], wide)
    for i in range(shape["v_depth"]):
        b = f"{visual}blocks.{i}."
        yield from norm(b + "norm1", wide, layered)
        yield from norm(b + "norm2", wide, layered)
        yield from linear(b + "attn.qkv", 3 * wide, wide)
        yield from linear(b + "attn.proj", wide, wide)
        if layered:
            one, two = ("linear_fc1", "linear_fc2") if family == "qwen3_vl" else ("fc1", "fc2")
            yield from linear(b + "mlp." + one, shape["v_mlp"], wide)
            yield from linear(b + "mlp." + two, wide, shape["v_mlp"])
        else:
            for part in ("gate_proj", "up_proj"):
                yield from linear(b + f"mlp.{part}", shape["v_mlp"], wide)
            yield from linear(b + "mlp.down_proj", wide, shape["v_mlp"])
    if family == "qwen3_vl":
        for name, size in [("merger", wide)] + [(f"deepstack_merger_list.{k}", merged) for k in range(len(shape["deepstack"]))]:
            yield from norm(f"{visual}{name}.norm", size, True)
            yield from linear(f"{visual}{name}.linear_fc1", merged, merged)
            yield from linear(f"{visual}{name}.linear_fc2", hidden, merged)
    else:
        yield from norm(visual + "merger.ln_q", wide, layered)
        yield from linear(visual + "merger.mlp.0", merged, merged)
        yield from linear(visual + "merger.mlp.2", hidden, merged)
    yield model + "embed_tokens.weight", (VOCAB, hidden)
    for i in range(shape["layers"]):
        b = f"{model}layers.{i}."
        yield from norm(b + "input_layernorm", hidden)
        for part, heads in (("q", shape["heads"]), ("k", shape["kv"]), ("v", shape["kv"])):
            yield from linear(b + f"self_attn.{part}_proj", heads * HEAD_DIM, hidden, family != "qwen3_vl")
        if family == "qwen3_vl":
            yield from norm(b + "self_attn.q_norm", HEAD_DIM)
            yield from norm(b + "self_attn.k_norm", HEAD_DIM)
        yield from linear(b + "self_attn.o_proj", hidden, shape["heads"] * HEAD_DIM, False)
        yield from norm(b + "post_attention_layernorm", hidden)
        yield from linear(b + "mlp.gate_proj", mlp, hidden, False)
        yield from linear(b + "mlp.up_proj", mlp, hidden, False)
        yield from linear(b + "mlp.down_proj", hidden, mlp, False)
    yield from norm(model + "norm", hidden)


def mean_and_std(name, shape):
    if len(shape) == 1:
        return (0.0, 0.1) if name.endswith("bias") else (1.0, 0.1)
    if "embed_tokens" in name:
        return 0.0, 2.5 / shape[1] ** 0.5   # tied: logits get a spread of about 2.5
    if "pos_embed" in name:
        return 0.0, 0.3
    # Branch outputs at half strength: the residual stream grows to a few units over all layers.
    gain = 0.5 if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight", "fc2.weight")) and "merger" not in name else 1.0
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


def config(shape, ids):
    """config.json of the hub checkpoint."""
    family = shape["family"]
    marks = {"vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"],
             "vision_token_id": ids["<|vision_pad|>"], "image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"]}
    ends = {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"]}
    text = {
        "attention_dropout": 0.0, "hidden_act": "silu", "hidden_size": shape["hidden"], "initializer_range": 0.02,
        "intermediate_size": shape["mlp"], "num_attention_heads": shape["heads"], "num_hidden_layers": shape["layers"],
        "num_key_value_heads": shape["kv"], "rms_norm_eps": 1e-06, "tie_word_embeddings": True, "use_cache": True, "vocab_size": VOCAB}
    if family == "qwen3_vl":
        marks.pop("vision_token_id")
        return {
            "architectures": ["Qwen3VLForConditionalGeneration"], **marks, "model_type": "qwen3_vl",
            "text_config": {
                **text, **ends, "attention_bias": False, "dtype": "bfloat16", "head_dim": HEAD_DIM, "max_position_embeddings": 262144,
                "model_type": "qwen3_vl_text", "rope_theta": 5000000,
                "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"}},
            "tie_word_embeddings": True, "transformers_version": "4.57.0.dev0",
            "vision_config": {
                "deepstack_visual_indexes": shape["deepstack"], "depth": shape["v_depth"], "hidden_act": "gelu_pytorch_tanh",
                "hidden_size": shape["v_hidden"], "in_channels": 3, "initializer_range": 0.02, "intermediate_size": shape["v_mlp"],
                "model_type": "qwen3_vl", "num_heads": 16, "num_position_embeddings": shape["v_positions"], "out_hidden_size": shape["hidden"],
                "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2}}
    vision = {"depth": shape["v_depth"], "num_heads": 16, "in_chans": 3, "patch_size": 14, "spatial_merge_size": 2,
              "spatial_patch_size": 14, "temporal_patch_size": 2}
    if family == "qwen2_vl":
        vision.update(embed_dim=shape["v_hidden"], mlp_ratio=4, hidden_size=shape["hidden"])
    else:
        vision.update(hidden_act="silu", hidden_size=shape["v_hidden"], intermediate_size=shape["v_mlp"], out_hidden_size=shape["hidden"],
                      window_size=112, fullatt_block_indexes=[7, 15, 23, 31], tokens_per_second=2)
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration" if family == "qwen2_5_vl" else "Qwen2VLForConditionalGeneration"], **text, **ends,
        **marks, "max_position_embeddings": 128000 if family == "qwen2_5_vl" else 32768,
        "max_window_layers": 70 if family == "qwen2_5_vl" else 28, "model_type": family, "rope_theta": 1000000.0, "sliding_window": 32768,
        "torch_dtype": "bfloat16", "transformers_version": "4.41.2", "use_sliding_window": False, "vision_config": vision,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}


GENERATION = {
    "qwen2_5_vl": {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.000001, "transformers_version": "4.49.0"},
    "qwen2_vl": {"do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.001, "transformers_version": "4.37.0"},
    "qwen3_vl": {"do_sample": True, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.0, "temperature": 0.7, "transformers_version": "4.56.0"},
}
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
PREPROCESSOR = {
    "qwen2_5_vl": {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2, **CLIP,
                   "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"},
    "qwen2_vl": {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2, **CLIP,
                 "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor"},
    "qwen3_vl": {"size": {"longest_edge": 16777216, "shortest_edge": 65536}, "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2,
                 "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "processor_class": "Qwen3VLProcessor",
                 "image_processor_type": "Qwen2VLImageProcessorFast"},
}


def expect(out):
    """expected.safetensors: ids, positions, embeddings, the last row of the prompt's logits and eight greedy ids, in f32."""
    from transformers import AutoTokenizer
    from goldenlib.common import write_json, write_tensors
    from goldenlib.images import load
    from goldenlib.layerwise import Layerwise
    whole = Layerwise(out)
    picture = HERE / "images" / ("page_352x224.png" if whole.family.token == 32 else "page_308x196.png")
    tokenizer = AutoTokenizer.from_pretrained(out)
    processor = whole.family.processor_class(whole.family.image_processor(), tokenizer, whole.family.video_processor())
    messages = [{"role": "user", "content": [{"type": "image", "image": picture.name}, {"type": "text", "text": "Read the text in the image."}]}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[prompt], images=[load(picture)], return_tensors="pt")
    result, gap = whole.run(inputs, len(tokenizer), 8)
    shutil.copy(picture, out / picture.name)
    write_json(out / "expected.messages.json", messages)
    write_tensors(out / "expected.safetensors", result)
    logits = result["logits_last"]
    print(f"{len(result['input_ids'])} tokens, greedy {result['greedy_ids'].tolist()}, closest choice {gap:.4f}, "
          f"logits {float(logits.mean()):.3f} +- {float(logits.std()):.3f}, embeddings +- {float(result['image_embeds'].std()):.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--model", choices=SHAPES, default="qwen2_5_vl_3b")
    parser.add_argument("--expect", action="store_true")
    parser.add_argument("--tokenizer", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not (args.expect and (args.out / "config.json").exists()):
        write(args)
    if args.expect:
        expect(args.out)


def write(args):
    args.out.mkdir(parents=True, exist_ok=True)
    shape = SHAPES[args.model]
    family = shape["family"]
    texts = TEXT / "qwen3" if family == "qwen3_vl" else TEXT

    def save(name, value):
        (args.out / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

    tokenizer = json.loads((args.tokenizer or texts / "tokenizer.json").read_text(encoding="utf-8"))
    names = [t["content"] for t in json.loads((texts / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]]
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] in names]
    ids = {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    assert sorted(ids, key=ids.get) == names, "not a Qwen2.5 or Qwen3 tokenizer"
    (args.out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    tokenizer_config = json.loads((texts / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer_config["added_tokens_decoder"] = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in tokenizer["added_tokens"]}
    tokenizer_config["chat_template"] = (texts / "chat_template.jinja").read_text(encoding="utf-8")
    save("tokenizer_config.json", tokenizer_config)
    save("chat_template.json", {"chat_template": tokenizer_config["chat_template"]})
    save("config.json", config(shape, ids))
    save("generation_config.json", {"bos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"],
                                    "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]], **GENERATION[family]})
    save("preprocessor_config.json", PREPROCESSOR[family])

    everything = list(tensors(shape))
    total = sum(int(np.prod(shape)) for _, shape in everything)
    assert total == shape["parameters"], total
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
