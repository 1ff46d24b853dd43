"""transformers' own layers, one at a time: logits of a checkpoint too large to hold in f32.

Weights stay in their file (bf16, any number of shards) and become f32 for the one layer that is running; the vision tower is held
whole in f32 while it runs. Greedy steps use a cache, so after the prompt a step costs a pass over the weights and little else.
"""

import json
import pathlib

import torch
from safetensors import safe_open
from transformers import DynamicCache
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as code25
from transformers.models.qwen2_vl import modeling_qwen2_vl as code2
from transformers.models.qwen3_vl import modeling_qwen3_vl as code3

from .families import FAMILIES

ROWS = 8192  # of the embedding at a time
PARTS = {
    "qwen2_5_vl": (code25.Qwen2_5_VisionTransformerPretrainedModel, code25.Qwen2_5_VLDecoderLayer, code25.Qwen2_5_VLRotaryEmbedding,
                   code25.Qwen2_5_VLRMSNorm, code25.Qwen2_5_VLModel),
    "qwen2_vl": (code2.Qwen2VisionTransformerPretrainedModel, code2.Qwen2VLDecoderLayer, code2.Qwen2VLRotaryEmbedding,
                 code2.Qwen2VLRMSNorm, code2.Qwen2VLModel),
    "qwen3_vl": (code3.Qwen3VLVisionModel, code3.Qwen3VLTextDecoderLayer, code3.Qwen3VLTextRotaryEmbedding, code3.Qwen3VLTextRMSNorm,
                 code3.Qwen3VLModel),
}


class Store:
    """Tensors of a folder by the names of a new save (model.visual.*, model.language_model.*), as f32."""

    def __init__(self, folder, family):
        self.files, self.keys = {}, {}
        for path in sorted(pathlib.Path(folder).glob("model*.safetensors")):
            file = self.files[path] = safe_open(path, "pt")
            for key in file.keys():
                self.keys[key] = path
        self.family = family

    def __contains__(self, name):
        return name in self.keys or self.family.hub_name(name) in self.keys

    def slice(self, name):
        key = name if name in self.keys else self.family.hub_name(name)
        return self.files[self.keys[key]].get_slice(key)

    def get(self, name):
        return self.slice(name)[:].float()

    def fill(self, module, prefix):
        """`module` with the weights under `prefix`."""
        module.load_state_dict({k: self.get(prefix + k) for k in module.state_dict()}, strict=True)
        return module.eval()


class Layerwise:
    def __init__(self, folder):
        folder = pathlib.Path(folder)
        kind = json.loads((folder / "config.json").read_text())["model_type"]
        self.family = FAMILIES[kind]
        self.config = self.family.config_class.from_pretrained(folder)
        for part in (self.config, self.config.text_config, self.config.vision_config):
            part._attn_implementation = "eager"
        self.tower, self.layer, rotary, self.norm, self.model = PARTS[kind]
        self.store = Store(folder, self.family)
        self.rotary = rotary(self.config.text_config)
        self.cache = DynamicCache(config=self.config.text_config)

    def vision(self, pixels, grids):
        tower = self.store.fill(self.tower(self.config.vision_config).float(), "model.visual.")
        out = tower(pixels, grid_thw=grids)
        return out.pooler_output, getattr(out, "deepstack_features", None) or []

    def positions(self, ids, types, grids):
        class Bare:
            config, get_vision_position_ids = self.config, self.model.get_vision_position_ids
            get_rope_index = self.model.get_rope_index
        positions, delta = Bare().get_rope_index(ids, mm_token_type_ids=types, image_grid_thw=grids)
        return positions, int(delta)

    def embed(self, ids):
        rows = self.store.slice("model.language_model.embed_tokens.weight")
        return torch.stack([rows[int(i):int(i) + 1][0].float() for i in ids[0]])[None]

    def decode(self, hidden, positions, deepstack=(), at=None):
        """Runs `hidden` [1, n, width] behind what the cache holds; the logits of the last token."""
        n, past = hidden.shape[1], self.cache.get_seq_length()
        mask = torch.full((n, past + n), torch.finfo(torch.float32).min).triu(past + 1)[None, None]
        angles = self.rotary(hidden, positions)
        for i in range(self.config.text_config.num_hidden_layers):
            layer = self.store.fill(self.layer(self.config.text_config, i), f"model.language_model.layers.{i}.")
            out = layer(hidden, position_embeddings=angles, attention_mask=mask, past_key_values=self.cache, use_cache=True)
            hidden = out[0] if isinstance(out, tuple) else out
            if i < len(deepstack):
                hidden[at] += deepstack[i]
        text = self.config.text_config
        hidden = self.store.fill(self.norm(text.hidden_size, eps=text.rms_norm_eps), "model.language_model.norm.")(hidden)[0, -1]
        head = "lm_head.weight" if "lm_head.weight" in self.store else "model.language_model.embed_tokens.weight"
        rows = self.store.slice(head)
        return torch.cat([rows[k:k + ROWS].float() @ hidden for k in range(0, rows.get_shape()[0], ROWS)])

    @torch.no_grad()
    def run(self, inputs, used, count):
        """Embeddings, the prompt's last logits, `count` greedy ids among the first `used`, and the least gap of the two best."""
        ids, grids = inputs["input_ids"], inputs["image_grid_thw"]
        at = ids == self.config.image_token_id
        embeds, deepstack = self.vision(inputs["pixel_values"], grids)
        positions, delta = self.positions(ids, at.int(), grids)
        hidden = self.embed(ids)
        hidden[at] = embeds
        logits = first = self.decode(hidden, positions, deepstack, at)
        chosen, gap = [], float("inf")
        for step in range(count):
            best = logits[:used].topk(2)
            gap = min(gap, float(best.values[0] - best.values[1]))
            chosen.append(int(best.indices[0]))
            if step + 1 < count:
                where = torch.full((3, 1, 1), ids.shape[1] + step + delta)
                logits = self.decode(self.embed(best.indices[None, :1]), where)
        out = dict(image_embeds=embeds, logits_last=first[None], greedy_ids=torch.tensor(chosen, dtype=torch.int32),
                   input_ids=ids[0].int(), position_ids=positions[:, 0].int(), rope_delta=torch.tensor([delta], dtype=torch.int32),
                   image_grid_thw=grids.int())
        if deepstack:
            out["deepstack_embeds"] = torch.stack(list(deepstack))
        return out, gap


def check(folder, case="image"):
    """On a small checkpoint the layers one at a time give the golden."""
    from safetensors.torch import load_file
    from .models import build_inputs, case_of, load_processor
    whole = Layerwise(folder)
    inputs = build_inputs(whole.family, load_processor(folder), folder, case_of(whole.family, case)["messages"])
    out, _ = whole.run(inputs, whole.family.used, 64)
    stored = load_file(pathlib.Path(folder) / f"{case}.safetensors")
    worst = float((out["logits_last"][0] - stored["logits_last"][-1]).abs().max())
    assert worst < 1e-4 and torch.equal(out["greedy_ids"], stored["greedy_ids"]), (folder, worst)
    for name in ("image_embeds", "deepstack_embeds"):
        assert name not in stored or (out[name] - stored[name]).abs().max() < 1e-4
    return worst
