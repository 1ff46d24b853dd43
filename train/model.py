"""Qwen2.5-VL written for fast training on a CPU.

Same mathematics as transformers' `Qwen2_5_VLForConditionalGeneration`, same parameter names (see `state_for_hf`), but a
batch holds images of one size only: patches live on a dense raster grid [batch, rows, columns, channels], and the windows
of a tower block are four dense regions (full windows, right edge, bottom edge, corner) instead of a Python loop.

`python model.py` checks the logits against transformers' own class.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokens import VOCAB, build_tokenizer

PATCH, MERGE, WINDOW = 14, 2, 8  # pixels; patches per merged token side; patches per window side
CELL = PATCH * MERGE
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass
class Shape:
    # vision tower
    v_hidden: int = 160
    v_inner: int = 448
    v_heads: int = 5
    v_depth: int = 5
    v_full: tuple[int, ...] = (2, 4)
    # decoder
    hidden: int = 192
    inner: int = 512
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 48
    theta: float = 3000.0
    sections: tuple[int, int, int] = (1, 3, 20)
    vocab: int = VOCAB


def hf_config(s: Shape) -> dict:
    tok = build_tokenizer()
    token = tok.token_to_id
    ids = {"image_token_id": token("<|image_pad|>"), "video_token_id": token("<|video_pad|>"),
           "vision_start_token_id": token("<|vision_start|>"), "vision_end_token_id": token("<|vision_end|>")}
    ends = {"bos_token_id": token("<|endoftext|>"), "eos_token_id": token("<|im_end|>"), "pad_token_id": token("<|endoftext|>")}
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "dtype": "float16",
        "tie_word_embeddings": True, **ids, **ends,
        # What `detect`, `point` and `ocr` of the JavaScript API ask: forms of data.py's questions.
        "task_specific_params": {"detect": {"prompt": "Locate the {what}."}, "point": {"prompt": "Locate the {what}."},
                                 "ocr": {"prompt": "Read the text."}},
        "text_config": {
            "model_type": "qwen2_5_vl_text", "vocab_size": s.vocab, "hidden_size": s.hidden, "intermediate_size": s.inner,
            "num_hidden_layers": s.layers, "num_attention_heads": s.heads, "num_key_value_heads": s.kv_heads,
            "head_dim": s.head_dim, "hidden_act": "silu", "rms_norm_eps": 1e-6, "max_position_embeddings": 4096,
            "tie_word_embeddings": True, "use_cache": True, "use_sliding_window": False, "attention_dropout": 0.0,
            "layer_types": ["full_attention"] * s.layers, "dtype": "float16",
            "rope_parameters": {"rope_type": "default", "rope_theta": s.theta, "mrope_section": list(s.sections)}, **ends},
        "vision_config": {
            "model_type": "qwen2_5_vl_vision", "depth": s.v_depth, "hidden_size": s.v_hidden, "hidden_act": "silu",
            "intermediate_size": s.v_inner, "num_heads": s.v_heads, "in_channels": 3, "out_hidden_size": s.hidden,
            "patch_size": PATCH, "spatial_merge_size": MERGE, "temporal_patch_size": 2, "window_size": WINDOW * PATCH,
            "fullatt_block_indexes": list(s.v_full), "tokens_per_second": 2, "dtype": "float16"},
    }


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight).to(x.dtype)


class MLP(nn.Module):
    def __init__(self, width: int, inner: int, bias: bool):
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias)
        self.up_proj = nn.Linear(width, inner, bias)
        self.down_proj = nn.Linear(inner, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Spelled out: for short windows two batched bf16 products beat the fused kernel on the CPU."""
    score = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float()
    return score.softmax(-1).to(v.dtype) @ v


# ---- vision tower ---------------------------------------------------------------------------------------------------


class VisionAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, whole: bool) -> Tensor:
        """x [n, rows, columns, c]; cos, sin [rows, columns, head_dim / 2]."""
        n, rows, cols, c = x.shape
        d = c // self.heads
        qkv = self.qkv(x).view(n, rows, cols, 3 * self.heads, d)
        qk, v = qkv.split([2 * self.heads, self.heads], 3)
        qk = rotate(qk, cos[:, :, None], sin[:, :, None])
        if whole:
            q, k = qk.reshape(n, rows * cols, 2, self.heads, d).permute(2, 0, 3, 1, 4)
            out = attend(q, k, v.reshape(n, rows * cols, self.heads, d).transpose(1, 2))
            return self.proj(out.transpose(1, 2).reshape(n, rows, cols, c))

        def region(r0: int, r1: int, c0: int, c1: int) -> Tensor:
            h, w = min(WINDOW, r1 - r0), min(WINDOW, c1 - c0)
            nh, nw = (r1 - r0) // h, (c1 - c0) // w

            def windows(t: Tensor) -> Tensor:
                t = t[:, r0:r1, c0:c1].reshape(n, nh, h, nw, w, -1, d)
                return t.permute(0, 1, 3, 5, 2, 4, 6).reshape(n * nh * nw, -1, h * w, d)

            q, k = windows(qk).chunk(2, 1)
            out = attend(q, k, windows(v)).view(n, nh, nw, self.heads, h, w, d)
            return out.permute(0, 1, 4, 2, 5, 3, 6).reshape(n, r1 - r0, c1 - c0, c)

        rf, cf = rows - rows % WINDOW, cols - cols % WINDOW
        bands = []
        for r0, r1 in ((0, rf), (rf, rows)):
            if r0 < r1:
                bands.append(torch.cat([region(r0, r1, c0, c1) for c0, c1 in ((0, cf), (cf, cols)) if c0 < c1], 2))
        return self.proj(torch.cat(bands, 1))


