"""video.json: which frames of a video qwen-vl-utils takes, and how large it makes them.

Its own `fetch_video` runs, over a decoder that decodes nothing: torchcodec's interface, frames that take no memory, and a
resize that notes what it was asked for. Lists of pictures are not here: 0.0.14 gives `fetch_image` a patch size of 28 for
them, so that they are resized twice, first to multiples of 56. Long floats are texts: readers of JSON round them as they like.
"""

import os
import random
import sys
import types

os.environ["FORCE_QWENVL_VIDEO_READER"] = "torchcodec"
os.environ.pop("MODEL_SEQ_LEN", None)

import torch  # noqa: E402
from qwen_vl_utils import vision_process  # noqa: E402

from .common import ROOT, write_json  # noqa: E402

TOKEN = 28 * 28
# (frames, frames per second, height, width, options)
CASES = [
    (300, 30.0, 1080, 1920, {}), (300, 30000 / 1001, 1080, 1920, {}), (250, 25.0, 480, 640, {}), (240, 24000 / 1001, 360, 640, {}),
    (120, 12.5, 720, 1280, {}), (3600, 60.0, 1920, 1080, {}), (108000, 30.0, 1080, 1920, {}), (20000, 23.976, 2160, 3840, {}),
    (4, 2.0, 100, 100, {}), (3, 30.0, 100, 100, {}), (2, 30.0, 224, 224, {}), (7, 30.0, 224, 224, {}), (5, 1.0, 224, 224, {}),
    (15, 7.5, 224, 224, {}), (100, 1.0, 224, 224, {}), (60, 0.5, 224, 224, {}),
    (300, 30.0, 480, 640, {"fps": 1.0}), (300, 30.0, 480, 640, {"fps": 4.0}), (300, 30.0, 480, 640, {"fps": 0.1}),
    (300, 30.0, 480, 640, {"fps": 60.0}), (300, 30.0, 480, 640, {"fps": 0.75, "min_frames": 7}),
    (300, 30.0, 480, 640, {"fps": 5.0, "max_frames": 13}), (300, 30.0, 480, 640, {"min_frames": 30, "max_frames": 10}),
    (300, 30.0, 480, 640, {"max_frames": 1000, "fps": 29.0}), (300, 30.0, 480, 640, {"min_frames": 0, "fps": 0.01}),
    (300, 30.0, 480, 640, {"min_frames": 0, "fps": 0.3}), (5000, 30.0, 480, 640, {"max_frames": 1500, "fps": 30.0}),
    (300, 30.0, 480, 640, {"nframes": 8}), (300, 30.0, 480, 640, {"nframes": 3}), (300, 30.0, 480, 640, {"nframes": 5}),
    (300, 30.0, 480, 640, {"nframes": 1}), (300, 30.0, 480, 640, {"nframes": 300}), (300, 30.0, 480, 640, {"nframes": 302}),
    (9, 30.0, 480, 640, {"nframes": 9}), (9, 30.0, 480, 640, {"nframes": 10}), (101, 30.0, 480, 640, {"nframes": 10}),
    (13, 30.0, 480, 640, {"nframes": 9}), (300, 30.0, 480, 640, {"nframes": 8, "fps": 2.0}),
    (300, 30.0, 480, 640, {"video_start": 2.0}), (300, 30.0, 480, 640, {"video_end": 3.5}),
    (300, 30.0, 480, 640, {"video_start": 2.01, "video_end": 7.99}), (300, 30.0, 480, 640, {"video_start": 0.1, "video_end": 0.2}),
    (300, 30.0, 480, 640, {"video_start": 5.0, "video_end": 5.0}), (300, 30.0, 480, 640, {"video_start": 7.0, "video_end": 2.0}),
    (300, 30.0, 480, 640, {"video_start": -4.0, "video_end": 400.0}), (300, 30.0, 480, 640, {"video_start": 10.0}),
    (300, 30.0, 480, 640, {"video_start": 50.0}), (300, 30000 / 1001, 480, 640, {"video_start": 1.001, "video_end": 8.008}),
    (300, 30.0, 480, 640, {"video_start": 3.0, "nframes": 6}), (300, 30.0, 480, 640, {"video_end": 0.0}),
    (300, 30.0, 480, 640, {"max_pixels": 360 * 420}), (300, 30.0, 480, 640, {"max_pixels": 10**9}),
    (300, 30.0, 480, 640, {"max_pixels": 1000}), (300, 30.0, 1080, 1920, {"min_pixels": 16 * TOKEN, "max_pixels": 64 * TOKEN}),
    (300, 30.0, 1080, 1920, {"min_pixels": 4 * TOKEN, "total_pixels": 20480 * TOKEN}),
    (9000, 30.0, 1080, 1920, {"total_pixels": 20480 * TOKEN}), (9000, 30.0, 1080, 1920, {"total_pixels": 24576 * TOKEN, "min_pixels": 16 * TOKEN}),
    (9000, 30.0, 1080, 1920, {"total_pixels": 1}), (300, 30.0, 1080, 1920, {"min_pixels": 1000 * TOKEN}),
    (300, 30.0, 1080, 1920, {"resized_height": 280, "resized_width": 420}), (300, 30.0, 1080, 1920, {"resized_height": 42, "resized_width": 70}),
    (300, 30.0, 1080, 1920, {"resized_height": 10, "resized_width": 10}), (300, 30.0, 1080, 1920, {"resized_height": 9000, "resized_width": 9000}),
    (300, 30.0, 1080, 1920, {"resized_height": 280, "resized_width": 280, "total_pixels": 1}),
    (300, 30.0, 20, 4000, {}), (300, 30.0, 20, 4001, {}), (300, 30.0, 10, 1000, {}), (300, 30.0, 8, 8, {}), (300, 30.0, 42, 70, {}),
    (300, 30.0, 4320, 7680, {}), (300, 30.0, 481, 853, {}),
]


