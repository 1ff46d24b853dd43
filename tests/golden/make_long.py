"""Contexts of tens of thousands of tokens and YaRN, as transformers computes them.

    python make_long.py            # needs torch, transformers and safetensors (see requirements.txt)

long/qwen2/: a small random Qwen2 decoder with the YaRN of the released models (factor 4, from a quarter of the context), and
`expected.safetensors`: `logits` [rows, vocab] f32 of Qwen2ForCausalLM in f32 at the positions `rows` [rows] i32 of a prompt of
32768 ids: id i is the top 4 bits of the 32-bit number i * 2654435761 + 12345, and 16 more from each quarter to the next, so
that what is seen of a quarter shows. long/vl/: config.json and `expected.safetensors`
of models/base with YaRN beside its mrope_section, for the prompt of its case two_images: `logits_last` [8, vocab] f32.
"""

from __future__ import annotations

import copy
import json

import numpy as np
import torch
from goldenlib import models  # also makes torch deterministic
from goldenlib.common import MODELS, ROOT, write_tensors
from safetensors.torch import load_file
from transformers import AutoConfig, AutoProcessor, Qwen2Config, Qwen2ForCausalLM, Qwen2_5_VLForConditionalGeneration

CONTEXT, VOCAB = 32768, 64
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": CONTEXT // 4}
# Beginnings and ends of segments and passes, and points in between.
ROWS = sorted({*range(0, CONTEXT, 2048), *(2**k - 1 for k in range(8, 16)), *(2**k for k in range(8, 15)), 777, 12345, CONTEXT - 2})
ALIVE = 0.02  # least change of the last logits, as a part of the largest, that a mistake has to make


def ids() -> torch.Tensor:
    i = np.arange(CONTEXT, dtype=np.uint64)
    return torch.from_numpy((((i * 2654435761 + 12345) % 2**32 >> 28) + 16 * (i // (CONTEXT // 4))).astype(np.int64))[None]


@torch.no_grad()
def logits(model, prompt, rows):
    hidden = model.model(input_ids=prompt, use_cache=False).last_hidden_state
    return model.lm_head(hidden[0, rows])


def config(rope) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=VOCAB, hidden_size=20, intermediate_size=48, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        max_position_embeddings=CONTEXT, tie_word_embeddings=False, use_sliding_window=False, rope_parameters=rope,
        architectures=["Qwen2ForCausalLM"], attn_implementation="sdpa")


def moved(a, b) -> float:
    return float((a - b).abs().max() / a.abs().max())


def long() -> None:
    out = ROOT / "long" / "qwen2"
    model = Qwen2ForCausalLM(config(YARN)).float().eval()
    # One layer of one head: a software adapter needs half a minute for each as it is.
    models.draw_weights(model, 77, torch.float32, loud=1.0)
    with torch.no_grad():
        # What thousands of keys have in common, beside the residual stream.
        attention = model.model.layers[0].self_attn
        attention.v_proj.weight *= 4
        attention.v_proj.bias *= 4
    prompt = ids()
    want = logits(model, prompt, ROWS)
    plain = Qwen2ForCausalLM(config({"rope_type": "default", "rope_theta": 1e6})).float().eval()
    plain.load_state_dict(model.state_dict())
    other = prompt.clone()
    other[:, 12288:16384] += 16
    changes = {
        "without yarn": moved(want[-1:], logits(plain, prompt, ROWS[-1:])),
        "other tokens from 12288 to 16384": moved(want[-1:], logits(model, other, ROWS[-1:])),
    }
    print("long/qwen2: last logits move by", json.dumps(changes))
    assert min(changes.values()) > ALIVE
    model.double()
    print("long/qwen2: f32 against f64", moved(want.double(), logits(model, prompt, ROWS)))
    model.float()
    model.save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    write_tensors(out / "expected.safetensors", {"rows": torch.tensor(ROWS, dtype=torch.int32), "logits": want})


@torch.no_grad()
def vl() -> None:
    out, base = ROOT / "long" / "vl", MODELS / "base"
    config = AutoConfig.from_pretrained(base)
    plain = copy.deepcopy(config)
    # A context of 128 made from one of 32: the prompt is longer than that.
    config.text_config.rope_parameters = {
        **config.text_config.rope_parameters, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(base, config=config, dtype=torch.float32, attn_implementation="eager").eval()
    case = models.CASES["two_images"]
    inputs = models.build_inputs(AutoProcessor.from_pretrained(base), base, case["messages"], case["add_vision_id"])
    assert torch.equal(inputs["input_ids"][0].int(), load_file(base / "two_images.safetensors")["input_ids"])
    _, want = models.forward(model, inputs)
    before = load_file(base / "two_images.safetensors")["logits_last"]
    print("long/vl:", inputs["input_ids"].shape[1], "tokens, logits move by", moved(before, want[-8:]))
    assert moved(before, want[-8:]) > ALIVE
    config.save_pretrained(out)
    write_tensors(out / "expected.safetensors", {"logits_last": want[-8:]})


vl()
long()
