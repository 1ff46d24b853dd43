"""preprocess/, preprocess.json, smart_resize.json and resize.json: from image bytes to pixel_values.

transformers 5.23 has two image processors for this family: `Qwen2VLImageProcessor` (torchvision), which AutoProcessor
loads, and `Qwen2VLImageProcessorPil`. They agree on everything but the resampling. Both resample bicubically on bytes,
in two passes with rounding and clamping in between, so the order of the passes matters (up to 29 levels at hard edges):
 * torchvision goes over the rows first, with 16-bit weights;
 * Pillow up to 12 goes over the rows first, with 22-bit weights;
 * Pillow 13 goes over the columns first when the height shrinks more than the width (python-pillow #9549).
The exact target here is Pillow's arithmetic, rows first ("horizontal"): within one or two levels of what transformers
does by default, whatever Pillow is installed. The torchvision result is stored as the difference from it.
"""

import hashlib
import shutil

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessor
from transformers.image_utils import SizeDict, load_image, load_image_as_tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from . import images
from .common import IMAGES, PREPROCESS, ROOT, i32, write_json, write_tensors

LIMITS = {"shortest_edge": 3136, "longest_edge": 12845056}
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
TOKEN = 28 * 28

# (image, option set). Options are those of a message part in qwen-vl-utils: min_pixels, max_pixels,
# resized_height + resized_width.
EXTRA = [
    ("scene_140x84.png", {"max_pixels": 8 * TOKEN}),
    ("page_308x196.png", {"max_pixels": 20 * TOKEN}),
    ("photo_150x95.jpg", {"max_pixels": 10 * TOKEN}),
    ("tall_30x700.png", {"max_pixels": 12 * TOKEN}),
    ("tiny_14x14.png", {"min_pixels": 16 * TOKEN}),
    ("noise_53x41.png", {"min_pixels": 12 * TOKEN}),
    ("scene_61x37.bmp", {"min_pixels": 9 * TOKEN, "max_pixels": 12 * TOKEN}),
    ("scene_84x140.png", {"resized_height": 98, "resized_width": 70}),    # 3.5 -> 4, 2.5 -> 2: half to even
    ("page_252x140.png", {"resized_height": 101, "resized_width": 190}),
    ("noise_53x41.png", {"resized_height": 20, "resized_width": 300}),
]


