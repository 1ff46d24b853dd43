"""What differs between the families: configurations, processors, features, and the mistakes a fixture has to notice."""

import contextlib

import torch
from transformers import AutoTokenizer, Qwen2VLImageProcessor, Qwen2VLVideoProcessor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor, Qwen3VLVideoProcessor
from transformers.models.qwen2_vl import modeling_qwen2_vl as code2
from transformers.models.qwen3_vl import modeling_qwen3_vl as code3

from . import templates, text
from .common import TEXT
from .preprocess import LIMITS, LIMITS3, QWEN3, HorizontalFirst

ALIVE = 0.5     # least change of a result under a wrong rule
SUBTLE = 0.02   # the same for a wrong activation and the like: far from any tolerance (2e-4) still


@contextlib.contextmanager
def instead(owner, name, value):
    """`owner.name` is `value` for a while."""
    old, own = getattr(owner, name), name in vars(owner) or name in vars(owner).get("_modules", {})
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, old)
        else:
            delattr(owner, name)


@contextlib.contextmanager
def activation(modules, function):
    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.enter_context(instead(module, "forward", function))
        yield


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def rms_instead_of_layernorm(self, x):
    """LayerNorm that forgets to subtract the mean."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight + self.bias


def windowed(original, length=16):
    """Attention inside runs of `length` patches, where the family attends to the whole picture."""
    def seqlens(*args, **kwargs):
        cu, _ = original(*args, **kwargs)
        points = sorted({*cu.tolist(), *range(0, int(cu[-1]), length)})
        return torch.tensor(points, dtype=cu.dtype), length
    return seqlens


class Qwen2_5VL:
    config_class, model_class, processor_class = Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
    architecture, model_type = "Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl"
    limits, image_options, token = LIMITS, {}, 28
    texts, used, template = TEXT, text.VOCAB + len(text.ADDED), text.TEMPLATE
    video_processor = Qwen2VLVideoProcessor

    hub_preprocessor = {  # the layout of the original hub files
        "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor",
    }
    # Generation defaults as on the hub (3B): sampling on, temperature 1e-6, repetition penalty 1.05.
    hub_generation = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.000001, "transformers_version": "4.49.0"}

    @classmethod
    def image_processor(cls):
        return Qwen2VLImageProcessor(size=cls.limits, **cls.image_options)

    @classmethod
    def pil_processor(cls):
        return HorizontalFirst(size=cls.limits, **cls.image_options)

    @classmethod
    def processor(cls, folder):
        return cls.processor_class(cls.image_processor(), AutoTokenizer.from_pretrained(folder),
                                   cls.video_processor(size=cls.limits), chat_template=cls.template)

    @classmethod
    def vision_config(cls, spec):
        return dict(spec["vision"], out_hidden_size=spec["text"]["hidden_size"])

    @classmethod
    def flat_vision_config(cls, spec):
        v = cls.vision_config(spec)
        v["in_chans"] = v.pop("in_channels")
        v["spatial_patch_size"] = v["patch_size"]
        return v

    @classmethod
    def token_ids(cls):
        return {name: text.added_id(f"<|{token}|>") for name, token in (
            ("vision_start_token_id", "vision_start"), ("vision_end_token_id", "vision_end"),
            ("image_token_id", "image_pad"), ("video_token_id", "video_pad"))}

    @classmethod
    def config(cls, spec):
        t = dict(spec["text"])
        theta, section = t.pop("rope_theta"), t.pop("mrope_section")
        return cls.config_class(
            architectures=[cls.architecture], tie_word_embeddings=spec["tie"], **cls.token_ids(),
            text_config=dict(t, max_position_embeddings=32768, use_sliding_window=False,
                             bos_token_id=text.added_id("<|endoftext|>"), eos_token_id=text.added_id("<|im_end|>"),
                             rope_parameters={"rope_type": "default", "rope_theta": theta, "mrope_section": section}),
            vision_config=cls.vision_config(spec))

    @classmethod
    def hub_config(cls, spec):
        """config.json as the original hub checkpoints have it: LM fields at the top level, rope_scaling of type mrope."""
        t = dict(spec["text"])
        section = t.pop("mrope_section")
        return {
            "architectures": [cls.architecture], "attention_dropout": 0.0,
            "bos_token_id": text.added_id("<|endoftext|>"), "eos_token_id": text.added_id("<|im_end|>"),
            **cls.token_ids(), "vision_token_id": text.added_id("<|vision_pad|>"),
            "hidden_act": "silu", **t, "initializer_range": 0.02, "max_position_embeddings": 128000,
            "max_window_layers": 70, "model_type": cls.model_type, "sliding_window": 32768, "use_sliding_window": False,
            "tie_word_embeddings": spec["tie"],
            "torch_dtype": str(spec["store"]).removeprefix("torch."),
            "transformers_version": "4.41.2", "use_cache": True, "vision_config": cls.flat_vision_config(spec),
            "rope_scaling": {"type": "mrope", "mrope_section": section},
        }

    @classmethod
    def hub_name(cls, name):
        if name.startswith("model.visual."):
            return name[len("model."):]
        return name.replace("model.language_model.", "model.", 1)

    @classmethod
    def gain(cls, name):
        """How loud a weight is beside 1/sqrt(fan in); the decoder's attention and the embedding are set elsewhere."""
        if "lm_head" in name or "down_proj" in name:
            return 2.5
        if "qkv" in name:
            return 1.3
        if "attn.proj" in name or "merger.mlp" in name:
            return 1.5
        return 1.0

    @classmethod
    def features(cls, model, pixels, grids):
        """Merger output of all pictures, and the same of the DeepStack mergers where there are any."""
        return dict(image_embeds=torch.cat(list(model.model.get_image_features(pixels, grids).pooler_output)))

    @classmethod
    def trace_points(cls, model):
        visual = model.model.visual
        yield "vision.patch_embed", visual.patch_embed  # still in the order of pixel_values
        for i, block in enumerate(visual.blocks):
            yield f"vision.block.{i}", block
        yield "vision.merger", visual.merger            # before the rows are put back in order
        for i, layer in enumerate(model.model.language_model.layers):
            yield f"text.layer.{i}", layer

    @classmethod
    def wrong_features(cls, model):
        """(what is wrong, context in which it is, least change) for image_embeds."""
        visual = model.model.visual
        yield "all attention full", instead(visual, "window_size", 10 ** 4 // 28 * 28), ALIVE
        yield "all attention windowed", instead(visual, "fullatt_block_indexes", []), ALIVE

    @classmethod
    def wrong_logits(cls, model):
        """The same for the logits."""
        return ()


class Qwen2VL(Qwen2_5VL):
    config_class, model_class, processor_class = Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
    architecture, model_type = "Qwen2VLForConditionalGeneration", "qwen2_vl"
    hub_preprocessor = dict(Qwen2_5VL.hub_preprocessor, processor_class="Qwen2VLProcessor")
    hub_generation = {"do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.001, "transformers_version": "4.37.0"}

    @classmethod
    def vision_config(cls, spec):  # here hidden_size is the width of the result
        return dict(spec["vision"], hidden_size=spec["text"]["hidden_size"])

    @classmethod
    def flat_vision_config(cls, spec):  # the hub says nothing of the activation: quick_gelu is the class default
        v = super().flat_vision_config(spec)
        assert v.pop("hidden_act") == "quick_gelu"
        return v

    @classmethod
    def gain(cls, name):
        return 2.5 if ".mlp.fc2" in name else super().gain(name)

    @classmethod
    def wrong_features(cls, model):
        visual = model.model.visual
        yield "RMS norm in the tower", instead(torch.nn.LayerNorm, "forward", rms_instead_of_layernorm), ALIVE
        yield "attention windowed", instead(code2, "get_vision_attention_seqlens", windowed(code2.get_vision_attention_seqlens)), ALIVE
        acts = [block.mlp.act for block in visual.blocks]
        yield "erf GELU in the blocks", activation(acts, torch.nn.functional.gelu), SUBTLE
        yield "SiLU in the blocks", activation(acts, torch.nn.functional.silu), SUBTLE
        yield "quick GELU in the merger", activation([visual.merger.mlp[1]], quick_gelu), SUBTLE


class Qwen3VL(Qwen2_5VL):
    config_class, model_class, processor_class = Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
    architecture, model_type = "Qwen3VLForConditionalGeneration", "qwen3_vl"
    limits, image_options, token = LIMITS3, QWEN3, 32
    texts, used, template = text.TEXT3, text.VOCAB + len(text.ADDED3), templates.INSTRUCT
    video_processor = Qwen3VLVideoProcessor
    hub_preprocessor = {  # the hub's file but for the least size, which is 65536 there
        "size": {"longest_edge": 16777216, "shortest_edge": 4096}, "patch_size": 16, "temporal_patch_size": 2,
        "merge_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "processor_class": "Qwen3VLProcessor", "image_processor_type": "Qwen2VLImageProcessorFast",
    }
    hub_generation = {"do_sample": True, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.0, "temperature": 0.7,
                      "transformers_version": "4.56.0"}

    @classmethod
    def rope(cls, spec):
        return {"mrope_interleaved": True, "mrope_section": spec["text"]["mrope_section"], "rope_type": "default"}

    @classmethod
    def text_config(cls, spec):
        t = {k: v for k, v in spec["text"].items() if k not in ("rope_theta", "mrope_section")}
        return dict(t, attention_bias=False, max_position_embeddings=262144,
                    bos_token_id=text.added_id("<|endoftext|>"), eos_token_id=text.added_id("<|im_end|>"))

    @classmethod
    def config(cls, spec):
        return cls.config_class(
            architectures=[cls.architecture], tie_word_embeddings=spec["tie"], **cls.token_ids(),
            text_config=dict(cls.text_config(spec), rope_parameters=dict(cls.rope(spec), rope_theta=spec["text"]["rope_theta"])),
            vision_config=cls.vision_config(spec))

    @classmethod
    def hub_config(cls, spec):
        """config.json as on the hub: nested, with rope_scaling and rope_theta of 4.57, and a vision model_type that 5.x corrects."""
        return {
            "architectures": [cls.architecture], **cls.token_ids(), "model_type": cls.model_type,
            "text_config": dict(
                cls.text_config(spec), attention_dropout=0.0, dtype="bfloat16", hidden_act="silu", initializer_range=0.02,
                model_type="qwen3_vl_text", rope_scaling=cls.rope(spec), rope_theta=spec["text"]["rope_theta"],
                tie_word_embeddings=spec["tie"], use_cache=True),
            "tie_word_embeddings": spec["tie"], "transformers_version": "4.57.0.dev0",
            "vision_config": dict(cls.vision_config(spec), initializer_range=0.02, model_type="qwen3_vl"),
        }

    @classmethod
    def hub_name(cls, name):
        return name

    @classmethod
    def gain(cls, name):
        if "merger" in name:
            return 1.5
        return 2.5 if ".mlp.linear_fc2" in name else super().gain(name)

    @classmethod
    def features(cls, model, pixels, grids):
        out = model.model.get_image_features(pixels, grids)
        return dict(image_embeds=torch.cat(list(out.pooler_output)),
                    deepstack_embeds=torch.stack([torch.cat(list(one)) for one in out.deepstack_features]))

    @classmethod
    def trace_points(cls, model):
        visual = model.model.visual
        yield "vision.patch_embed", visual.patch_embed  # with its bias, before the positions are added
        yield "vision.embedded", (visual.blocks[0],)    # a tuple means: what goes in, here patches plus positions
        for i, block in enumerate(visual.blocks):
            yield f"vision.block.{i}", block
        yield "vision.merger", visual.merger
        for i, merger in enumerate(visual.deepstack_merger_list):
            yield f"vision.deepstack.{i}", merger
        following = [*model.model.language_model.layers[1:], model.model.language_model.norm]
        for i, after in enumerate(following):
            yield f"text.layer.{i}", (after,)           # with what DeepStack adds after the layer

    @classmethod
    def wrong_features(cls, model):
        visual = model.model.visual
        yield "RMS norm in the tower", instead(torch.nn.LayerNorm, "forward", rms_instead_of_layernorm), ALIVE
        yield "attention windowed", instead(code3, "get_vision_attention_seqlens", windowed(code3.get_vision_attention_seqlens)), ALIVE
        name = "get_vision_interpolation_indices_and_weights"
        original = getattr(code3, name)

        def nearest(*args, **kwargs):
            indices, weights = original(*args, **kwargs)
            return indices, torch.nn.functional.one_hot(weights.argmax(-1), weights.shape[-1]).float()

        yield "positions not interpolated", instead(code3, name, nearest), ALIVE
        yield "positions without align_corners", instead(visual, "interpolation_align_corners", False), SUBTLE
        yield "no learned positions", instead(code3, name, lambda *a, **k: (i := original(*a, **k), (i[0], i[1] * 0))[1]), ALIVE
        acts = [block.mlp.act_fn for block in visual.blocks]
        yield "quick GELU in the blocks", activation(acts, quick_gelu), SUBTLE
        yield "erf GELU in the blocks", activation(acts, torch.nn.functional.gelu), 0.0  # 5e-4 at most in each: told, not required
        yield "quick GELU in the merger", activation([visual.merger.act_fn], quick_gelu), SUBTLE

    @classmethod
    def wrong_logits(cls, model):
        text_model, visual = model.model.language_model, model.model.visual
        process = type(text_model)._deepstack_process
        yield "no DeepStack", instead(type(text_model), "_deepstack_process", lambda self, hidden, mask, embeds: hidden), ALIVE
        yield "DeepStack added to the picture's embedding twice", instead(
            type(text_model), "_deepstack_process", lambda self, hidden, mask, embeds: process(self, hidden, mask, 2 * embeds)), ALIVE
        mergers = list(visual.deepstack_merger_list)
        if len(mergers) > 1:
            yield "DeepStack mergers reversed", instead(visual, "deepstack_merger_list", torch.nn.ModuleList(mergers[::-1])), ALIVE
        rotary = type(text_model.rotary_emb)

        def contiguous(self, freq):
            parts = torch.split(freq, self.mrope_section, dim=-1)
            joined = torch.cat([part[axis] for axis, part in enumerate(parts)], -1)
            return torch.cat((joined, joined), -1)

        yield "contiguous M-RoPE sections", instead(rotary, "recomposition_frequencies", contiguous), SUBTLE
        norms = [norm for layer in text_model.layers for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm)]
        yield "no norm of queries and keys", activation(norms, lambda x: x), ALIVE


FAMILIES = {"qwen2_5_vl": Qwen2_5VL, "qwen2_vl": Qwen2VL, "qwen3_vl": Qwen3VL}
