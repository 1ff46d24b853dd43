"""images/: a few drawn pictures in every container the engine must read.

They are drawn, not photographed, so the script owns every pixel; gradients, thin lines, text and hard edges make
resampling errors visible. Files are named content_WIDTHxHEIGHT.ext; the name gives the size as stored, so for the
EXIF picture (orientation 6) the upright size is the transpose of it.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .common import IMAGES, write_json


FACTOR32 = "merged grid of 32 pixels: "
FRAME = "frame of a video: "


def canvas(width, height, hue=0):
    """Smooth two-dimensional colour ramps plus a slow ripple; `hue` rotates the channels."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = x / max(width - 1, 1), y / max(height - 1, 1)
    ripple = 24 * np.sin(6.0 * u * np.pi + 2.0 * v * np.pi)
    planes = [40 + 190 * u + ripple, 225 - 170 * v - ripple, 60 + 150 * u * v + 0.5 * ripple]
    planes = planes[hue:] + planes[:hue]
    return Image.fromarray(np.clip(np.rint(np.stack(planes, -1)), 0, 255).astype(np.uint8), "RGB")


def scene(width, height, hue=0, label="Fan"):
    """Ramps, a disc, a tilted bar, one-pixel stripes and a word."""
    image = canvas(width, height, hue)
    draw = ImageDraw.Draw(image)
    s = min(width, height)
    draw.ellipse((0.08 * width, 0.12 * height, 0.08 * width + 0.5 * s, 0.12 * height + 0.5 * s), fill=(230, 30, 40))
    draw.polygon([(0.55 * width, 0.9 * height), (0.95 * width, 0.3 * height), (0.99 * width, 0.42 * height),
                  (0.62 * width, 0.97 * height)], fill=(20, 40, 200), outline=(255, 255, 255))
    for k in range(0, s // 3, 2):
        draw.line((0.06 * width + k, 0.72 * height, 0.06 * width + k, 0.93 * height), fill=(0, 0, 0))
    if s >= 40:
        draw.text((0.5 * width, 0.06 * height), label, fill=(255, 255, 0), font=ImageFont.load_default(size=max(10, s // 5)))
    return image


def page(width, height, hue=0):
    """White paper with lines of small text, a grid and a shaded block."""
    image = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=11)
    words = "fanlight reads pages of small print 0123456789 with care and patience".split()
    y, k = 4, hue
    while y + 12 < height * 0.6:
        x = 5
        while x < width - 30:
            draw.text((x, y), words[k % len(words)], fill=(20, 20, 20 + 40 * (k % 3)), font=font)
            x += 7 * len(words[k % len(words)]) + 6
            k += 1
        y += 14
    top = int(height * 0.62)
    for x in range(6, width // 2, 9):
        draw.line((x, top, x, height - 6), fill=(180, 60, 60))
    for yy in range(top, height - 5, 7):
        draw.line((6, yy, width // 2, yy), fill=(60, 120, 60))
    block = canvas(max(width // 2 - 14, 1), max(height - 6 - top, 1), hue)
    image.paste(block, (width // 2 + 6, top))
    return image


def with_alpha(width, height):
    image = scene(width, height, 1).convert("RGBA")
    y, x = np.mgrid[0:height, 0:width]
    alpha = np.clip(300 * x / width - 20, 0, 255)
    alpha[(x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 5) ** 2] = 0  # a hole
    image.putalpha(Image.fromarray(np.rint(alpha).astype(np.uint8), "L"))
    return image


def frame(width, height, k):
    """Frame k of a video: a disc crosses slowly drifting ramps, and the frame's number stands in a corner."""
    image = canvas(width, height, 1)
    image.paste(image.crop((0, 0, width - 5 * k, height)), (5 * k, 0))
    draw = ImageDraw.Draw(image)
    x, y, r = width * (0.1 + 0.12 * k), height * (0.3 + 0.06 * k), height * 0.2
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(250, 40 + 25 * k, 30))
    draw.text((2, height - 16), str(k), fill=(255, 255, 255), font=ImageFont.load_default(size=13))
    return image


def make():
    IMAGES.mkdir(parents=True, exist_ok=True)
    for old in IMAGES.iterdir():
        old.unlink()
    png = {"format": "PNG", "optimize": True, "compress_level": 9}
    out = {}

    def save(name, image, note, **kwargs):
        image.save(IMAGES / name, **kwargs)
        with Image.open(IMAGES / name) as stored:
            out[name] = {"stored": [stored.width, stored.height], "upright": [stored.width, stored.height],
                         "mode": stored.mode, "note": note}

    # Sizes that are multiples of 28: the processor leaves the pixels alone, so model goldens can be exact.
    save("scene_140x84.png", scene(140, 84), "merged grid 3x5", **png)
    save("scene_84x140.png", scene(84, 140, 1, "Up"), "merged grid 5x3", **png)
    save("page_252x140.png", page(252, 140), "merged grid 5x9: 2x3 windows", **png)
    save("page_308x196.png", page(308, 196, 2), "merged grid 7x11: 2x3 windows", **png)
    save("scene_168x112.png", scene(168, 112, 2, "Box"), "merged grid 4x6: the height is exactly one window", **png)
    save("scene_56x56.png", scene(56, 56, 1, "i"), "merged grid 2x2, the smallest at the default limits", **png)
    # Sizes that are not: every container and pixel format once.
    save("alpha_97x61.png", with_alpha(97, 61), "RGBA with partial alpha: composited over white", **png)
    save("palette_130x75.png", scene(130, 75, 2).quantize(48, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE),
         "palette", **png)
    pal = scene(61, 43, 1).quantize(20, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    save("palette_alpha_61x43.png", pal, "palette with a tRNS chunk (partial alpha)",
         transparency=bytes([0, 90, 180] + [255] * 17), **png)
    save("gray_101x67.png", scene(101, 67).convert("L"), "8-bit grey", **png)
    gray_alpha = with_alpha(50, 70).convert("LA")
    save("gray_alpha_50x70.png", gray_alpha, "grey with alpha", **png)
    save("bits_90x45.png", page(90, 45).convert("1", dither=Image.Dither.NONE), "1-bit", **png)
    save("photo_150x95.jpg", scene(150, 95), "JPEG 4:2:0: decoders may differ by a level or two",
         format="JPEG", quality=88, subsampling=2)
    save("photo444_61x97.jpg", scene(61, 97, 1), "JPEG 4:4:4", format="JPEG", quality=92, subsampling=0)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("exif6_120x80.jpg", scene(120, 80, 0, "^"), "EXIF orientation 6: rotate 90 degrees clockwise to display",
         format="JPEG", quality=92, subsampling=0, exif=exif)
    out["exif6_120x80.jpg"]["upright"] = [80, 120]
    save("lossless_120x90.webp", scene(120, 90, 2), "WebP lossless", format="WEBP", lossless=True, quality=100, method=6)
    save("lossless_alpha_60x44.webp", with_alpha(60, 44), "WebP lossless with alpha", format="WEBP", lossless=True,
         quality=100, method=6, exact=True)
    frames = [scene(75, 50, h).quantize(40, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for h in (0, 2)]
    save("two_frames_75x50.gif", frames[0], "two frames: the first counts", format="GIF", save_all=True,
         append_images=frames[1:], duration=200, loop=0)
    save("scene_61x37.bmp", scene(61, 37, 1), "BMP, 24 bits, rows padded", format="BMP")
    save("tiny_14x14.png", scene(14, 14, 2), "below min_pixels", **png)
    save("tall_30x700.png", scene(30, 700, 1), "aspect ratio 23", **png)
    save("noise_53x41.png", Image.fromarray(np.random.default_rng(7).integers(0, 256, (41, 53, 3), np.uint8)),
         "noise with full-range steps: clamping and ringing", **png)
    # Multiples of 32 for Qwen3-VL, whose merged token is 32 pixels wide: the same merged grids as above.
    save("scene_160x96.png", scene(160, 96), FACTOR32 + "3x5", **png)
    save("scene_96x160.png", scene(96, 160, 1, "Up"), FACTOR32 + "5x3", **png)
    save("page_288x160.png", page(288, 160), FACTOR32 + "5x9", **png)
    save("page_352x224.png", page(352, 224, 2), FACTOR32 + "7x11", **png)
    save("scene_192x128.png", scene(192, 128, 2, "Box"), FACTOR32 + "4x6", **png)
    save("scene_64x64.png", scene(64, 64, 1, "i"), FACTOR32 + "2x2", **png)
    # Two videos of seven frames, whose merged grid is 2x3: for merged tokens of 28 and of 32 pixels.
    for prefix, width, height in (("vid", 84, 56), ("vid32", 96, 64)):
        for k in range(7):
            save(f"{prefix}_{k:02}.png", frame(width, height, k), FRAME + str(k), **png)
    write_json(IMAGES / "images.json", out)
    return out


def load(path):
    """What a user sees: PIL decode, EXIF orientation applied, first frame; the pixel format (alpha, palette) is kept,
    so that the image processor does the conversion to RGB."""
    from PIL import ImageOps
    with Image.open(path) as stored:
        stored.seek(0)
        return ImageOps.exif_transpose(stored).copy()