# Qwen3-VL: patches of 16 pixels, merged tokens of 32, values in -1..1.
QWEN3 = {"patch_size": 16, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
LIMITS3 = {"shortest_edge": 4096, "longest_edge": 16777216}


class HorizontalFirst(Qwen2VLImageProcessorPil):
    """transformers' PIL backend with the order of passes pinned: what it computes with any Pillow before 13."""

    def to_size(self, image, height, width, resample):
        plain = super(Qwen2VLImageProcessorPil, self).resize
        image = plain(image=image, size=SizeDict(height=image.shape[-2], width=width), resample=resample)
        return plain(image=image, size=SizeDict(height=height, width=width), resample=resample)

    def resize(self, image, size, resample, factor, **kwargs):
        h, w = smart_resize(*image.shape[-2:], factor=factor, min_pixels=size.shortest_edge, max_pixels=size.longest_edge)
        return self.to_size(image, h, w, resample)


def pixels_to_rgb(values, grid):
    """Inverts patch order and normalisation; fails unless the result is whole numbers and both frames are alike."""
    _, gh, gw = grid
    x = np.asarray(values, np.float64).reshape(gh // 2, gw // 2, 2, 2, 3, 2, 14, 14)
    assert np.array_equal(x[:, :, :, :, :, 0], x[:, :, :, :, :, 1])
    x = x[:, :, :, :, :, 0].transpose(4, 0, 2, 5, 1, 3, 6).reshape(3, gh * 14, gw * 14)
    levels = (x * STD[:, None, None] + MEAN[:, None, None]) * 255
    rgb = np.rint(levels)
    assert np.abs(levels - rgb).max() < 1e-3
    return rgb.transpose(1, 2, 0).astype(np.uint8)


def run(processor, image, options):
    """(pixel_values, grid) of one image under message options."""
    if "resized_height" in options:
        # qwen-vl-utils: the wished size goes through smart_resize at the default limits; then no further resize.
        h, w = smart_resize(options["resized_height"], options["resized_width"], 28, LIMITS["shortest_edge"], LIMITS["longest_edge"])
        rgb = processor.process_image(image, do_convert_rgb=True)
        if isinstance(processor, HorizontalFirst):
            image = processor.to_size(rgb, h, w, processor.resample)
        else:  # the plain resize below the one that calls smart_resize
            image = super(Qwen2VLImageProcessor, processor).resize(rgb, SizeDict(height=h, width=w), resample=processor.resample)
        out = processor(images=[image], do_resize=False, return_tensors="pt")
    else:
        size = {"shortest_edge": options.get("min_pixels", LIMITS["shortest_edge"]),
                "longest_edge": options.get("max_pixels", LIMITS["longest_edge"])}
        out = processor(images=[image], size=size, return_tensors="pt")
    return out["pixel_values"], out["image_grid_thw"][0].tolist()


def make_images(sizes):
    if PREPROCESS.exists():
        shutil.rmtree(PREPROCESS)
    PREPROCESS.mkdir(parents=True)
    default, pil = Qwen2VLImageProcessor(size=LIMITS), HorizontalFirst(size=LIMITS)
    png = {"format": "PNG", "optimize": True}
    rows, counts = [], {}
    for name, options in [(n, {}) for n, facts in sizes.items() if not facts["note"].startswith((images.FACTOR32, images.FRAME))] + EXTRA:
        image = images.load(IMAGES / name)
        rgb = np.moveaxis(np.asarray(pil.process_image(image, do_convert_rgb=True)), 0, -1)
        assert torch.equal(default.process_image(image, do_convert_rgb=True), torch.from_numpy(rgb).permute(2, 0, 1))
        (a, grid), (b, grid_b) = run(pil, image, options), run(default, image, options)
        assert grid == grid_b
        exact, torchvision = pixels_to_rgb(a, grid), pixels_to_rgb(b, grid)
        delta = torchvision.astype(int) - exact
        stem = name.replace(".", "_")
        counts[stem] = counts.get(stem, 0) + 1
        stem += "" if counts[stem] == 1 else f"_{counts[stem]}"
        row = {"image": name, "options": options, "decoded_size": [rgb.shape[1], rgb.shape[0]],
               "decoded_sha256": hashlib.sha256(rgb.tobytes()).hexdigest(), "decoded": None,
               "resized_height": exact.shape[0], "resized_width": exact.shape[1], "grid_thw": grid,
               "pil": None, "torchvision_minus_pil": None,
               "torchvision_max_difference": int(np.abs(delta).max()),
               "torchvision_mean_difference": round(float(np.abs(delta).mean()), 5)}
        # Decoders of JPEG and blends of alpha may differ by rounding: keep what PIL saw.
        if not options and (name.endswith(".jpg") or "alpha" in name):
            row["decoded"] = f"preprocess/{stem}.decoded.png"
            Image.fromarray(rgb).save(ROOT / row["decoded"], **png)
        if not np.array_equal(exact.shape, rgb.shape) or not np.array_equal(exact, rgb):
            row["pil"] = f"preprocess/{stem}.png"
            Image.fromarray(exact).save(ROOT / row["pil"], **png)
            # Only for the extra options, to bound the size; for the rest the two statistics above are enough.
            if options and delta.any():
                row["torchvision_minus_pil"] = f"preprocess/{stem}.delta.png"
                assert np.abs(delta).max() < 120
                Image.fromarray((delta + 128).astype(np.uint8)).save(ROOT / row["torchvision_minus_pil"], **png)
        rows.append(row)
    write_json(ROOT / "preprocess.json", rows)
    return rows


def make_pixel_values():
    """Full pixel_values of one small picture whose grid is not square and which needs no resize: proves the patch
    order, the column order and the normalisation of both backends."""
    image = images.scene(84, 56, 1, "84")
    out = {"rgb": torch.from_numpy(np.asarray(image).copy())}
    for name, processor in (("pil", HorizontalFirst(size=LIMITS)), ("torchvision", Qwen2VLImageProcessor(size=LIMITS))):
        got = processor(images=[image], return_tensors="pt")
        out[name] = got["pixel_values"].float()
        out["image_grid_thw"] = i32(got["image_grid_thw"])
    assert (out["pil"] - out["torchvision"]).abs().max() < 2e-6
    out["pixel_values"] = out.pop("torchvision")
    difference = float((out.pop("pil") - out["pixel_values"]).abs().max())
    write_tensors(PREPROCESS / "pixel_values.safetensors", out)
    return difference


def make_pixel_values3():
    """The same for Qwen3-VL: patches of 16, rows of 1536."""
    image = images.scene(96, 64, 1, "84")
    got = Qwen2VLImageProcessor(size=LIMITS3, **QWEN3)(images=[image], return_tensors="pt")
    exact = HorizontalFirst(size=LIMITS3, **QWEN3)(images=[image], return_tensors="pt")
    assert (got["pixel_values"] - exact["pixel_values"]).abs().max() < 2e-6
    assert got["pixel_values"].shape == (24, 1536)
    write_tensors(PREPROCESS / "pixel_values_qwen3.safetensors", {
        "rgb": torch.from_numpy(np.asarray(image).copy()), "pixel_values": got["pixel_values"].float(),
        "image_grid_thw": i32(got["image_grid_thw"])})


def make_smart_resize():
    rng = np.random.default_rng(11)
    queries = []
    hub, small, default = (3136, 12845056), (4 * TOKEN, 1280 * TOKEN), (256 * TOKEN, 1280 * TOKEN)
    for limits in (hub, small):
        for h, w in ((1532, 1014), (1398, 870), (2400, 1080), (1280, 720), (480, 640), (1080, 1920), (2160, 3840),
                     (4000, 6000), (14, 14), (30, 30), (42, 70), (70, 98), (20, 4000), (10, 1000), (1, 200), (1, 1),
                     (28, 28), (27, 29), (56, 56), (13, 2600), (13, 2601), (1, 201), (201, 1), (200, 1), (5000, 25),
                     (5001, 25), (10000, 10000), (65500, 400), (3, 599), (14, 42), (126, 154), (182, 210)):
            queries.append((h, w, *limits, 28))
            queries.append((w, h, *limits, 28))
    for h in range(14, 300, 28):      # exact halves: Python rounds them to even
        queries.append((h, 500, *hub, 28))
        queries.append((h + 1, h, *default, 28))
    for _ in range(120):              # anything, and both limits close together
        h, w = (int(v) for v in rng.integers(1, 3000, 2))
        low = int(rng.integers(4, 300)) * TOKEN
        queries.append((h, w, low, low + int(rng.integers(1, 2000)) * TOKEN, 28))
    for _ in range(40):               # max_pixels that is no multiple of anything
        h, w = (int(v) for v in rng.integers(20, 5000, 2))
        queries.append((h, w, 3136, int(rng.integers(3136, 900000)), 28))
    for _ in range(40):               # other factors (Qwen3-VL has 32)
        h, w = (int(v) for v in rng.integers(8, 2000, 2))
        queries.append((h, w, 4096, int(rng.integers(20000, 2000000)), int(rng.choice([14, 16, 32, 56]))))
    for k in range(1, 12):            # exactly at the limits: comparisons are strict
        queries.append((28 * k, 56 * k, 28 * k * 56 * k, 28 * k * 56 * k, 28))
        queries.append((28 * k, 56 * k, 28 * k * 56 * k + 1, 28 * k * 56 * k * 2, 28))
        queries.append((28 * k + 28, 56 * k, 784, (28 * k + 28) * 56 * k - 1, 28))
    rows = []
    for h, w, low, high, factor in dict.fromkeys(queries):
        try:
            rows.append([h, w, low, high, factor, *smart_resize(h, w, factor, low, high)])
        except ValueError:
            rows.append([h, w, low, high, factor, None, None])
    write_json(ROOT / "smart_resize.json", rows)
    return len(rows)


def make_resize():
    """PIL's bicubic resize on small arrays, one channel (the channels are independent), as flat lists."""
    rng = np.random.default_rng(5)
    rows = []

    def add(array, width, height, note):
        array = np.asarray(array, np.uint8)
        image = Image.fromarray(array, "L").resize((width, array.shape[0]), Image.Resampling.BICUBIC)
        out = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
        rows.append({"note": note, "width": array.shape[1], "height": array.shape[0], "pixels": array.ravel().tolist(),
                     "to_width": width, "to_height": height, "expected": out.ravel().tolist()})

    add([[0, 50, 100, 150, 200, 255]], 4, 1, "fact sheet vector")
    add([[0, 255, 0, 255]], 6, 1, "fact sheet vector")
    add([[10, 200, 30, 90, 250, 0, 60, 128]], 3, 1, "fact sheet vector")
    add([[77]], 5, 3, "one pixel")
    add([[0, 255]], 9, 1, "two pixels, overshoot clamps")
    noise = lambda h, w: rng.integers(0, 256, (h, w))  # noqa: E731
    checker = lambda h, w: (np.add.outer(np.arange(h), np.arange(w)) % 2) * 255  # noqa: E731
    for (h, w), (th, tw) in (((5, 7), (3, 4)), ((3, 4), (9, 11)), ((8, 8), (8, 3)), ((8, 8), (3, 8)), ((8, 8), (8, 13)),
                             ((8, 8), (13, 8)), ((1, 30), (1, 7)), ((30, 1), (7, 1)), ((10, 9), (9, 10)), ((9, 10), (10, 9)),
                             ((6, 40), (12, 8)), ((40, 6), (8, 12)), ((13, 11), (12, 10)), ((4, 4), (16, 16)),
                             ((16, 16), (4, 4)), ((16, 17), (5, 3)), ((2, 3), (7, 5))):
        add(noise(h, w), tw, th, "noise")
        add(checker(h, w), tw, th, "checkerboard")
    add(noise(1, 150), 3, 1, "noise, 50 times smaller")
    add(noise(1, 3), 150, 1, "noise, 50 times larger")
    ramp = np.linspace(0, 255, 33).astype(int)[None].repeat(3, 0)
    add(ramp, 28, 3, "ramp"), add(ramp, 56, 3, "ramp"), add(255 - ramp, 61, 2, "ramp")
    assert [r["expected"] for r in rows[:3]] == [[14, 85, 164, 239], [0, 135, 236, 19, 120, 255], [90, 120, 78]]
    write_json(ROOT / "resize.json", rows)
    return len(rows)


def loader_facts():
    """How transformers' own two path loaders treat alpha and orientation, against compositing over white."""
    out = {}
    for name in ("alpha_97x61.png", "gray_alpha_50x70.png", "palette_alpha_61x43.png", "exif6_120x80.jpg"):
        white = np.moveaxis(np.asarray(Qwen2VLImageProcessorPil().process_image(images.load(IMAGES / name), do_convert_rgb=True)), 0, -1)
        by_pil = np.asarray(load_image(str(IMAGES / name)))
        by_torch = load_image_as_tensor(str(IMAGES / name)).permute(1, 2, 0).numpy()
        same = lambda x: "same" if np.array_equal(x, white) else (  # noqa: E731
            f"differs by up to {np.abs(x.astype(int) - white).max()}" if x.shape == white.shape else f"shape {x.shape}")
        out[name] = {"load_image": same(by_pil), "load_image_as_tensor": same(by_torch)}
    return out


def make(sizes):
    rows = make_images(sizes)
    make_pixel_values3()
    return {"cases": len(rows), "pixel_values_backend_difference": make_pixel_values(),
            "smart_resize": make_smart_resize(), "resize": make_resize(), "loaders": loader_facts(),
            "torchvision_max_difference": max(r["torchvision_max_difference"] for r in rows),
            "torchvision_mean_difference": max(r["torchvision_mean_difference"] for r in rows)}
