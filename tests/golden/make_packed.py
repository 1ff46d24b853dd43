"""Small AWQ and GPTQ checkpoints, and what transformers computes with the numbers that they stand for.

    python make_packed.py          # needs torch, transformers and safetensors (see requirements.txt)

packed/KIND/: Qwen2's decoder with random codes, one layer, as AutoAWQ and AutoGPTQ lay their files out; tokenizer of models/base.
packed/KIND/expected.safetensors: `input_ids` [n] i32, `logits` [n, vocab] f32 and `greedy_ids` [24] i32 of Qwen2ForCausalLM in f32
on the dequantized weights. The packing below is written from the formats' own definitions, number by number.

packed/qwen2_vl_KIND/: a Qwen2-VL as its quantized releases are: flat config, the decoder's linear layers packed in groups of 128, the rest f16, tower
included; GPTQ symmetric, with the biases of zeros that its exporters write. cases.json and image.* as in models/, by transformers on the
dequantized weights in f32.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import torch
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

HERE = Path(__file__).parent
HIDDEN, INNER, HEADS, KV, VOCAB = 128, 384, 2, 1, 408
IDS = [376, 83, 264, 12, 77, 391, 5, 5, 140, 33, 201, 64, 18, 377]
KINDS = {
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm", "modules_to_not_convert": None},
    "gptq4": {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False, "checkpoint_format": "gptq"},
    "gptq8": {"quant_method": "gptq", "bits": 8, "group_size": -1, "desc_act": False, "sym": True, "checkpoint_format": "gptq_v2"},
    "gptq_scattered": {"quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": True, "sym": False},
}


def pack(values: torch.Tensor, bits: int, order: list[int]) -> torch.Tensor:
    """[.., n] codes -> [.., n * bits / 32] words; `order[k]` is the code that stands at the k-th lowest place of a word."""
    per = 32 // bits
    words = torch.zeros(*values.shape[:-1], values.shape[-1] // per, dtype=torch.int64)
    for k in range(per):
        words |= values[..., order[k]::per].long() << (bits * k)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def layer(name: str, rows: int, cols: int, config: dict, gen: torch.Generator, gain: float = 1.0, middle: bool = False) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Tensors of a packed linear layer and the weight [rows, cols] that they stand for; `middle`: zero is the middle code throughout."""
    bits, top = config["bits"], 2 ** config["bits"] - 1
    group = cols if config["group_size"] == -1 else config["group_size"]
    groups = -(-cols // group)
    g_idx = torch.arange(cols) // group
    if config.get("desc_act"):
        g_idx = g_idx[torch.randperm(cols, generator=gen)]
    codes = torch.randint(0, top + 1, (cols, rows), generator=gen)
    spread = top / 4
    zeros = (top / 2 + torch.randn(groups, rows, generator=gen) * spread / 4).round().clamp(1, top)
    if middle:
        zeros = torch.full_like(zeros, (top + 1) / 2)
    scales = (gain * cols**-0.5 / spread * (0.6 + 0.8 * torch.rand(groups, rows, generator=gen))).half()
    weight = (codes.float() - zeros[g_idx]) * scales[g_idx].float()
    if config["quant_method"] == "awq":
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        tensors = {"qweight": pack(codes, 4, order), "qzeros": pack(zeros, 4, order), "scales": scales}
    else:
        order = list(range(32 // bits))
        stored = zeros if config.get("checkpoint_format") == "gptq_v2" else zeros - 1
        tensors = {"qweight": pack(codes.T, bits, order).T, "qzeros": pack(stored, bits, order), "scales": scales, "g_idx": g_idx.to(torch.int32)}
    return {f"{name}.{k}": v.contiguous() for k, v in tensors.items()}, weight.T.contiguous()


RELEASED = {
    "qwen2_vl_awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm", "modules_to_not_convert": ["visual"]},
    "qwen2_vl_gptq4": {"quant_method": "gptq", "bits": 4, "group_size": 128, "damp_percent": 0.1, "desc_act": False, "static_groups": False, "sym": True,
                       "true_sequential": True, "model_name_or_path": None, "model_file_base_name": "model"},
}
RELEASED["qwen2_vl_gptq8"] = RELEASED["qwen2_vl_gptq4"] | {"bits": 8}


def released() -> None:
    from safetensors.torch import load_file
    from goldenlib import models
    from goldenlib.common import write_json, write_tensors

    family = models.FAMILIES["qwen2_vl"]
    spec = dict(family="qwen2_vl", store=torch.float16, tie=True,
                text=models.decoder(hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                                    mrope_section=[8, 12, 12]),
                vision=models.vision2(embed_dim=32, depth=2))
    for number, (kind, quantization) in enumerate(RELEASED.items()):
        folder = HERE / "packed" / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(folder / "config.json", family.hub_config(spec) | {"quantization_config": quantization}, indent=2)
        for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json", "chat_template.json"):
            shutil.copy(HERE / "models/qwen2_vl_flat" / name, folder / name)
        processor = models.load_processor(folder)
        for seed in range(60 + 100 * number, 160 + 100 * number):
            torch.manual_seed(0)
            model = family.model_class._from_config(family.config(spec), dtype=torch.float32, attn_implementation="eager").eval()
            models.draw_weights(family, model, seed, torch.float16, 1.3)
            gen = torch.Generator().manual_seed(seed)
            stored = {family.hub_name(k): p.detach().half() for k, p in sorted(model.named_parameters()) if k != "lm_head.weight"}
            dense = {}
            for name in [k.removesuffix(".weight") for k in stored if "_proj.weight" in k and k.startswith("model.layers.")]:
                rows, cols = stored.pop(f"{name}.weight").shape
                gain = 2.5 if "down_proj" in name else 1.8 if "self_attn" in name else 1.0
                tensors, dense[f"{name}.weight"] = layer(name, rows, cols, quantization, gen, gain, quantization["quant_method"] == "gptq")
                stored |= tensors
                if quantization["quant_method"] == "gptq" and f"{name}.bias" not in stored:
                    stored[f"{name}.bias"] = torch.zeros(rows, dtype=torch.float16)
            with torch.no_grad():
                for k, p in model.named_parameters():
                    if family.hub_name(k) in dense:
                        p.copy_(dense[family.hub_name(k)])
            tensors, gap, distinct = models.run_case(family, model, processor, folder, "image")
            if gap >= models.GAP and distinct >= models.DISTINCT:
                break
        else:
            raise ValueError(f"{kind}: no seed gives clear winners")
        save_file({k: v.contiguous() for k, v in sorted(stored.items())}, folder / "model.safetensors", metadata={"format": "pt"})
        assert all(torch.equal(v, stored[k]) for k, v in load_file(folder / "model.safetensors").items())
        write_tensors(folder / "image.safetensors", tensors)
        write_json(folder / "image.messages.json", models.CASES["image"]["messages"])
        write_json(folder / "cases.json", {"seed": seed, "tokenizer_ids": family.used, "vocab_rows": VOCAB, "cases": {"image": {
            "messages": "image.messages.json", "tensors": "image.safetensors", "add_generation_prompt": True, "add_vision_id": False, "resize": False,
            "prompt_tokens": len(tensors["input_ids"]), "smallest_gap": round(gap, 5), "distinct_greedy_ids": distinct}}})
        for file in folder.iterdir():
            file.chmod(0o644)
        print(f"{kind}: seed {seed}, closest choice {gap:.4f}")


def main() -> None:
    released()
    for number, (kind, quantization) in enumerate(KINDS.items()):
        gen = torch.Generator().manual_seed(30 + number)
        folder = HERE / "packed" / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        config = {
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": INNER,
            "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": KV, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0, "tie_word_embeddings": True, "eos_token_id": 378, "hidden_act": "silu"}
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}, indent=1) + "\n")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(HERE / "models/base" / name, folder / name)
        stored: dict[str, torch.Tensor] = {}
        dense: dict[str, torch.Tensor] = {}
        at = "model.layers.0"
        for name, rows, cols in (("self_attn.q_proj", HIDDEN, HIDDEN), ("self_attn.k_proj", HIDDEN // 2, HIDDEN), ("self_attn.v_proj", HIDDEN // 2, HIDDEN),
                                 ("self_attn.o_proj", HIDDEN, HIDDEN), ("mlp.gate_proj", INNER, HIDDEN), ("mlp.up_proj", INNER, HIDDEN), ("mlp.down_proj", HIDDEN, INNER)):
            tensors, dense[f"{at}.{name}.weight"] = layer(f"{at}.{name}", rows, cols, quantization, gen)
            stored |= tensors
            if name[10:] in ("q_proj", "k_proj", "v_proj"):
                stored[f"{at}.{name}.bias"] = (0.2 * torch.randn(rows, generator=gen)).half()
        for name, around, size in ((f"{at}.input_layernorm", 1, 0.1), (f"{at}.post_attention_layernorm", 1, 0.1), ("model.norm", 1, 0.1)):
            stored[f"{name}.weight"] = (around + size * torch.randn(HIDDEN, generator=gen)).half()
        stored["model.embed_tokens.weight"] = (0.5 * torch.randn(VOCAB, HIDDEN, generator=gen)).half()
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        dense |= {k: v.float() for k, v in stored.items() if k.endswith((".weight", ".bias"))}

        model = Qwen2ForCausalLM(Qwen2Config(**{k: v for k, v in config.items() if k not in ("architectures", "model_type")}, attn_implementation="eager")).float().eval()
        missing, unexpected = model.load_state_dict(dense, strict=False)
        if set(missing) - {"lm_head.weight"} or unexpected:
            raise ValueError(f"{kind}: names differ: {missing} {unexpected}")
        model.tie_weights()
        greedy: list[int] = []
        margins = []
        with torch.no_grad():
            logits = model(torch.tensor([IDS])).logits[0]
            best = logits[-1]
            for _ in range(24):
                top = best.topk(2)
                margins.append((top.values[0] - top.values[1]).item())
                greedy.append(int(top.indices[0]))
                best = model(torch.tensor([IDS + greedy])).logits[0, -1]
        if min(margins) < 0.005:
            raise ValueError(f"{kind}: the closest choice has a margin of {min(margins)}: take another seed")
        integers = {"input_ids": IDS, "greedy_ids": greedy}
        save_file({"logits": logits.contiguous()} | {k: torch.tensor(v, dtype=torch.int32) for k, v in integers.items()}, folder / "expected.safetensors")
        print(f"{kind}: closest choice {min(margins):.3f}, logits up to {logits.abs().max():.1f}")


if __name__ == "__main__":
    main()
