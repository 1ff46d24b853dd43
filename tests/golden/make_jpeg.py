"""JPEGs of unusual build, and what Pillow reads in them.

    venv/bin/python make_jpeg.py        # needs Pillow and numpy; writes jpeg/

Common encoders do not write most of these, so they are written here, by T.81 (sections A.2, B.2, F.1 and K.3): blocks of one value,
except for every third one, which also has a wave. `jpeg/cases.json` lists them. Pillow 13.0.0 (libjpeg-turbo) says what they show.
"""
import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent / "jpeg"
# Table K.3 without its last lengths: a category is its own value. For waves: end of block, and one coefficient of 4 bits.
DC = {category: (code, length) for category, (code, length) in enumerate(
    [(0, 2), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (14, 4), (30, 5), (62, 6), (126, 7), (254, 8), (510, 9)])}
DC_LENGTHS = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
AC = {0x00: (0, 2), 0x04: (1, 2)}
AC_LENGTHS = [0, 2] + [0] * 14


class Bits:
    def __init__(self):
        self.text = ""

    def put(self, value, length):
        self.text += format(value, f"0{length}b") if length else ""

    def take(self):
        text = self.text + "1" * (-len(self.text) % 8)
        self.text = ""
        return bytes(int(text[i:i + 8], 2) for i in range(0, len(text), 8)).replace(b"\xff", b"\xff\0")


def number(value):
    """Category and bits of a coefficient."""
    size = abs(value).bit_length()
    return size, value if value >= 0 else value + (1 << size) - 1


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def write(size, factors, scans=None, restart=0, ids=None, adobe=None, seed=0, low=60, high=200):
    """A baseline JPEG. `factors` are (horizontal, vertical) of each component, `scans` lists of components."""
    width, height = size
    count = len(factors)
    ids = ids or list(range(1, count + 1))
    wide, tall = max(h for h, _ in factors), max(v for _, v in factors)
    across, down = -(-width // (8 * wide)), -(-height // (8 * tall))
    rng = np.random.default_rng(seed)
    # Quantizer 8, so that a coefficient is the difference of a block's value from 128.
    values = [rng.integers(low, high, (down * v, across * h)) - 128 for h, v in factors]
    out = b"\xff\xd8"
    if adobe is not None:
        out += segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([adobe]))
    out += segment(0xDB, b"\0" + bytes([8] * 64))
    parts = b"".join(bytes([i, h << 4 | v, 0]) for i, (h, v) in zip(ids, factors))
    out += segment(0xC0, struct.pack(">BHHB", 8, height, width, count) + parts)
    out += segment(0xC4, b"\0" + bytes(DC_LENGTHS) + bytes(range(12)))
    out += segment(0xC4, b"\x10" + bytes(AC_LENGTHS) + bytes([0x00, 0x04]))
    if restart:
        out += segment(0xDD, struct.pack(">H", restart))
    for scan in scans or [list(range(count))]:
        out += segment(0xDA, bytes([len(scan)]) + b"".join(bytes([ids[k], 0]) for k in scan) + b"\0\x3f\0")
        if len(scan) == 1:
            h, v = factors[scan[0]]
            columns, rows = -(-(-(-width * h // wide)) // 8), -(-(-(-height * v // tall)) // 8)
            units = [[(scan[0], y, x)] for y in range(rows) for x in range(columns)]
        else:
            units = [[(k, y * factors[k][1] + j, x * factors[k][0] + i)
                      for k in scan for j in range(factors[k][1]) for i in range(factors[k][0])]
                     for y in range(down) for x in range(across)]
        bits, before, data = Bits(), dict.fromkeys(scan, 0), b""
        for n, unit in enumerate(units):
            if restart and n and n % restart == 0:
                data += bits.take() + bytes([0xFF, 0xD0 + (n // restart - 1) % 8])
                before = dict.fromkeys(scan, 0)
            for k, y, x in unit:
                value = int(values[k][y, x])
                category, rest = number(value - before[k])
                before[k] = value
                bits.put(*DC[category])
                bits.put(rest, category)
                if (x + y) % 3 == 0:
                    bits.put(*AC[0x04])
                    bits.put(number(9 + (x + y) % 5)[1], 4)
                bits.put(*AC[0])
        out += data + bits.take()
    return out + b"\xff\xd9"


def cases():
    half, full = [(2, 2), (1, 1), (1, 1)], [(1, 1)] * 3
    split = [[0], [1], [2]]
    yield "one_scan", write((51, 45), half)
    yield "three_scans", write((51, 45), half, split)
    yield "two_scans", write((51, 45), half, [[0], [1, 2]])
    yield "colours_first", write((51, 45), half, [[1], [2], [0]])
    yield "restarts", write((51, 45), half, split, restart=3)
    yield "half_height", write((51, 45), [(1, 2), (1, 1), (1, 1)], split)
    yield "fine_colours", write((51, 45), [(1, 1), (2, 2), (2, 2)])
    yield "mixed", write((51, 45), [(2, 2), (2, 1), (1, 2)], [[0], [1, 2]])
    yield "thirds", write((51, 45), [(3, 1), (1, 1), (1, 1)])
    yield "thirds_split", write((51, 45), [(3, 2), (1, 1), (1, 1)], split)
    yield "rgb", write((21, 19), full, adobe=0)
    yield "rgb_by_ids", write((21, 19), full, ids=list(b"RGB"))
    yield "cmyk", write((21, 19), [(1, 1)] * 4, adobe=0)
    yield "ycck", write((21, 19), half + [(2, 2)], adobe=2)
    yield "grey", write((21, 19), [(2, 2)])
    photo = Image.open(HERE.parent / "images/photo_150x95.jpg").convert("RGB")
    for name, options in {"progressive": {"progressive": True}, "optimized": {"optimize": True}}.items():
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=88, **options)
        yield name, file.getvalue()
        yield name + "_cut", file.getvalue()[:len(file.getvalue()) * 2 // 3]
        yield name + "_without_end", file.getvalue()[:-2]


def main():
    HERE.mkdir(exist_ok=True)
    listed = []
    for name, file in cases():
        (HERE / f"{name}.jpg").write_bytes(file)
        try:
            picture = Image.open(io.BytesIO(file)).convert("RGB")
            picture.save(HERE / f"{name}.png", optimize=True)
            listed.append({"name": name, "size": picture.size, "error": None})
        except OSError as error:
            listed.append({"name": name, "size": None, "error": str(error)})
    (HERE / "cases.json").write_text(json.dumps(listed, indent=1) + "\n")


main()
