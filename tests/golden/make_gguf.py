"""A small GGUF file that holds every element type, and what transformers computes with the numbers it stands for.

    python make_gguf.py            # needs torch, transformers, safetensors and gguf (see requirements.txt)

gguf/every_type.gguf: Qwen2's decoder with random weights, two layers, an element type for each matrix; tokenizer and chat
template of models/base. gguf/every_type.safetensors: `input_ids` [n] i32 of the conversation in every_type.messages.json,
`logits` [n, vocab] and `greedy_ids` [32] of Qwen2ForCausalLM in f32 on the dequantized weights, and `row.NAME` [columns]: the
second row of each matrix as gguf's own dequantizer reads it.

gguf/NAME.gguf and gguf/NAME-mmproj.gguf, NAME in base, qwen2_vl, qwen3_vl: models/NAME with its vision tower, in f32; its goldens hold for
them too. gguf/qwen2_vl-legacy-mmproj.gguf: ffn_up and ffn_down under each other's name, as converters wrote them at first.
"""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

HERE = Path(__file__).parent
HIDDEN, INNER, HEADS, KV, LAYERS, VOCAB = 256, 512, 4, 2, 2, 408
MESSAGES = [{"role": "system", "content": "You are a small model."}, {"role": "user", "content": "What does a red button do?"}]
TEMPLATE = ("{% for message in messages %}<|im_start|>{{ message['role'] + '\n' + message['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
# llama.cpp's names, transformers' names, output and input features, element type
MATRICES = [("token_embd", "model.embed_tokens", VOCAB, HIDDEN, Type.Q6_K), ("output", "lm_head", VOCAB, HIDDEN, Type.Q8_0)]
TYPES = iter([Type.Q5_0, Type.BF16, Type.F16, Type.Q4_K, Type.Q4_0, Type.Q4_0, Type.Q5_K,
              Type.IQ4_XS, Type.IQ4_NL, Type.F32, Type.Q3_K, Type.Q4_1, Type.Q5_1, Type.Q2_K])
for _n in range(LAYERS):
    for _ours, _theirs, _rows, _cols in (("attn_q", "self_attn.q_proj", HIDDEN, HIDDEN), ("attn_k", "self_attn.k_proj", HIDDEN * KV // HEADS, HIDDEN),
                                         ("attn_v", "self_attn.v_proj", HIDDEN * KV // HEADS, HIDDEN), ("attn_output", "self_attn.o_proj", HIDDEN, HIDDEN),
                                         ("ffn_gate", "mlp.gate_proj", INNER, HIDDEN), ("ffn_up", "mlp.up_proj", INNER, HIDDEN),
                                         ("ffn_down", "mlp.down_proj", HIDDEN, INNER)):
        MATRICES.append((f"blk.{_n}.{_ours}", f"model.layers.{_n}.{_theirs}", _rows, _cols, next(TYPES)))
# Where a block's scales stand: byte offsets of d and dmin.
SCALES = {Type.Q2_K: (80, 82), Type.Q3_K: (108, None), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208, None), Type.IQ4_NL: (0, None), Type.IQ4_XS: (0, None)}


def random_blocks(rng: np.random.Generator, rows: int, cols: int, kind: Type, size: float) -> np.ndarray:
    """Any bits in a type that gguf can read and not write, scaled so that the numbers have mean 0 and deviation `size`."""
    block, length = gguf.GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (rows * cols // block, length), dtype=np.uint8)
    d, dmin = SCALES[kind]

    def put(at: int, value: float) -> None:
        raw[:, at:at + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)

    put(d, 1)
    if dmin is None:
        values = dequantize(raw, kind)
        put(d, size / values.std())
    else:
        put(dmin, 0)
        up = dequantize(raw, kind)
        put(d, 0)
        put(dmin, 1)
        down = -dequantize(raw, kind)
        ratio = up.mean() / down.mean()
        scale = size / (up - ratio * down).std()
        put(d, scale)
        put(dmin, scale * ratio)
    # No two blocks have the same scale.
    for at in (d, dmin):
        if at is not None:
            scales = np.ascontiguousarray(raw[:, at:at + 2]).view(np.float16)[:, 0] * rng.uniform(0.7, 1.3, len(raw))
            raw[:, at:at + 2] = scales.astype(np.float16).view(np.uint8).reshape(-1, 2)
    return raw.reshape(rows, -1)


ARCHITECTURES = {"qwen2_5_vl": gguf.MODEL_ARCH.QWEN2VL, "qwen2_vl": gguf.MODEL_ARCH.QWEN2VL, "qwen3_vl": gguf.MODEL_ARCH.QWEN3VL}
PROJECTORS = {"qwen2_5_vl": "qwen2.5vl_merger", "qwen2_vl": "qwen2vl_merger", "qwen3_vl": "qwen3vl_merger"}


def pair(model: str, legacy: bool = False) -> None:
    """A model of models/ as the two files that llama.cpp's converter makes of it: same numbers, so the same goldens."""
    folder, out = HERE / "models" / model, HERE / "gguf"
    config = json.loads((folder / "config.json").read_text())
    text, vision, kind = config["text_config"], config["vision_config"], config["model_type"]
    arch = ARCHITECTURES[kind]
    weights = load_file(folder / "model.safetensors")
    writer = gguf.GGUFWriter(out / f"{model}.gguf", gguf.MODEL_ARCH_NAMES[arch])
    for key, value in {"context_length": text["max_position_embeddings"], "embedding_length": text["hidden_size"],
                       "block_count": text["num_hidden_layers"], "feed_forward_length": text["intermediate_size"],
                       "head_count": text["num_attention_heads"], "head_count_kv": text["num_key_value_heads"],
                       "layer_norm_rms_eps": text["rms_norm_eps"], "rope_freq_base": text["rope_parameters"]["rope_theta"],
                       "rope_dimension_sections": [*text["rope_parameters"]["mrope_section"], 0]}.items():
        getattr(writer, f"add_{key}")(value)
    if kind == "qwen3_vl":
        writer.add_key_length(text["head_dim"])
        writer.add_value_length(text["head_dim"])
        writer.add_num_deepstack_layers(len(vision["deepstack_visual_indexes"]))
    add_tokenizer(writer, (folder / "chat_template.jinja").read_text(), folder)
    tower = gguf.GGUFWriter(out / f"{model}{'-legacy' * legacy}-mmproj.gguf", "clip")
    tower.add_clip_has_vision_encoder(True)
    tower.add_clip_projector_type(PROJECTORS[kind])
    width, inner, eps = vision["hidden_size"], vision.get("intermediate_size"), 1e-6
    projection = vision.get("out_hidden_size")
    if kind == "qwen2_5_vl":
        tower.add_vision_use_silu(True)
        tower.add_vision_image_size(560)
    elif kind == "qwen2_vl":  # no activation is named; and the converter gives the decoder's width for that of the MLP
        width, inner, projection = vision["embed_dim"], vision["hidden_size"], vision["hidden_size"]
        tower.add_vision_image_size(560)
    else:  # eps is that of the decoder's norms, the picture's nominal size that of the learned positions
        tower.add_vision_use_gelu(True)
        tower.add_vision_image_size(int(vision["num_position_embeddings"] ** 0.5 * vision["patch_size"]))
        tower.add_vision_is_deepstack_layers([i in vision["deepstack_visual_indexes"] for i in range(vision["depth"])])
        eps = text["rms_norm_eps"]
    for key, value in {"patch_size": vision["patch_size"], "embedding_length": width, "feed_forward_length": inner,
                       "block_count": vision["depth"], "head_count": vision["num_heads"], "projection_dim": projection,
                       "attention_layernorm_eps": eps}.items():
        getattr(tower, f"add_vision_{key}")(value)
    if kind != "qwen2_vl":
        tower.add_vision_spatial_merge_size(vision["spatial_merge_size"])
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    tower.add_vision_image_mean(processor["image_mean"])
    tower.add_vision_image_std(processor["image_std"])
    if kind == "qwen2_5_vl":
        tower.add_vision_n_wa_pattern(vision["fullatt_block_indexes"][0] + 1)
    text_names = gguf.get_tensor_name_map(arch, text["num_hidden_layers"])
    tower_names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, vision["depth"])

    def add(to: gguf.GGUFWriter, names: gguf.TensorNameMap, name: str, values: np.ndarray) -> None:
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ValueError(f"gguf has no name for {name}")
        to.add_tensor(found, np.ascontiguousarray(values.astype(np.float32)))

    for name, tensor in weights.items():
        values = tensor.float().numpy()
        ours = name.removeprefix("model.")
        if not name.startswith("model.visual."):
            add(writer, text_names, name.replace("model.language_model.", "model."), values)
        elif name.endswith("patch_embed.proj.weight"):
            tower.add_tensor("v.patch_embd.weight", np.ascontiguousarray(values[:, :, 0]))
            tower.add_tensor("v.patch_embd.weight.1", np.ascontiguousarray(values[:, :, 1]))
        elif ".qkv." in name and kind != "qwen3_vl":
            for part, third in zip("qkv", np.split(values, 3)):
                add(tower, tower_names, ours.replace("qkv", part), third)
        elif ".merger.mlp." in name:
            tower.add_tensor(name.replace("model.visual.merger.mlp", "mm"), values)
        elif ".deepstack_merger_list." in name:  # numbered by the block they follow
            _, which, part, suffix = ours.rsplit(".", 3)
            block = vision["deepstack_visual_indexes"][int(which)]
            tower.add_tensor(f"v.deepstack.{block}.{part.removeprefix('linear_')}.{suffix}", values)
        elif kind == "qwen3_vl" and ".merger." in name:
            place = {"norm": "v.post_ln", "linear_fc1": "mm.0", "linear_fc2": "mm.2"}
            _, part, suffix = ours.rsplit(".", 2)
            tower.add_tensor(f"{place[part]}.{suffix}", values)
        elif legacy and ".mlp.fc" in name:
            add(tower, tower_names, ours.replace("fc1", "fc2") if "fc1" in ours else ours.replace("fc2", "fc1"), values)
        else:
            add(tower, tower_names, ours, values)
    for done in (tower,) if legacy else (writer, tower):
        done.write_header_to_file()
        done.write_kv_data_to_file()
        done.write_tensors_to_file()
        done.close()


def add_tokenizer(writer: gguf.GGUFWriter, template: str, folder: Path = HERE / "models/base") -> Tokenizer:
    """The folder's tokenizer, as llama.cpp's converter writes a byte-level BPE."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    described = json.loads((folder / "tokenizer.json").read_text())
    added = {t["id"]: t for t in described["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([tokenizer.id_to_token(i) or f"[PAD{i}]" for i in range(VOCAB)])
    writer.add_token_types([(3 if added[i]["special"] else 4) if i in added else 1 if tokenizer.id_to_token(i) else 5 for i in range(VOCAB)])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in described["model"]["merges"]])
    writer.add_eos_token_id(tokenizer.token_to_id("<|im_end|>"))
    writer.add_chat_template(template)
    return tokenizer


def main() -> None:
    for model in ("base", "qwen2_vl", "qwen3_vl"):
        pair(model)
    pair("qwen2_vl", legacy=True)
    rng = np.random.default_rng(20)
    out = HERE / "gguf"
    out.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(out / "every_type.gguf", "qwen2")
    for key, value in {"context_length": 2048, "embedding_length": HIDDEN, "block_count": LAYERS, "feed_forward_length": INNER,
                       "head_count": HEADS, "head_count_kv": KV, "layer_norm_rms_eps": 1e-6, "rope_freq_base": 1e5}.items():
        getattr(writer, f"add_{key}")(value)
    tokenizer = add_tokenizer(writer, TEMPLATE)

    weights: dict[str, torch.Tensor] = {}
    rows_seen: dict[str, torch.Tensor] = {}

    def vector(name: str, theirs: str, length: int, around: float) -> None:
        values = (around + 0.1 * rng.standard_normal(length)).astype(np.float32)
        writer.add_tensor(name, values)
        weights[theirs] = torch.from_numpy(values)

    for name, theirs, rows, cols, kind in MATRICES:
        size = 0.5 if name == "token_embd" else cols**-0.5
        if kind in SCALES:
            raw = random_blocks(rng, rows, cols, kind, size)
        else:
            raw = quantize((size * rng.standard_normal((rows, cols))).astype(np.float32), kind)
        writer.add_tensor(f"{name}.weight", raw, raw_dtype=kind)
        values = dequantize(raw, kind).reshape(rows, cols).astype(np.float32)
        weights[f"{theirs}.weight"] = torch.from_numpy(values)
        rows_seen[f"row.{name}.weight"] = torch.from_numpy(values[1].copy())
    for n in range(LAYERS):
        for ours, theirs in (("attn_q", "q_proj"), ("attn_k", "k_proj"), ("attn_v", "v_proj")):
            vector(f"blk.{n}.{ours}.bias", f"model.layers.{n}.self_attn.{theirs}.bias", HIDDEN if ours == "attn_q" else HIDDEN * KV // HEADS, 0)
        vector(f"blk.{n}.attn_norm.weight", f"model.layers.{n}.input_layernorm.weight", HIDDEN, 1)
        vector(f"blk.{n}.ffn_norm.weight", f"model.layers.{n}.post_attention_layernorm.weight", HIDDEN, 1)
    vector("output_norm.weight", "model.norm.weight", HIDDEN, 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV, max_position_embeddings=2048, rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        tie_word_embeddings=False, attn_implementation="eager")).float().eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise ValueError(f"names differ: {missing} {unexpected}")
    text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in MESSAGES) + "<|im_start|>assistant\n"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    greedy: list[int] = []
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
        best = logits[-1]
        margins = []
        for _ in range(32):
            best = best.clone()
            best[tokenizer.get_vocab_size():] = -torch.inf
            top = best.topk(2)
            margins.append((top.values[0] - top.values[1]).item())
            greedy.append(int(top.indices[0]))
            best = model(torch.tensor([ids + greedy])).logits[0, -1]
    if min(margins) < 0.005:
        raise ValueError(f"the closest choice has a margin of {min(margins)}: take another seed")
    save_file({"input_ids": torch.tensor(ids, dtype=torch.int32), "logits": logits.contiguous(), "greedy_ids": torch.tensor(greedy, dtype=torch.int32)} | rows_seen,
              out / "every_type.safetensors", metadata={"made_with": f"transformers {transformers.__version__}, torch {torch.__version__}, gguf 0.x"})
    (out / "every_type.messages.json").write_text(json.dumps(MESSAGES, indent=1) + "\n")
    print(f"{len(ids)} tokens, closest choice {min(margins):.3f}, logits up to {logits.abs().max():.1f}")


if __name__ == "__main__":
    main()
