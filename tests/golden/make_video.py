#!/usr/bin/env python3
"""Video goldens, from the releases of transformers whose code follows the reference rules (5.23's does not; see README.md).

    venv451/bin/python make_video.py     # transformers 4.51.3: Qwen2.5-VL (models/base) and Qwen2-VL (models/qwen2_vl)
    venv457/bin/python make_video.py     # transformers 4.57.6: Qwen3-VL (models/qwen3_vl), text/timestamps.json

requirements-4.51.txt and requirements-4.57.txt name the rest. Checkpoints and pictures are those of make_golden.py, which comes first.
Adds to each model's folder videos.json (what cases.json is for pictures) and CASE.messages.json, CASE.safetensors for its cases; and
positions_video.json or positions_qwen3.json.
"""

import importlib
import itertools
import json
import sys

sys.dont_write_bytecode = True

from goldenlib.common import MODELS, ROOT, TEXT, i32, np, torch, transformers, write_json, write_tensors  # noqa: E402
from goldenlib import images  # noqa: E402
from goldenlib.positions import reference_positions  # noqa: E402

from safetensors.torch import load_file  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import AutoTokenizer, Qwen2VLImageProcessor  # noqa: E402
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize  # noqa: E402

GAP, DISTINCT, NEW, TURN1_NEW = 5e-3, 14, 64, 12  # as in goldenlib/models.py
MADE_BY = {"4.51.3": ["base", "qwen2_vl"], "4.57.6": ["qwen3_vl"]}[transformers.__version__]


class Family:
    """A model of models/NAME in this release, with its processor."""

    def __init__(self, name):
        self.name, self.folder = name, MODELS / name
        self.stored = json.loads((self.folder / "config.json").read_text())
        self.kind = self.stored["model_type"]
        self.config = self.old_config()
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.used = len(self.tokenizer)
        self.template = (self.folder / "chat_template.jinja").read_text()
        self.token = 32 if self.kind == "qwen3_vl" else 28
        self.prefix = "vid32" if self.kind == "qwen3_vl" else "vid"
        self.model = self.load()
        self.processor = self.make_processor()

    def old_config(self):
        """config.json of 5.23 in the words of this release."""
        text, top = dict(self.stored["text_config"]), self.stored
        rope = text.pop("rope_parameters")
        vision = {k: v for k, v in top["vision_config"].items() if k not in ("rope_parameters", "dtype", "model_type")}
        ids = {k: top[k] for k in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")}
        for gone in ("dtype", "layer_types", "model_type"):
            text.pop(gone, None)
        if self.kind == "qwen3_vl":
            text.update(rope_theta=rope["rope_theta"], rope_scaling={k: v for k, v in rope.items() if k != "rope_theta"})
            return transformers.Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=top["tie_word_embeddings"], **ids)
        section = {"type": "mrope", "mrope_section": rope["mrope_section"]}
        text = {k: v for k, v in text.items() if v is not None}  # sliding_window
        cls = transformers.Qwen2_5_VLConfig if self.kind == "qwen2_5_vl" else transformers.Qwen2VLConfig
        return cls(**text, rope_theta=rope["rope_theta"], rope_scaling=section, vision_config=vision,
                   tie_word_embeddings=top["tie_word_embeddings"], **ids)

    def load(self):
        cls = {"qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration", "qwen2_vl": "Qwen2VLForConditionalGeneration",
               "qwen3_vl": "Qwen3VLForConditionalGeneration"}[self.kind]
        torch.manual_seed(0)
        model = getattr(transformers, cls)._from_config(self.config, torch_dtype=torch.float32, attn_implementation="eager").eval()
        state = load_file(self.folder / "model.safetensors")
        if self.kind != "qwen3_vl":  # 4.51 has the original names
            state = {k.removeprefix("model.") if k.startswith("model.visual.") else k.replace("model.language_model.", "model."): v
                     for k, v in state.items()}
        model.load_state_dict(state, strict=True)
        return model

    def make_processor(self):
        if self.kind == "qwen3_vl":
            how = dict(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3)
            size = {"shortest_edge": 4096, "longest_edge": 16777216}
            return transformers.Qwen3VLProcessor(
                transformers.Qwen2VLImageProcessorFast(size=size, **how), self.tokenizer,
                transformers.Qwen3VLVideoProcessor(size=size, **how), chat_template=self.template)
        cls = transformers.Qwen2_5_VLProcessor if self.kind == "qwen2_5_vl" else transformers.Qwen2VLProcessor
        return cls(Qwen2VLImageProcessor(min_pixels=3136, max_pixels=12845056), self.tokenizer, chat_template=self.template)

    def inputs(self, messages, add_vision_id=False):
        """The family's own processor on these messages, and (frames a second) of each video."""
        prompt = self.tokenizer.apply_chat_template(messages, chat_template=self.template, tokenize=False,
                                                    add_generation_prompt=True, add_vision_id=add_vision_id)
        parts = [p for m in messages if not isinstance(m["content"], str) for p in m["content"]]
        pictures = [images.load(self.folder / p["image"]).convert("RGB") for p in parts if p["type"] == "image"]
        clips = [p for p in parts if p["type"] == "video"]
        frames = [[resized(images.load(self.folder / f).convert("RGB"), p, self.token) for f in p["video"]] for p in clips]
        rates = [rate(p) for p in clips]
        given = dict(text=[prompt], images=pictures or None, videos=frames or None, return_tensors="pt")
        if not frames:
            return dict(self.processor(**given)), rates
        if self.kind == "qwen2_5_vl":
            given["fps"] = rates
        elif self.kind == "qwen3_vl":
            # The processor knows indices of source frames and their rate; with `timestamps` the source runs at 30 frames a second.
            given.update(do_sample_frames=False, videos=[torch.from_numpy(np.stack(f)).permute(0, 3, 1, 2) for f in frames], video_metadata=[
                dict(total_num_frames=1000, fps=30.0, frames_indices=[round(t * 30) for t in p["timestamps"]]) if "timestamps" in p else
                dict(total_num_frames=len(f), fps=p["sample_fps"], frames_indices=list(range(len(f)))) for p, f in zip(clips, frames)])
        out = dict(self.processor(**given))
        out.pop("second_per_grid_ts", None)
        if self.kind == "qwen2_5_vl":
            out["second_per_grid_ts"] = torch.tensor([2 / r for r in rates])
        return out, rates


