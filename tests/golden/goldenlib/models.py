"""models/: small random checkpoints of every family and what transformers computes with them.

Weights are drawn from numpy's PCG64 so that they do not depend on torch's generator, scaled so that every layer is
alive, and redrawn with the next seed until every greedy continuation has clear winners (see `GAP`) and every classic
mistake shows (see `ALIVE`). The seeds in `SPECS` are those the search ended at; change a size and it searches on.
"""

import copy
import shutil

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, GenerationConfig, LogitsProcessor, LogitsProcessorList

from . import images, text
from .common import MODELS, TEXT, i32, write_json, write_tensors
from .families import ALIVE, FAMILIES
from .positions import reference_positions

GAP = 5e-3      # least difference between the best and the second-best logit at every greedy step
DISTINCT = 14   # least number of different ids in a greedy continuation, so that it is not one token repeated
NEW = 64        # greedy tokens per case
ROWS = 408      # embedding rows; the tokenizer has 398 ids (402 for Qwen3-VL), the rest are padding as in the real checkpoints


# --- the checkpoints -------------------------------------------------------------------------------------------------

def vision(**kwargs):
    base = dict(depth=4, hidden_size=32, intermediate_size=44, num_heads=2, in_channels=3, patch_size=14,
                temporal_patch_size=2, spatial_merge_size=2, window_size=112, fullatt_block_indexes=[1, 3],
                tokens_per_second=2, hidden_act="silu")
    return {**base, **kwargs}


def decoder(**kwargs):
    base = dict(hidden_size=64, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                rms_norm_eps=1e-6, rope_theta=1e6, mrope_section=[2, 3, 3], vocab_size=ROWS)
    return {**base, **kwargs}


def vision2(**kwargs):
    base = dict(depth=3, embed_dim=32, mlp_ratio=4, num_heads=2, in_channels=3, patch_size=14, temporal_patch_size=2,
                spatial_merge_size=2, hidden_act="quick_gelu")
    return {**base, **kwargs}


def vision3(**kwargs):
    base = dict(depth=5, hidden_size=24, intermediate_size=44, num_heads=2, in_channels=3, patch_size=16,
                temporal_patch_size=2, spatial_merge_size=2, num_position_embeddings=49,
                deepstack_visual_indexes=[0, 2, 3], hidden_act="gelu_pytorch_tanh")
    return {**base, **kwargs}