class VisionBlock(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(s.v_hidden), RMSNorm(s.v_hidden)
        self.attn = VisionAttention(s.v_hidden, s.v_heads)
        self.mlp = MLP(s.v_hidden, s.v_inner, bias=True)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, whole: bool) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin, whole)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Conv3d(3, width, (2, PATCH, PATCH), (2, PATCH, PATCH), bias=False)


class Merger(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        wide = s.v_hidden * MERGE * MERGE
        self.ln_q = RMSNorm(s.v_hidden)
        self.mlp = nn.Sequential(nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, s.hidden))


class Vision(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.full, self.head_dim = set(s.v_full), s.v_hidden // s.v_heads
        self.patch_embed = PatchEmbed(s.v_hidden)
        self.blocks = nn.ModuleList(VisionBlock(s) for _ in range(s.v_depth))
        self.merger = Merger(s)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1) * 255, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels u8 [n, h, w, 3] -> merged tokens [n, h/28 * w/28, hidden], raster order."""
        n, h, w, _ = pixels.shape
        rows, cols = h // PATCH, w // PATCH
        x = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
        weight = self.patch_embed.proj.weight.sum(2)  # both frames of a still are the same
        x = x.view(n, 3, rows, PATCH, cols, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(n, rows, cols, -1)
        x = F.linear(x, weight.reshape(weight.shape[0], -1))
        quarter = self.head_dim // 4
        freq = 10000.0 ** (-torch.arange(quarter, dtype=torch.float32) / quarter)
        angle = torch.cat([(torch.arange(rows)[:, None, None] * freq).expand(rows, cols, quarter),
                           (torch.arange(cols)[None, :, None] * freq).expand(rows, cols, quarter)], -1)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, i in self.full)
        x = self.merger.ln_q(x)
        x = x.view(n, rows // 2, 2, cols // 2, 2, -1).transpose(2, 3).reshape(n, rows * cols // 4, -1)
        return self.merger.mlp(x)


# ---- decoder --------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.heads, self.kv, self.dim = s.heads, s.kv_heads, s.head_dim
        self.q_proj = nn.Linear(s.hidden, s.heads * s.head_dim)
        self.k_proj = nn.Linear(s.hidden, s.kv_heads * s.head_dim)
        self.v_proj = nn.Linear(s.hidden, s.kv_heads * s.head_dim)
        self.o_proj = nn.Linear(s.heads * s.head_dim, s.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, cache: list | None = None, looks: list | None = None) -> Tensor:
        """looks collects where the first head looks [n, t, t], as logarithms."""
        n, t, _ = x.shape
        split = lambda y, h: y.view(n, t, h, self.dim).transpose(1, 2)  # noqa: E731
        q = rotate(split(self.q_proj(x), self.heads), cos, sin)
        k = rotate(split(self.k_proj(x), self.kv), cos, sin)
        v = split(self.v_proj(x), self.kv)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = [k, v]
        group = self.heads // self.kv
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        with torch.autocast("cpu", enabled=False):  # long rows: the fused kernel, in f32, never stores the scores
            if looks is not None:
                looks.append((q[:, 0].float() @ k[:, 0].float().transpose(-1, -2) * self.dim**-0.5 + mask[:, 0]).log_softmax(-1))
            out = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).reshape(n, t, -1).to(x.dtype))


class Layer(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(s.hidden), RMSNorm(s.hidden)
        self.self_attn = Attention(s)
        self.mlp = MLP(s.hidden, s.inner, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, cache: list | None = None, looks: list | None = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, cache, looks)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.embed_tokens = nn.Embedding(s.vocab, s.hidden)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = RMSNorm(s.hidden)
        half = s.head_dim // 2
        self.register_buffer("freq", s.theta ** (-torch.arange(half, dtype=torch.float32) / half), persistent=False)
        self.register_buffer("axis", torch.repeat_interleave(torch.arange(3), torch.tensor(s.sections)), persistent=False)

    def forward(self, x: Tensor, position: Tensor, mask: Tensor, caches: list | None = None, taps: list | None = None,
                looks: dict[int, list] | None = None) -> Tensor:
        """x [n, t, c]; position [n, t, 3] (T, H, W); mask [n, 1, t, t] added to the scores; taps collects each layer's output,
        looks[layer] where the first head of that layer looks."""
        angle = position.float()[..., self.axis] * self.freq
        cos, sin = angle.cos()[:, None].to(x.dtype), angle.sin()[:, None].to(x.dtype)
        for i, layer in enumerate(self.layers):
            x = layer(x, cos, sin, mask, caches[i] if caches is not None else None, looks.get(i) if looks else None)
            if taps is not None:
                taps.append(x)
        return self.norm(x)


class Reader(nn.Module):
    def __init__(self, shape: Shape = Shape()):
        super().__init__()
        self.shape = shape
        self.visual = Vision(shape)
        self.language_model = Decoder(shape)
        self.image_pad = build_tokenizer().token_to_id("<|image_pad|>")

    def embed(self, ids: Tensor, merged: Tensor) -> Tensor:
        """Token embeddings with every image_pad, in sequence order, replaced by the next merged token."""
        x = self.language_model.embed_tokens(ids).to(merged.dtype)
        hole = (ids == self.image_pad)[..., None].expand_as(x)
        return x.masked_scatter(hole, merged.reshape(-1, merged.shape[-1]))

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.language_model.embed_tokens.weight)

    def initialise(self, seed: int = 0) -> None:
        """1/sqrt(fan_in), residual outputs scaled down with depth; the library's 0.02 learns nothing at this size."""
        gen = torch.Generator().manual_seed(seed)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                std = p[0].numel() ** -0.5
                if "embed_tokens" in name:
                    std = 0.07
                if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")):
                    std *= (2 * (self.shape.v_depth if name.startswith("visual") else self.shape.layers)) ** -0.5
                p.data = torch.randn(p.shape, generator=gen) * std
            elif name.endswith("bias"):
                p.data.zero_()

    def state_for_hf(self) -> dict[str, Tensor]:
        return {"model." + k: v.detach() for k, v in self.state_dict().items()}