def rate(part):
    """Frames a second of a list of frames: given, or that of its evenly spaced timestamps."""
    times = part.get("timestamps")
    return part["sample_fps"] if times is None else (len(times) - 1) / (times[-1] - times[0])


def resized(picture, part, factor):
    """A frame at the size that qwen-vl-utils gives it, in Pillow's arithmetic, rows first (preprocess.py): the processor leaves it alone."""
    w, h = picture.size
    low, count = part["min_pixels"], -(-len(part["video"]) // 2) * 2
    most = max(min(768 * factor ** 2, 128000 * factor ** 2 * 0.9 / count * 2), int(low * 1.05))
    to_h, to_w = smart_resize(h, w, factor, low, int(min(part.get("max_pixels", most), most)))
    return np.asarray(picture.resize((to_w, h), Image.Resampling.BICUBIC).resize((to_w, to_h), Image.Resampling.BICUBIC))


# --- the cases -------------------------------------------------------------------------------------------------------

def video(family, frames, least=4, **more):
    """min_pixels: without it the frames would be enlarged to 128 tokens each."""
    return {"type": "video", "video": [f"../../images/{family.prefix}_{k:02}.png" for k in frames],
            "min_pixels": least * family.token ** 2, **more}


def image(family, name28, name32):
    return {"type": "image", "image": f"../../images/{name32 if family.token == 32 else name28}"}


def say(text):
    return {"type": "text", "text": text}


def user(*parts):
    return {"role": "user", "content": list(parts)}


QUESTIONS = ["What happens?", "Describe this video.", "How many windows are there?", "Where is the red disc?", "What is shown in the picture?",
             "List the differences.", "Is it a fox?", "And then?", "Count the frames.", "What are the colours?", "Answer with a box.",
             "Read the text.", "Who is here?", "The quick brown fox?", "What moves?", "Say it in one sentence.", "Why?", "Which way?"]
EVERY_9TH = [k * 9 / 30 for k in range(5)]  # 0.3 seconds apart


def cases(family, question, last=QUESTIONS[-1]):
    ask = say(question)
    scene, small = ("scene_140x84.png", "scene_160x96.png"), ("scene_56x56.png", "scene_64x64.png")
    return {
        # An odd number of frames: the last one counts twice.
        "video": dict(messages=[user(video(family, range(5), sample_fps=2.0), ask)]),
        # 1.6 seconds a temporal patch, truncated; and four patches in time on a merged grid of 2x3, so that what
        # follows has another position under max(H, W) than under the largest position used.
        "video_fps": dict(messages=[user(video(family, range(7), sample_fps=1.25), ask)]),
        # Two kinds of media, pictures before and after; timestamps 0.3 s apart, 0.6 s a temporal patch.
        "video_image": dict(add_vision_id=True, messages=[
            {"role": "system", "content": [say("You compare.")]},
            user(say("First "), image(family, *scene), say(" then "), video(family, range(5), timestamps=EVERY_9TH), say(" and "),
                 image(family, *small), ask)]),
        # Two turns with a video each, of unlike pace.
        "video_multi_turn": dict(messages=[user(video(family, [0, 2, 4], sample_fps=2.0), ask)],
                                 then=[user(say("And here? "), video(family, [6, 5, 3, 1], sample_fps=0.75), say(last))]),
        # Enlarged to a merged grid of 3x5: at least twelve tokens a frame.
        "video_resize": dict(messages=[user(ask, video(family, range(3, 7), least=12, sample_fps=1.0))]),
    }


@torch.no_grad()
def run(family, inputs, ids=None):
    """Logits of one uncached pass."""
    given = {k: v for k, v in inputs.items() if k in (
        "input_ids", "attention_mask", "pixel_values", "pixel_values_videos", "image_grid_thw", "video_grid_thw", "second_per_grid_ts")}
    if ids is not None:
        given.update(input_ids=ids, attention_mask=torch.ones_like(ids))
    for holder in (family.model, getattr(family.model, "model", None)):
        if hasattr(holder, "rope_deltas"):
            holder.rope_deltas = None
    return family.model(**given, use_cache=False).logits[0]


def greedy(family, inputs, count):
    """Greedy ids, every step a pass over the whole sequence; the least gap between the two best logits, 0 where a reply with
    vision tokens could not be fed back."""
    ids, gap = inputs["input_ids"], float("inf")
    forbidden = {family.config.image_token_id, family.config.video_token_id, family.config.vision_start_token_id}
    out = []
    for _ in range(count):
        best = run(family, inputs, ids)[-1, :family.used].topk(2)
        gap = min(gap, float(best.values[0] - best.values[1]))
        out.append(int(best.indices[0]))
        if gap < GAP or out[-1] in forbidden:
            return out, 0.0
        ids = torch.cat([ids, best.indices[None, :1]], 1)
    return out, gap


@torch.no_grad()
def facts(family, inputs, rates):
    """Everything but logits, with the positions checked against the written-out rule."""
    ids = inputs["input_ids"]
    grids = {kind: inputs.get(f"{kind}_grid_thw", torch.zeros((0, 3), dtype=torch.long)) for kind in ("image", "video")}
    model = family.model if family.kind != "qwen3_vl" else family.model.model
    more = [inputs["second_per_grid_ts"]] if family.kind == "qwen2_5_vl" else []
    positions, delta = model.get_rope_index(ids, inputs.get("image_grid_thw"), inputs.get("video_grid_thw"), *more,
                                            attention_mask=torch.ones_like(ids))
    types = (ids[0] == family.config.image_token_id).long() + 2 * (ids[0] == family.config.video_token_id).long()
    seconds = torch.tensor([2 / r for r in rates], dtype=torch.float32)
    # The media in their order: runs of pads; all frames of a Qwen2-VL or Qwen2.5-VL video are one run.
    order, todo, pace = [], {1: grids["image"].tolist(), 2: grids["video"].tolist()}, []
    if family.kind == "qwen3_vl":
        todo[2] = [[1, h, w] for t, h, w in todo[2] for _ in range(t)]
    at = 0
    while at < len(types):
        kind = int(types[at])
        if kind:
            order.append(todo[kind].pop(0))
            pace.append(float(seconds[len(grids["video"]) - len(todo[2]) - 1]) if kind == 2 and family.kind == "qwen2_5_vl" else 0.5)
            at += order[-1][0] * order[-1][1] * order[-1][2] // 4
        else:
            at += 1
    time = lambda medium, k: int(np.float32(k) * np.float32(pace[medium]) * np.float32(2))  # noqa: E731
    expected, expected_delta = reference_positions(types.tolist(), order, time=time)
    assert torch.equal(positions[:, 0], torch.tensor(expected)) and int(delta) == expected_delta, "positions: reference formula"

    hidden = family.model.lm_head.in_features
    out = dict(input_ids=i32(ids[0]), position_ids=i32(positions[:, 0]), rope_delta=i32([int(delta)]),
               image_grid_thw=i32(grids["image"]), video_grid_thw=i32(grids["video"]), second_per_grid_ts=seconds)
    for kind, pixels in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        embeds, deep = torch.zeros((0, hidden)), torch.zeros((3, 0, hidden))
        if pixels in inputs:
            got = family.model.visual(inputs[pixels], grid_thw=grids[kind])
            embeds, deep = (got[0], torch.stack(got[1])) if family.kind == "qwen3_vl" else (got, None)
        out[f"{kind}_embeds"] = embeds
        if family.kind == "qwen3_vl":
            out[f"{kind}_deepstack_embeds"] = deep
    return out


def make_case(family, name, case):
    inputs, rates = family.inputs(case["messages"], case.get("add_vision_id", False))
    extra, gaps = {}, []
    if "then" in case:
        reply, gap = greedy(family, inputs, TURN1_NEW)
        gaps.append(gap if max(reply) < 376 else 0.0)  # no control tokens inside the reply
        if gaps[0] < GAP:
            return {}, gaps[0], 0
        whole, rates = family.inputs(case["messages"] + [{"role": "assistant", "content": "@"}] + case["then"])
        first, at = inputs["input_ids"].shape[1], family.tokenizer("@")["input_ids"]
        ids = whole["input_ids"]
        assert len(at) == 1 and torch.equal(ids[:, :first], inputs["input_ids"]) and int(ids[0, first]) == at[0]
        extra = dict(turn1_input_ids=i32(inputs["input_ids"][0]), turn1_ids=i32(reply))
        inputs = dict(whole, input_ids=torch.cat([ids[:, :first], torch.tensor([reply]), ids[:, first + 1:]], 1))
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    ids, gap = greedy(family, inputs, NEW)
    gaps.append(gap)
    if gap < GAP or len(set(ids)) < DISTINCT:
        return {}, gap, len(set(ids))
    tensors = facts(family, inputs, rates)
    tensors.update(extra, logits_last=run(family, inputs)[-8:], greedy_ids=i32(ids))
    return tensors, min(gaps), len(set(ids))


def check_image(family):
    """Loaded by hand, the checkpoint gives what 5.23 stored for `image`."""
    stored = load_file(family.folder / "image.safetensors")
    inputs, _ = family.inputs(json.loads((family.folder / "image.messages.json").read_text()))
    assert torch.equal(inputs["input_ids"][0].int(), stored["input_ids"])
    difference = float((run(family, inputs)[-8:] - stored["logits_last"]).abs().max())
    assert difference < 1e-4, difference
    return difference


@torch.no_grad()
def check_alive(family):
    """How far the classic mistakes move the last logits of `video_fps`."""
    inputs, _ = family.inputs(cases(family, QUESTIONS[0])["video_fps"]["messages"])
    right, report = run(family, inputs)[-1], {}
    pixels, grid = inputs["pixel_values_videos"], inputs["video_grid_thw"]
    per = len(pixels) // int(grid[0, 0])
    moved = lambda **other: round(float((run(family, dict(inputs, **other))[-1] - right).abs().max()), 3)  # noqa: E731
    report["frames in reverse"] = moved(pixel_values_videos=pixels.reshape(-1, per, pixels.shape[1]).flip(0).reshape(pixels.shape))
    again = pixels.clone()
    again[-per:] = again[-2 * per:-per]
    report["another last frame"] = moved(pixel_values_videos=again)
    if family.kind == "qwen2_5_vl":
        report["one second a patch"] = moved(second_per_grid_ts=torch.ones(1))
    visual = family.model.visual
    # Attention over all frames at once: one segment instead of one a frame.
    merged = torch.tensor([[1, int(grid[0, 0] * grid[0, 1]), int(grid[0, 2])]])
    features = visual(pixels, grid_thw=grid)
    wrong = visual(pixels, grid_thw=merged)
    if isinstance(features, tuple):
        features, wrong = features[0], wrong[0]
    report["attention over all frames"] = round(float((wrong - features).abs().max()), 3)
    assert min(report.values()) > 0.1, report
    return report


def make_timestamps():
    """text/timestamps.json: rows [first, second, fps, text]: source frames of a temporal patch, their rate, the words before it."""
    processor = transformers.Qwen3VLProcessor
    rows, seen = [], set()
    for fps in (1.0, 2.0, 4.0, 5.0, 8.0, 10.0, 12.5, 20.0, 23.976, 24.0, 25.0, 29.97, 30.0, 30000 / 1001, 50.0, 59.94, 60.0, 0.5):
        for a, b in ((0, 1), (0, 0), (1, 2), (2, 3), (3, 4), (7, 7), (5, 9), (10, 21), (24, 36), (48, 48), (99, 100), (0, 15), (1, 11),
                     (899, 915), (1799, 1801), (4500, 4513), (107892, 107904), (12, 23), (33, 66)):
            (time,) = processor._calculate_timestamps(None, [a, b], fps, 2)
            text = f"<{time:.1f} seconds>"
            halfway = abs(time * 10 % 1 - 0.5) < 1e-6
            if halfway or (fps, text) not in seen:
                rows.append([a, b, fps, text])
                seen.add((fps, text))
    known = {(a, b, fps): text for a, b, fps, text in rows}
    assert known[0, 1, 2.0] == "<0.2 seconds>" and known[1, 2, 2.0] == "<0.8 seconds>" and known[2, 3, 2.0] == "<1.2 seconds>"
    write_json(TEXT / "timestamps.json", rows)
    return len(rows)


def make_positions():
    """positions_video.json (Qwen2.5-VL and Qwen2-VL) and positions_qwen3.json: layouts as in positions.json, and videos among them:
    {"video": [frames, patch rows, patch columns], "second_per_grid": seconds} or, for Qwen3-VL, "between": text tokens from frame to
    frame. From get_rope_index, checked against the written-out rule."""
    clip = lambda t, h, w, pace: {"video": [t, h, w], "pace": pace}  # noqa: E731
    layouts = [
        [5, clip(3, 4, 4, 1.0), 3], [5, clip(3, 4, 4, 0.6), 3], [5, clip(8, 4, 4, 1.6), 4], [2, clip(1, 4, 6, 1.0), 1],
        [2, clip(12, 4, 2, 0.25), 3], [2, clip(9, 2, 2, 0.7), 2], [3, clip(4, 2, 2, 0.9), 2], [1, clip(2, 12, 4, 1.0), 2],
        [3, [4, 6], 2, clip(5, 4, 4, 1.0), 2, [6, 4], 3], [4, clip(3, 4, 6, 0.5), 2, clip(6, 2, 4, 2.0), 2, [4, 4], 5],
        [2, clip(40, 2, 2, 0.0667), 1], [7, clip(20, 4, 4, 1.0333333), 2, [2, 2], 1], [1, clip(3, 2, 2, 12.5), 1], [1, clip(6, 2, 2, 0.1), 9],
    ]
    kinds = {"4.51.3": ["qwen2_5_vl", "qwen2_vl"], "4.57.6": ["qwen3_vl"]}[transformers.__version__]
    rows = []
    for kind in kinds:
        model = {"qwen2_5_vl": "qwen2_5_vl.modeling_qwen2_5_vl.Qwen2_5_VLForConditionalGeneration", "qwen2_vl":
                 "qwen2_vl.modeling_qwen2_vl.Qwen2VLForConditionalGeneration", "qwen3_vl": "qwen3_vl.modeling_qwen3_vl.Qwen3VLModel"}[kind]
        module, _, name = model.rpartition(".")
        config_name = {"qwen2_5_vl": "Qwen2_5_VLConfig", "qwen2_vl": "Qwen2VLConfig", "qwen3_vl": "Qwen3VLConfig"}[kind]

        class Bare:  # get_rope_index needs nothing of the model but its configuration
            config = getattr(transformers, config_name)(
                image_token_id=7, video_token_id=8, vision_start_token_id=6,
                vision_config={"tokens_per_second": 2} if kind == "qwen2_5_vl" else {})
            get_rope_index = getattr(importlib.import_module(f"transformers.models.{module}"), name).get_rope_index

        start, pads = Bare.config.vision_start_token_id, {1: Bare.config.image_token_id, 2: Bare.config.video_token_id}
        for layout in layouts:
            ids, told, order, paces, found = [], [], [], [], {1: [], 2: []}
            for number, part in enumerate(layout):
                if isinstance(part, int):  # a medium is found by the mark before it
                    ids += [5] * (part - 1) + [start if number + 1 < len(layout) else 5]
                    told.append(part)
                    continue
                which = 2 if isinstance(part, dict) else 1
                t, h, w = part["video"] if which == 2 else (1, *part)
                between = 3 + len(found[2]) % 3
                for k in range(t if kind == "qwen3_vl" and which == 2 else 1):
                    ids += ([5] * (between - 1) + [start]) * (k > 0)
                    ids += [pads[which]] * (h * w // 4 * (1 if kind == "qwen3_vl" else t))
                    order.append([1 if kind == "qwen3_vl" else t, h, w])
                    paces.append(part["pace"] if which == 2 and kind == "qwen2_5_vl" else 0.5)
                found[which].append([t, h, w])
                told.append(part if which == 1 else {"video": [t, h, w], "between": between} if kind == "qwen3_vl" else
                            {"video": [t, h, w], "second_per_grid": part["pace"]})
            tensor = torch.tensor([ids])
            grids = [torch.tensor(found[k]) if found[k] else None for k in (1, 2)]
            more = [torch.tensor([p["pace"] for p in layout if isinstance(p, dict)])] if kind == "qwen2_5_vl" else []
            positions, delta = Bare().get_rope_index(tensor, *grids, *more, attention_mask=torch.ones_like(tensor))
            types = (tensor[0] == pads[1]).long() + 2 * (tensor[0] == pads[2]).long()
            time = lambda medium, k: int(np.float32(k) * np.float32(paces[medium]) * np.float32(2))  # noqa: E731
            assert (positions[:, 0].tolist(), int(delta)) == reference_positions(types.tolist(), order, time=time), (kind, layout)
            rows.append({"model_type": kind, "layout": told, **dict(zip("thw", positions[:, 0].tolist())), "rope_delta": int(delta)})
    write_json(ROOT / ("positions_qwen3.json" if kinds == ["qwen3_vl"] else "positions_video.json"), rows)
    return len(rows)


def main():
    for name in MADE_BY:
        family = Family(name)
        difference = check_image(family)
        index = {}
        for case in cases(family, ""):
            for last, question in itertools.product(QUESTIONS[::-4], QUESTIONS):
                told = cases(family, question, last)[case]
                tensors, gap, distinct = make_case(family, case, told)
                if gap >= GAP and distinct >= DISTINCT:
                    break
                print(f"  {name} {case} {question!r}: gap {gap:.4f}, {distinct} distinct", flush=True)
            else:
                raise SystemExit(f"{name} {case}: no question gives clear winners")
            write_tensors(family.folder / f"{case}.safetensors", tensors)
            write_json(family.folder / f"{case}.messages.json", told["messages"])
            index[case] = {"messages": f"{case}.messages.json", "tensors": f"{case}.safetensors", "add_generation_prompt": True,
                           "add_vision_id": told.get("add_vision_id", False), "prompt_tokens": len(tensors["input_ids"]),
                           "smallest_gap": round(gap, 5), "distinct_greedy_ids": distinct}
            if "then" in told:
                write_json(family.folder / f"{case}.then.messages.json", told["then"])
                index[case].update(then=f"{case}.then.messages.json", turn1_new_tokens=TURN1_NEW)
        moved = check_alive(family)
        write_json(family.folder / "videos.json", {"transformers": transformers.__version__, "tokenizer_ids": family.used,
                                                   "moved_by_wrong_rules": moved, "cases": index})
        print(f"{name}: image differs from 5.23 by {difference:.1e}, {moved}", flush=True)
    print(f"{make_positions()} rows of positions")
    if "qwen3_vl" in MADE_BY:
        print(f"{make_timestamps()} timestamps")


if __name__ == "__main__":
    main()