def drawn(random):
    """A video and options as people have them."""
    fps = random.choice([2.0, 10.0, 12.5, 15.0, 24.0, 24000 / 1001, 25.0, 29.97, 30.0, 30000 / 1001, 50.0, 60.0, random.uniform(0.2, 240)])
    frames = random.choice([random.randint(1, 40), random.randint(40, 2000), random.randint(40, 2000), random.randint(2000, 500000)])
    side = lambda: random.choice([120, 144, 240, 270, 360, 480, 540, 640, 720, 853, 1080, 1280, 1920, random.randint(16, 3000)])
    options, chance = {}, lambda p: random.random() < p
    if chance(0.5):
        options["fps" if chance(0.5) else "nframes"] = random.randint(1, 96)
    if "fps" in options:
        options["fps"] = random.choice([0.5, 1.0, 1.5, 2.0, 4.0, round(random.uniform(0.01, 8), 4)])
    if chance(0.2):
        options["min_frames"] = random.randint(0, 20)
    if chance(0.5) or frames > 2000:
        options["max_frames"] = random.randint(2, 99)
    seconds = frames / fps
    if chance(0.3):
        options["video_start"] = round(random.uniform(0, seconds * 0.7), random.randint(0, 6))
    if chance(0.3):
        options["video_end"] = round(random.uniform(options.get("video_start", 0), seconds), random.randint(0, 6))
    if chance(0.2):
        options["min_pixels"] = random.randint(1, 300) * random.choice([TOKEN, 1024, 1000])
    if chance(0.3):
        options["max_pixels"] = random.randint(100, 1000) * random.choice([TOKEN, 1024, 1000])
    if chance(0.3):
        options["total_pixels"] = random.randint(100, 30000) * random.choice([TOKEN, 1024, 1000])
    if chance(0.1):
        options["resized_height"], options["resized_width"] = random.randint(10, 2000), random.randint(10, 2000)
    return frames, fps, side(), side(), options


def fetch(frames, fps, height, width, options, patch):
    """(indices, sample_fps, height, width), or None where qwen-vl-utils refuses."""
    class VideoDecoder:
        metadata = types.SimpleNamespace(average_fps=fps, num_frames=frames)

        def __init__(self, path, num_ffmpeg_threads):
            pass

        def get_frames_at(self, indices):
            return types.SimpleNamespace(data=torch.zeros(1, dtype=torch.uint8).expand(len(indices), 3, height, width))

    sizes = []

    def resize(video, size, interpolation, antialias):
        sizes.append(size)
        return torch.zeros(1)

    decoders = types.ModuleType("torchcodec.decoders")
    decoders.VideoDecoder = VideoDecoder
    sys.modules["torchcodec"], sys.modules["torchcodec.decoders"] = types.ModuleType("torchcodec"), decoders
    functional = vision_process.transforms.functional
    original, functional.resize = functional.resize, resize
    try:
        (_, metadata), sample_fps = vision_process.fetch_video(
            {"video": "x", **options}, image_patch_size=patch, return_video_sample_fps=True, return_video_metadata=True)
    # Whatever its readers refuse ends in torchvision's reader, which is no longer there.
    except (AssertionError, ValueError, AttributeError):
        return None
    finally:
        functional.resize = original
        del sys.modules["torchcodec"], sys.modules["torchcodec.decoders"]
    return [metadata["frames_indices"], str(sample_fps), *sizes[0]]


def make():
    vision_process.logger.setLevel("ERROR")
    dice = random.Random(14)
    cases = CASES + [drawn(dice) for _ in range(330)]
    rows = []
    for number, (frames, fps, height, width, options) in enumerate(cases):
        patch = 16 if number % 5 == 4 else 14
        found = fetch(frames, fps, height, width, options, patch)
        rows.append([frames, str(fps), height, width, patch, options, found])
    write_json(ROOT / "video.json", rows)
    return {"rows": len(rows), "refused": sum(row[-1] is None for row in rows)}