def causal(n: int) -> Tensor:
    return torch.full((n, n), -1e9).triu(1)


def positions(ids: list[int], pad: int, grids: list[tuple[int, int]]) -> tuple[list[tuple[int, int, int]], int]:
    """M-RoPE positions of one sequence holding images of the given merged grids; also the next free position."""
    out, cur, i, images = [], 0, 0, iter(grids)
    while i < len(ids):
        if ids[i] == pad:
            h, w = next(images)
            out += [(cur, cur + r, cur + c) for r in range(h) for c in range(w)]
            i, cur = i + h * w, cur + max(h, w)
        else:
            out.append((cur, cur, cur))
            i, cur = i + 1, cur + 1
    return out, cur


def check_against_transformers() -> None:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    torch.manual_seed(0)
    mine = Reader().eval()
    mine.initialise()
    for p in mine.parameters():  # make biases and norms count
        if p.dim() == 1:
            p.data += torch.randn_like(p) * 0.1
    theirs = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**hf_config(mine.shape))).float().eval()
    missing, unexpected = theirs.load_state_dict(mine.state_for_hf(), strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"names differ: missing {missing}, unexpected {unexpected}")
    theirs.tie_weights()
    for h, w in ((112, 224), (140, 308), (336, 252), (84, 56)):
        pixels = torch.randint(0, 256, (1, h, w, 3), dtype=torch.uint8)
        gh, gw = h // CELL, w // CELL
        ids = [1, 2, 3] + [mine.image_pad] * (gh * gw) + [4, 5, 6, 7, 8]
        pos, _ = positions(ids, mine.image_pad, [(gh, gw)])
        x = ((pixels.permute(0, 3, 1, 2).float() - mine.visual.mean) / mine.visual.std)[0]
        x = x.repeat(2, 1, 1, 1).view(2, 3, gh, 2, PATCH, gw, 2, PATCH).permute(2, 5, 3, 6, 1, 0, 4, 7).reshape(gh * gw * 4, -1)
        t = torch.tensor([ids])
        with torch.no_grad():
            a = mine.logits(mine.language_model(mine.embed(t, mine.visual(pixels)), torch.tensor([pos]), causal(len(ids))))
            b = theirs(input_ids=t, attention_mask=torch.ones_like(t), pixel_values=x, mm_token_type_ids=(t == mine.image_pad).long(),
                       image_grid_thw=torch.tensor([[1, h // PATCH, w // PATCH]])).logits
        worst = (a - b).abs().max().item()
        print(f"{w}x{h}: largest logit {b.abs().max():.2f}, largest difference {worst:.2e}")
        if not worst < 1e-4 * max(1.0, b.abs().max().item()):
            raise ValueError("the logits differ from transformers'")


if __name__ == "__main__":
    print(f"{sum(p.numel() for p in Reader().parameters()) / 1e6:.2f} M parameters, "
          f"{sum(p.numel() for p in Reader().visual.parameters()) / 1e6:.2f} M of them in the tower")
    check_against_transformers()