# layout "new": config.json nested and tensor names as transformers 5.23 saves; "flat": the original hub layout.
# template: the file that carries the chat template.
SPECS = {
    # GQA 4:2, head_dim 16, vision head_dim 16 (4 row + 4 column frequencies), untied head.
    "base": dict(seed=110, layout="new", store=torch.float32, tie=False, template="chat_template.jinja",
                 text=decoder(), vision=vision(),
                 cases=["text", "image", "image_tall", "windows", "two_images", "multi_turn", "resize"]),
    # Original config and tensor names, three shards, tied head, GQA 3:1, head_dim 32, window of 3x3 merged tokens,
    # an eps and a theta that differ from every default.
    "flat": dict(seed=277, layout="flat", store=torch.float32, tie=True, template="tokenizer_config.json", shards=3,
                 text=decoder(hidden_size=96, intermediate_size=28, num_attention_heads=3,
                              num_key_value_heads=1, rms_norm_eps=1e-3, rope_theta=5e5, mrope_section=[4, 6, 6]),
                 vision=vision(hidden_size=16, intermediate_size=36, depth=3, fullatt_block_indexes=[1], window_size=84),
                 cases=["text", "image", "windows", "two_images", "multi_turn"]),
    # The head sizes of the real model: two vision heads of 80, text heads of 128 with sections 16,24,24; an MLP width
    # of 36 = 4*9, like 3420 = 4*855 not a multiple of 8. One text layer, and stored bf16, only to keep the file small.
    "head80": dict(seed=307, loud=1.6, layout="flat", store=torch.bfloat16, tie=True, template="chat_template.json",
                   text=decoder(hidden_size=256, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2,
                                num_key_value_heads=1, mrope_section=[16, 24, 24]),
                   vision=vision(hidden_size=160, intermediate_size=36, depth=2, fullatt_block_indexes=[1]),
                   cases=["text", "image", "two_images"]),
    "bf16": dict(seed=402, layout="new", store=torch.bfloat16, tie=False, template="chat_template.jinja",
                 text=decoder(),
                 vision=vision(hidden_size=16, intermediate_size=36, depth=3, fullatt_block_indexes=[2]),
                 cases=["image"]),
    # Tied although nested: tie_word_embeddings stands at the top level of config.json.
    "f16": dict(seed=500, layout="new", store=torch.float16, tie=True, template="chat_template.jinja",
                text=decoder(),
                vision=vision(hidden_size=24, intermediate_size=36, depth=2, fullatt_block_indexes=[0]),
                cases=["image"]),
    # Qwen2-VL. GQA 4:2, head_dim 16, vision head_dim 16, untied head.
    "qwen2_vl": dict(family="qwen2_vl", seed=666, layout="new", store=torch.float32, tie=False, template="chat_template.jinja",
                     text=decoder(), vision=vision2(),
                     cases=["text", "image", "image_tall", "windows", "two_images", "multi_turn", "resize"]),
    # As the hub has it: flat, old names, tied, bf16; in vision_config `embed_dim` is the tower's width and `hidden_size`
    # the decoder's. Vision head_dim 12, an mlp_ratio that is not the default.
    "qwen2_vl_flat": dict(family="qwen2_vl", seed=725, layout="hub", store=torch.bfloat16, tie=True, template="chat_template.json",
                          text=decoder(hidden_size=96, intermediate_size=28, num_attention_heads=3, num_key_value_heads=1,
                                       rms_norm_eps=1e-3, rope_theta=5e5, mrope_section=[4, 6, 6]),
                          vision=vision2(embed_dim=24, mlp_ratio=3),
                          cases=["text", "image", "windows", "two_images", "multi_turn"]),
    # Qwen3-VL. Heads 4:2 x 16 beside a hidden size of 48, sections that leave a tail of T (frequencies 6 and 7), vision
    # head_dim 12 (like 72: 3 frequencies an axis), 7 x 7 learned positions, five blocks of which 0, 2 and 3 feed DeepStack.
    "qwen3_vl": dict(family="qwen3_vl", seed=872, layout="new", store=torch.float32, tie=False, template="chat_template.jinja",
                     text=decoder(hidden_size=48, num_hidden_layers=4, head_dim=16, rope_theta=5e6, mrope_section=[4, 2, 2]),
                     vision=vision3(),
                     cases=["text", "image", "image_tall", "windows", "two_images", "multi_turn", "resize"]),
    # config.json as the hub has it, tied, bf16; heads 6:2 x 32 (sections in the proportions of the real 24,20,20), vision
    # head_dim 20, 5 x 5 positions, DeepStack from the first three of four blocks.
    "qwen3_vl_bf16": dict(family="qwen3_vl", seed=1173, layout="hub", store=torch.bfloat16, tie=True, template="chat_template.json",
                          text=decoder(hidden_size=64, num_hidden_layers=4, num_attention_heads=6, head_dim=32,
                                       rms_norm_eps=1e-3, rope_theta=5e5, mrope_section=[6, 5, 5]),
                          vision=vision3(depth=4, hidden_size=40, num_position_embeddings=25, deepstack_visual_indexes=[0, 1, 2]),
                          cases=["text", "image", "windows", "two_images", "multi_turn"]),
    # The head sizes of the real models: 72 in the tower, 128 in the decoder with sections 24,20,20. One head, one DeepStack merger and
    # bf16 only to keep the file small; 3 x 3 positions.
    "qwen3_vl_head72": dict(family="qwen3_vl", seed=1535, layout="hub", store=torch.bfloat16, tie=True, template="chat_template.json",
                            text=decoder(hidden_size=64, intermediate_size=20, num_attention_heads=2, num_key_value_heads=1, head_dim=128,
                                         rope_theta=5e6, mrope_section=[24, 20, 20]),
                            vision=vision3(depth=2, hidden_size=72, intermediate_size=36, num_heads=1, num_position_embeddings=9,
                                           deepstack_visual_indexes=[0]),
                            cases=["text", "image", "two_images"]),
}


