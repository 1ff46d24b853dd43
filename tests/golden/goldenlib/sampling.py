"""sampling.json: what transformers' logits processors make of a row of logits."""

import torch
from safetensors.torch import load_file
from transformers import (GenerationConfig, LogitsProcessorList, Qwen2_5_VLForConditionalGeneration, RepetitionPenaltyLogitsProcessor,
                          SequenceBiasLogitsProcessor)

from . import models
from .families import FAMILIES
from .common import MODELS, ROOT, write_json

SETS = [
    {},
    {"repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.05},
    {"repetition_penalty": 1.05, "temperature": 1e-6},                                   # the hub defaults of 3B and 7B
    {"repetition_penalty": 1.05, "temperature": 0.1, "top_k": 1, "top_p": 0.001},        # the first 7B upload
    {"repetition_penalty": 1.05, "temperature": 0.1, "top_p": 0.001},                    # the README's sample
    {"repetition_penalty": 1.3, "temperature": 1.2, "top_p": 0.9},
    {"repetition_penalty": 0.9, "temperature": 1.5},
    {"temperature": 0.7}, {"temperature": 2.0, "top_k": 5}, {"top_k": 1}, {"top_k": 1000}, {"top_p": 0.5}, {"top_p": 0.999},
    {"min_p": 0.1}, {"min_p": 0.5, "temperature": 3.0}, {"top_k": 50, "top_p": 0.95, "temperature": 1.0},
    {"temperature": 1.5, "top_k": 10, "top_p": 0.9, "min_p": 0.02},
]


def exact(values, digits=9):
    """f32 as decimals; nine digits read back to the same f32."""
    return [float(f"{float(v):.{digits}g}") for v in values]


# Bias, presence and frequency, which transformers' generate does not have: (bias, repetition, frequency, presence, temperature).
PENALTIES = [({}, 1.0, 0.5, 0.0, 1.0), ({}, 1.0, 0.0, 1.5, 1.0), ({}, 1.0, -1.25, -2.0, 0.7), ({}, 1.3, 0.7, 0.3, 0.9),
             ({3: 2.5, 8: -100.0}, 1.0, 0.0, 0.0, 1.0), ({3: 2.5, 5: -1.75}, 1.4, 0.4, 0.2, 1.0)]


def penalties(rows):
    """Bias by transformers' SequenceBiasLogitsProcessor, which goes first in its list; then what vLLM's `apply_penalties`
    (model_executor/layers/utils.py) does in its order: repetition, `logits -= frequency * counts`, `logits -= presence * mask`, the last
    two of the answer alone. Log-probabilities: log_softmax of the logits as they are, in f64."""
    out = []
    for r, row in enumerate(rows):
        prompt, logits = row["prompt_ids"], torch.tensor([row["logits"]], dtype=torch.float32)
        answer = [3, 5, 3, prompt[0], 3, logits.argmax().item()]
        ids, counts = torch.tensor([prompt + answer]), torch.bincount(torch.tensor(answer), minlength=logits.shape[1])[None]
        for bias, repetition, frequency, presence, temperature in PENALTIES:
            processors = LogitsProcessorList(
                ([SequenceBiasLogitsProcessor([[[i], b] for i, b in bias.items()])] if bias else [])
                + [RepetitionPenaltyLogitsProcessor(repetition)])
            scores = processors(ids, logits.clone())
            scores -= frequency * counts
            scores -= presence * (counts > 0)
            raw = torch.log_softmax(logits.double(), -1)[0]
            out.append({"row": r, "answer_ids": answer, "logit_bias": bias, "params": {
                "repetition_penalty": repetition, "frequency_penalty": frequency, "presence_penalty": presence, "temperature": temperature},
                "probabilities": exact(torch.softmax(scores / temperature, -1)[0], 7),
                "logprobs": [[i, raw[i].item()] for i in [3, prompt[0]]], "top": raw.topk(5).values.tolist()})
    return out


def make():
    folder = MODELS / "base"
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.generation_config = GenerationConfig()
    rows, sets = [], []
    for case in ("image", "two_images"):
        stored = load_file(folder / f"{case}.safetensors")
        # Ids the tokenizer does not have are left out: they are masked before anything else.
        rows.append({"from": f"models/base/{case}.safetensors, last row", "prompt_ids": stored["input_ids"].tolist(),
                     "logits": exact(stored["logits_last"][-1, :FAMILIES["qwen2_5_vl"].used])})
    # Equal logits: top_k keeps every id that ties with the k-th best.
    ties = [0.5, 2.0, -1.0, 2.0, 0.5, 1.0, 1.0, 0.5, -3.0, 1.0, 0.0, 0.5]
    rows.append({"from": "made up, with ties", "prompt_ids": [3, 8, 3, 10, 5], "logits": ties})
    for r, row in enumerate(rows):
        ids, logits = torch.tensor([row["prompt_ids"]]), torch.tensor([row["logits"]], dtype=torch.float32)
        for params in SETS if r == 0 else SETS[1:6] if r == 1 else [{"top_k": k} for k in (1, 2, 3, 4, 6)] + [
                {"top_k": 4, "repetition_penalty": 1.5}, {"min_p": 0.5}, {"repetition_penalty": 2.0}]:
            config = GenerationConfig(do_sample=True, **params)
            processors = model._get_logits_processor(
                config, input_ids_seq_length=ids.shape[1], logits_processor=LogitsProcessorList(),
                model_kwargs={"attention_mask": torch.ones_like(ids)})
            scores = processors(ids, logits.clone())
            probabilities = torch.softmax(scores, -1)[0]
            kept = probabilities.nonzero()[:, 0]
            sets.append({"row": r, "params": params, "order": [type(p).__name__ for p in processors],
                         "ids": kept.tolist() if len(kept) < len(row["logits"]) else None,
                         "probabilities": exact(probabilities[kept], 7)})
            assert torch.equal(scores[0].isfinite().nonzero()[:, 0], kept) or params.get("temperature", 1) < 0.2

    # The penalty over many steps: prompt and output count, image placeholders too. Otherwise greedy.
    penalised = []
    processor = models.load_processor(folder)
    for case in ("text", "image", "windows", "image_tall"):
        for penalty in (1.05, 1.3):
            family = FAMILIES["qwen2_5_vl"]
            inputs = models.build_inputs(family, processor, folder, models.case_of(family, case)["messages"])
            out = model.generate(
                **inputs, max_new_tokens=48, logits_processor=LogitsProcessorList([models.MaskPadding(FAMILIES["qwen2_5_vl"].used)]),
                generation_config=GenerationConfig(do_sample=False, repetition_penalty=penalty, eos_token_id=None, pad_token_id=0),
                return_dict_in_generate=True, output_scores=True)
            top = torch.stack(out.scores)[:, 0].topk(2).values
            gap = float((top[:, 0] - top[:, 1]).min())
            new = out.sequences[0, inputs["input_ids"].shape[1]:].tolist()
            if gap > models.GAP and models.text.added_id("<|image_pad|>") not in new:
                penalised.append({"case": case, "repetition_penalty": penalty, "greedy_ids": new, "smallest_gap": round(gap, 5)})
    assert len(penalised) >= 3, len(penalised)
    write_json(ROOT / "sampling.json", {"rows": rows, "sets": sets, "greedy_with_penalty": penalised, "penalties": penalties(rows)},
               indent=None)
    return {"sets": len(sets), "greedy_with_penalty": len(penalised)}