TRACED = ("base", "qwen2_vl", "qwen3_vl")  # one of each family has its stages stored, and all rows of the logits of `text`


def family_of(spec):
    return FAMILIES[spec.get("family", "qwen2_5_vl")]


def init_scale(family, name, shape, loud):
    """Standard deviation of a weight. Branch outputs are a little louder than unit so that context, not the residual
    copy of the last token, decides the next token (this matters for tied embeddings); `loud` raises the decoder's
    attention further, for a model of one layer."""
    fan_in = int(np.prod(shape[1:]))
    if "embed_tokens" in name:
        return 0.25 / loud
    if "pos_embed" in name:
        return 0.5
    if "self_attn" in name:
        return loud * (1.0 if "v_proj" in name else 1.5) / fan_in ** 0.5
    return family.gain(name) / fan_in ** 0.5


def draw_weights(family, model, seed, store, loud):
    """Fills the model in place (in name order) and rounds to the stored type, so that the goldens see exactly what
    the file holds."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            shape = tuple(p.shape)
            if name.endswith(".bias"):
                value = rng.normal(0, 0.3, shape)
            elif p.ndim == 1:  # norm weights
                value = 1 + rng.normal(0, 0.25, shape)
            else:
                value = rng.normal(0, init_scale(family, name, shape, loud), shape)
            p.copy_(torch.from_numpy(value.astype(np.float32)).to(store).float())


def save_model(name, spec, model):
    out, family = MODELS / name, family_of(spec)
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    config = model.config
    state = {k: p.detach().to(spec["store"]).contiguous() for k, p in sorted(model.named_parameters())
             if not (spec["tie"] and k == "lm_head.weight")}
    if spec["layout"] == "new":
        # config.json is what transformers 5.23 writes. The tensor names are those of the 4.52+ savers
        # (model.language_model.*, model.visual.*): 5.23 turns them back into the original ones unless told not to.
        # A copy is converted: .to() also rounds the rotary frequency buffers, which loading with dtype= does not.
        twin = copy.deepcopy(model).to(spec["store"])
        for part in (twin.config, twin.config.text_config, twin.config.vision_config):
            part.dtype = spec["store"]
        twin.save_pretrained(out, save_original_format=False)
        stored = load_file(out / "model.safetensors")
        assert set(stored) == set(state), set(stored) ^ set(state)
        assert all(torch.equal(stored[k], state[k]) for k in state)
    else:
        state = {family.hub_name(k): v for k, v in state.items()}
        write_json(out / "config.json", family.hub_config(spec), indent=2)
        shards = spec.get("shards", 1)
        if shards == 1:
            save_file(state, out / "model.safetensors", metadata={"format": "pt"})
        else:
            # Cut into runs of about equal bytes; a layer may straddle two files, as in the real checkpoints.
            sizes = {k: v.numel() * v.element_size() for k, v in state.items()}
            total, seen, parts = sum(sizes.values()), 0, [{} for _ in range(shards)]
            for k in state:
                parts[min(seen * shards // total, shards - 1)][k] = state[k]
                seen += sizes[k]
            weight_map = {}
            for i, part in enumerate(parts):
                file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
                save_file(part, out / file, metadata={"format": "pt"})
                weight_map.update({k: file for k in part})
            write_json(out / "model.safetensors.index.json",
                       {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}, indent=2)

    write_json(out / "generation_config.json", {
        "bos_token_id": text.added_id("<|endoftext|>"), "pad_token_id": text.added_id("<|endoftext|>"),
        "do_sample": family.hub_generation["do_sample"],
        "eos_token_id": [text.added_id("<|im_end|>"), text.added_id("<|endoftext|>")], **family.hub_generation}, indent=2)

    shutil.copy(family.texts / "tokenizer.json", out / "tokenizer.json")
    tokenizer_config = text.tokenizer_config(text.ADDED3 if family.texts == text.TEXT3 else text.ADDED)
    if spec["template"] == "tokenizer_config.json":
        tokenizer_config["chat_template"] = family.template
    elif spec["template"] == "chat_template.json":
        write_json(out / "chat_template.json", {"chat_template": family.template})
    else:
        shutil.copy(family.texts / spec["template"], out / spec["template"])
    write_json(out / "tokenizer_config.json", tokenizer_config)

    if spec["layout"] == "new":
        # As 5.23 writes it: sizes as size.shortest_edge / size.longest_edge (pixel counts), in preprocessor_config.json
        # and again nested in processor_config.json.
        family.image_processor().save_pretrained(out)
        family.processor(out).save_pretrained(out / "tmp")
        shutil.copy(out / "tmp" / "processor_config.json", out / "processor_config.json")
        shutil.rmtree(out / "tmp")
    else:
        write_json(out / "preprocessor_config.json", family.hub_preprocessor, indent=2)
    return config


# --- the cases -------------------------------------------------------------------------------------------------------

def image_part(name, **options):
    return {"type": "image", "image": f"../../images/{name}", **options}


def text_part(value):
    return {"type": "text", "text": value}


def user(*parts):
    return {"role": "user", "content": list(parts)}


CASES = {
    "text": dict(messages=[{"role": "system", "content": "Be brief."},
                           {"role": "user", "content": "Read the text: quick foxes? 42!"}]),
    "image": dict(messages=[user(image_part("scene_140x84.png"), text_part("Describe this image in one sentence."))]),
    "image_tall": dict(messages=[user(text_part("Where is the red square?\n"), image_part("scene_84x140.png"))]),
    "windows": dict(messages=[user(image_part("page_308x196.png"), text_part("Read the text in the image."))]),
    "two_images": dict(add_vision_id=True, messages=[
        {"role": "system", "content": [text_part("You compare pictures.")]},
        user(text_part("First "), image_part("scene_84x140.png"), text_part(" and then "),
             image_part("page_252x140.png"), text_part(": list the differences."))]),
    # Two turns with a picture each. messages: the first turn; then: what is appended after the model's reply.
    "multi_turn": dict(messages=[user(image_part("scene_56x56.png"), text_part("What is shown?"))],
                       then=[user(text_part("And here? "), image_part("scene_168x112.png"))]),
    # Needs a resize; pixel limits per image, as qwen-vl-utils reads them. Computed twice: with transformers' default
    # torchvision backend and, under names starting with "pil.", with its PIL backend, rows first (see preprocess.py).
    "resize": dict(resize=True, messages=[
        user(image_part("noise_53x41.png", min_pixels=16 * 784),
             image_part("alpha_97x61.png"), image_part("tall_30x700.png", max_pixels=24 * 784), text_part("Compare."))]),
}
TURN1_NEW = 12

# The same pictures where a merged token is 32 pixels wide.
AT32 = {"scene_140x84.png": "scene_160x96.png", "scene_84x140.png": "scene_96x160.png", "page_308x196.png": "page_352x224.png",
        "page_252x140.png": "page_288x160.png", "scene_56x56.png": "scene_64x64.png", "scene_168x112.png": "scene_192x128.png"}


def case_of(family, name):
    """A case with the family's pictures and pixel limits."""
    if family.token == 28:
        return CASES[name]

    def at32(value):
        if isinstance(value, list):
            return [at32(v) for v in value]
        if not isinstance(value, dict):
            return value
        value = {k: at32(v) for k, v in value.items()}
        if value.get("type") == "image":
            folder, file = value["image"].rsplit("/", 1)
            value["image"] = f"{folder}/{AT32.get(file, file)}"
            for limit in ("min_pixels", "max_pixels"):
                if limit in value:
                    value[limit] = value[limit] // 784 * 1024
        return value

    return at32(CASES[name])


def image_options(family, part):
    """A part's pixel limits as the processor's `size`; resized_height/width are handled in preprocess.py."""
    size = dict(family.limits)
    if "min_pixels" in part:
        size["shortest_edge"] = part["min_pixels"]
    if "max_pixels" in part:
        size["longest_edge"] = part["max_pixels"]
    return size


def parts_of(messages, kind):
    return [p for m in messages if not isinstance(m["content"], str) for p in m["content"] if p["type"] == kind]


def build_inputs(family, processor, folder, messages, add_vision_id=False, image_processor=None):
    """What the family's processor does for these messages, but with pixel limits per image."""
    prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True,
                                           add_vision_id=add_vision_id)
    parts = parts_of(messages, "image")
    if not parts:
        ids = processor.tokenizer(prompt, return_tensors="pt")["input_ids"]
        return dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    loaded = [images.load(folder / p["image"]) for p in parts]
    each = [(image_processor or processor.image_processor)(images=[im], size=image_options(family, p), return_tensors="pt")
            for im, p in zip(loaded, parts)]
    expanded = prompt
    for one in each:
        n = int(one["image_grid_thw"][0].prod()) // 4
        expanded = expanded.replace("<|image_pad|>", "<|hole|>" * n, 1)
    ids = processor.tokenizer(expanded.replace("<|hole|>", "<|image_pad|>"), return_tensors="pt")["input_ids"]
    inputs = dict(
        input_ids=ids, attention_mask=torch.ones_like(ids),
        pixel_values=torch.cat([o["pixel_values"] for o in each]),
        image_grid_thw=torch.cat([o["image_grid_thw"] for o in each]),
        mm_token_type_ids=(ids == processor.image_token_id).int())
    if all(image_options(family, p) == family.limits for p in parts):  # then the processor must say the same itself
        whole = processor(text=[prompt], images=loaded, return_tensors="pt")
        for key, value in inputs.items():
            assert torch.equal(whole[key].to(value.dtype), value), key
    return inputs


class MaskPadding(LogitsProcessor):
    """Ids the tokenizer does not have are never chosen."""

    def __init__(self, used):
        self.used = used

    def __call__(self, input_ids, scores):
        scores = scores.clone()
        scores[:, self.used:] = -float("inf")
        return scores


@torch.no_grad()
def greedy(family, model, inputs, count):
    """Greedy ids by `generate`: no penalties, never stopping (no eos is configured), padding ids masked. Returns the ids
    and the least gap between the two best logits, after checking both against one uncached pass over the result."""
    # A generation_config passed to `generate` inherits what it leaves at None from the model's, eos included.
    model.generation_config = GenerationConfig()
    out = model.generate(
        **inputs, max_new_tokens=count, logits_processor=LogitsProcessorList([MaskPadding(family.used)]),
        generation_config=GenerationConfig(do_sample=False, eos_token_id=None,
                                           pad_token_id=text.added_id("<|endoftext|>")),
        return_dict_in_generate=True, output_scores=True)
    n = inputs["input_ids"].shape[1]
    ids = out.sequences[0, n:]
    assert len(ids) == count
    top = torch.stack(out.scores)[:, 0].topk(2).values
    gap = float((top[:, 0] - top[:, 1]).min())
    forbidden = {text.added_id("<|image_pad|>"), text.added_id("<|video_pad|>"), text.added_id("<|vision_start|>")}
    if forbidden & set(ids.tolist()):
        return ids, 0.0  # a reply with vision tokens could not be fed back: take another seed
    full = dict(inputs, input_ids=out.sequences, attention_mask=torch.ones_like(out.sequences))
    if "mm_token_type_ids" in inputs:
        full["mm_token_type_ids"] = (out.sequences == text.added_id("<|image_pad|>")).int()
    model.model.rope_deltas = None
    logits = model(**full, use_cache=False).logits[0, n - 1:-1]
    logits[:, family.used:] = -float("inf")
    if gap > 1e-3:
        assert torch.equal(logits.argmax(-1), ids), "cached and uncached passes disagree"
    return ids, gap


@torch.no_grad()
def forward(family, model, inputs):
    model.model.rope_deltas = None
    n = inputs["input_ids"].shape[1]
    if "image_grid_thw" in inputs:
        positions, delta = model.model.get_rope_index(
            inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"])
        positions, delta = positions[:, 0], int(delta)
        grids = inputs["image_grid_thw"]
        embeds = family.features(model, inputs["pixel_values"], grids)
    else:
        positions, delta = torch.arange(n).expand(3, n), 0
        grids = torch.zeros((0, 3), dtype=torch.long)
        embeds = {"image_embeds": torch.zeros((0, model.config.text_config.hidden_size))}
    expected, expected_delta = reference_positions(
        (inputs["input_ids"][0] == text.added_id("<|image_pad|>")).tolist(), grids.tolist())
    assert torch.equal(positions, torch.tensor(expected)) and delta == expected_delta, "positions: reference formula"
    logits = model(**inputs, use_cache=False).logits[0]
    return dict(input_ids=i32(inputs["input_ids"][0]), position_ids=i32(positions), rope_delta=i32([delta]),
                image_grid_thw=i32(grids), **embeds), logits


def run_case(family, model, processor, folder, name):
    case = case_of(family, name)
    inputs = build_inputs(family, processor, folder, case["messages"], case.get("add_vision_id", False))
    extra, gaps = {}, []
    if "then" in case:
        # Turn one, its reply, then the prompt of turn two over the full sequence. The reply enters as ids, not as text
        # (random ids do not survive decoding), closed by <|im_end|> and a newline as the template would.
        reply, gap = greedy(family, model, inputs, TURN1_NEW)
        gaps.append(gap if int(reply.max()) < text.VOCAB else 0.0)  # no control tokens inside the reply
        if gaps[0] < GAP:
            return {}, gaps[0], 0
        everything = case["messages"] + [{"role": "assistant", "content": "@"}] + case["then"]
        whole = build_inputs(family, processor, folder, everything, case.get("add_vision_id", False))
        first = inputs["input_ids"].shape[1]
        ids = whole["input_ids"]
        at = processor.tokenizer("@")["input_ids"]
        assert len(at) == 1 and torch.equal(ids[:, :first], inputs["input_ids"]) and int(ids[0, first]) == at[0]
        extra = dict(turn1_input_ids=i32(inputs["input_ids"][0]), turn1_ids=i32(reply))
        ids = torch.cat([ids[:, :first], reply[None], ids[:, first + 1:]], 1)
        inputs = dict(whole, input_ids=ids, attention_mask=torch.ones_like(ids),
                      mm_token_type_ids=(ids == processor.image_token_id).int())
    tensors, logits = forward(family, model, inputs)
    ids, gap = greedy(family, model, inputs, NEW)
    gaps.append(gap)
    tensors.update(extra, greedy_ids=i32(ids))
    if case.get("resize"):
        inputs = build_inputs(family, processor, folder, case["messages"], image_processor=family.pil_processor())
        pil, pil_logits = forward(family, model, inputs)
        pil_ids, gap = greedy(family, model, inputs, NEW)
        gaps.append(gap)
        assert torch.equal(pil["input_ids"], tensors["input_ids"])
        tensors.update({f"pil.{k}": v for k, v in pil.items() if k.endswith("_embeds")})
        tensors.update({"pil.logits_last": pil_logits[-8:],
                        "pil.greedy_ids": i32(pil_ids)})
    if name == "text" and folder.name in TRACED:  # all rows once
        tensors["logits"] = logits
    else:
        tensors["logits_last"] = logits[-8:]
    return tensors, min(gaps), len(set(ids.tolist()))


@torch.no_grad()
def trace(family, model, processor, folder, name):
    """Every stage of one case, to find the first layer that differs. Qwen2.5-VL's vision rows are in window order."""
    case = case_of(family, name)
    inputs = build_inputs(family, processor, folder, case["messages"], case.get("add_vision_id", False))
    out, hooks = {}, []

    def keep(key, module):
        def note(value):
            out[key] = (value[0] if isinstance(value, tuple) else value).detach().reshape(-1, value[0].shape[-1])
        if isinstance(module, tuple):
            hooks.append(module[0].register_forward_pre_hook(lambda _, given: note(given)))
        else:
            hooks.append(module.register_forward_hook(lambda _, __, result: note(result)))

    for key, module in family.trace_points(model):
        keep(key, module)
    model.model.rope_deltas = None
    model(**inputs, use_cache=False)
    for hook in hooks:
        hook.remove()
    return out


@torch.no_grad()
def check_alive(family, model, processor, folder):
    """The fixture must notice the classic mistakes: each wrong rule has to move the result visibly. Returns what moved by how
    much, and whether all is well."""
    inputs = build_inputs(family, processor, folder, case_of(family, "image")["messages"])
    grids, pixels = inputs["image_grid_thw"], inputs["pixel_values"]
    features = lambda: family.features(model, pixels, grids)["image_embeds"]  # noqa: E731
    report, well = {}, True

    def note(what, value, least=ALIVE):
        nonlocal well
        report[what] = round(value, 3)
        well &= report[what] >= least

    right = features()
    for what, wrong, least in family.wrong_features(model):
        with wrong:
            note(what, float((features() - right).abs().max()), least)
    note("image embeds std", float(right.std()))

    def last(**other):
        model.model.rope_deltas = None
        return model(**dict(inputs, **other), use_cache=False).logits[0, -1]

    logits = last()
    n = inputs["input_ids"].shape[1]
    note("positions 0..n", float((last(position_ids=torch.arange(n).expand(3, 1, n)) - logits).abs().max()))
    note("image upside down", float((last(pixel_values=pixels.flip(0)) - logits).abs().max()))
    for what, wrong, least in family.wrong_logits(model):
        with wrong:
            note(what, float((last() - logits).abs().max()), least)
    note("logits std", float(logits.std()))
    return report, well


def load_processor(folder):
    processor = AutoProcessor.from_pretrained(folder)
    if processor.chat_template is None:
        # 5.23 gives a template in tokenizer_config.json to the tokenizer only, not to the processor.
        processor.chat_template = processor.tokenizer.chat_template
    return processor


def make_model(name):
    spec = SPECS[name]
    family = family_of(spec)
    torch.manual_seed(0)
    model = family.model_class._from_config(
        family.config(spec), dtype=torch.float32, attn_implementation="eager").eval()
    for seed in range(spec["seed"], spec["seed"] + 400):
        draw_weights(family, model, seed, spec["store"], spec.get("loud", 1.0))
        if seed == spec["seed"]:
            save_model(name, spec, model)  # for the processor; weights are written again below
        folder = MODELS / name
        processor = load_processor(folder)
        results = {}
        for case in spec["cases"]:
            tensors, gap, distinct = run_case(family, model, processor, folder, case)
            if gap < GAP or distinct < DISTINCT:
                print(f"  {name} seed {seed}: {case} gap {gap:.4f}, {distinct} distinct: next seed", flush=True)
                break
            results[case] = (tensors, gap, distinct)
        else:
            alive, well = check_alive(family, model, processor, folder)
            if well:
                break
            print(f"  {name} seed {seed}: {alive}: next seed", flush=True)
    else:
        raise SystemExit(f"{name}: no seed gives clear winners")
    save_model(name, spec, model)

    # Everything that is stored is computed again from the files as written, the way a user would load them.
    model = family.model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    processor = load_processor(folder)
    index = {}
    for case in spec["cases"]:
        tensors, gap, distinct = run_case(family, model, processor, folder, case)
        for key, value in results[case][0].items():
            assert torch.equal(tensors[key], value), (name, case, key)
        write_tensors(folder / f"{case}.safetensors", tensors)
        told = case_of(family, case)
        write_json(folder / f"{case}.messages.json", told["messages"])
        index[case] = {"messages": f"{case}.messages.json", "tensors": f"{case}.safetensors",
                       "add_generation_prompt": True, "add_vision_id": told.get("add_vision_id", False),
                       "resize": told.get("resize", False), "prompt_tokens": len(tensors["input_ids"]),
                       "smallest_gap": round(gap, 5), "distinct_greedy_ids": distinct}
        if "then" in told:
            write_json(folder / f"{case}.then.messages.json", told["then"])
            index[case]["then"] = f"{case}.then.messages.json"
            index[case]["turn1_new_tokens"] = TURN1_NEW
    if name in TRACED:
        write_tensors(folder / "image.trace.safetensors", trace(family, model, processor, folder, "image"))
    write_json(folder / "cases.json", {"seed": seed, "tokenizer_ids": family.used, "vocab_rows": ROWS, "cases": index})
    assert (alive, True) == check_alive(family, model, processor, folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    print(f"{name}: seed {seed}, {alive}", flush=True)
    return {"seed": seed, "moved_by_wrong_rules": alive}
