"""Screens as training material: packing, cropping, questions, token sequences and the tower's dense targets.

`python data.py DIR` packs the pages `screens.mjs` wrote into DIR/packed-*.pkl.
"""

from __future__ import annotations

import json
import pickle
import random
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from model import CELL, positions
from tokens import build_tokenizer

KINDS = ["button", "link", "label", "heading", "field"]
COLORS = ["red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "gray", "black", "white"]
ALPHABET = "".join(chr(c) for c in range(32, 127)) + "€£"
GLYPH = {c: i + 1 for i, c in enumerate(ALPHABET)}  # 0 is "no character here"
SLOTS, BINS = 6, 7  # characters per cell in order; the same by position, in bins of 4 px

LARGE = [(168, 112), (196, 112), (224, 112), (224, 168), (252, 140), (280, 168), (280, 196), (308, 140), (308, 224), (336, 168),
         (336, 224), (336, 280), (364, 252), (392, 224), (392, 308), (420, 196), (448, 224), (448, 280), (448, 336), (224, 280),
         (196, 224), (252, 336)]
SMALL = [(112, 56), (140, 56), (168, 56), (224, 56), (168, 84), (196, 84), (252, 84), (224, 112), (168, 112), (140, 84)]


@dataclass
class Screen:
    blob: bytes  # zlib of the u8 pixels
    w: int
    h: int
    items: list[dict]

    def pixels(self) -> np.ndarray:
        return np.frombuffer(zlib.decompress(self.blob), np.uint8).reshape(self.h, self.w, 3)


def read_pages(folder: Path, first: int = 0, last: int | None = None):
    for path in sorted(folder.glob("page-*.json"))[first:last]:
        page = np.asarray(Image.open(path.with_suffix(".png")).convert("RGB"))
        for s in json.loads(path.read_text()):
            cut = page[s["y"]:s["y"] + s["h"], s["x"]:s["x"] + s["w"]]
            yield Screen(zlib.compress(np.ascontiguousarray(cut).tobytes(), 3), s["w"], s["h"], s["items"])


def pack(folder: Path, pages: int = 100) -> None:
    count = len(list(folder.glob("page-*.json")))
    for n, first in enumerate(range(0, count, pages)):
        out = folder / f"packed-{n:02}.pkl"
        if not out.exists() and (first + pages <= count or "--rest" in sys.argv):
            out.with_suffix(".tmp").write_bytes(pickle.dumps(list(read_pages(folder, first, first + pages))))
            out.with_suffix(".tmp").rename(out)


def load(folder: Path) -> list[Screen]:
    return [s for p in sorted(folder.glob("packed-*.pkl")) for s in pickle.loads(p.read_bytes())]


# ---- cropping -------------------------------------------------------------------------------------------------------


def view(screen: Screen, w: int, h: int, rng: random.Random, tries: int = 8) -> tuple[np.ndarray, list[dict]] | None:
    """A w x h view that shows at least one element and cuts none; the page colour continues beyond the edges."""
    for _ in range(tries):
        x1, y1, x2, y2 = rng.choice(screen.items)["box"]
        lo, hi = max(x2 + 2 - w, min(0, screen.w - w)), min(x1 - 2, max(0, screen.w - w))
        top, low = max(y2 + 2 - h, min(0, screen.h - h)), min(y1 - 2, max(0, screen.h - h))
        if lo > hi or top > low:
            continue
        ox, oy = rng.randint(lo, hi), rng.randint(top, low)
        kept = []
        for item in screen.items:
            a, b, c, d = item["box"]
            if a >= ox + 1 and b >= oy + 1 and c <= ox + w - 1 and d <= oy + h - 1:
                kept.append(item | {"box": [a - ox, b - oy, c - ox, d - oy],
                                    "chars": [(t, x - ox, y - oy) for t, x, y in item["chars"]]})
            elif a < ox + w and c > ox and b < oy + h and d > oy:
                break
        else:
            rows = np.clip(np.arange(oy, oy + h), 0, screen.h - 1)
            cols = np.clip(np.arange(ox, ox + w), 0, screen.w - 1)
            return screen.pixels()[rows][:, cols], kept
    return None


# ---- the tower's dense targets --------------------------------------------------------------------------------------


def dense_targets(items: list[dict], w: int, h: int) -> dict[str, np.ndarray]:
    """Per 28 px cell: its characters, left to right; the kind and colour of its element; where that one's edges run."""
    rows, cols = h // CELL, w // CELL
    glyph = np.zeros((rows, cols, SLOTS), np.int64)
    bins = np.zeros((rows, cols, BINS), np.int64)
    kind = np.zeros((rows, cols), np.int64)
    color = np.full((rows, cols), -100, np.int64)
    edge = np.zeros((rows, cols, 4), np.int64)
    used: dict[tuple[int, int], int] = {}
    best = np.zeros((rows, cols))
    for item in items:
        for c, x, y in item["chars"]:
            cell = int(y // CELL), int(x // CELL)
            n = used.get(cell, 0)
            if n < SLOTS and 0 <= cell[0] < rows and 0 <= cell[1] < cols:
                glyph[cell][n] = GLYPH.get(c, 0)
                bins[cell][int(x % CELL) * BINS // CELL] = GLYPH.get(c, 0)
                used[cell] = n + 1
        x1, y1, x2, y2 = item["box"]
        for r in range(y1 // CELL, min(rows - 1, (y2 - 1) // CELL) + 1):
            for k in range(x1 // CELL, min(cols - 1, (x2 - 1) // CELL) + 1):
                t, l = r * CELL, k * CELL
                area = (min(x2, l + CELL) - max(x1, l)) * (min(y2, t + CELL) - max(y1, t))
                if area > best[r, k]:
                    best[r, k] = area
                    kind[r, k] = 1 + KINDS.index(item["kind"])
                    color[r, k] = COLORS.index(item["color"])
                    edge[r, k] = [v - o + 1 if o <= v < o + CELL else 0 for v, o in ((x1, l), (y1, t), (x2, l), (y2, t))]
    return {"glyph": glyph, "bins": bins, "kind": kind, "color": color, "edge": edge}


DIGITS = (5, 10, 10)  # hundreds, tens and ones of a pixel coordinate
INDEX, ORDER = 32, 10


def map_targets(items: list[dict], w: int, h: int) -> dict[str, np.ndarray]:
    """Per cell, what the decoder needs to walk the screen (-100: nothing to say): which character of its text the first one
    in the cell is, which element in reading order it belongs to, and the decimal digits of the edges that run in it."""
    rows, cols = h // CELL, w // CELL
    index = np.full((rows, cols), -100, np.int64)
    order = np.full((rows, cols), -100, np.int64)
    digits = np.full((rows, cols, 4, 3), -100, np.int64)
    for n, item in enumerate(items):
        for i, (_, x, y) in enumerate(item["chars"]):
            r, c = int(y // CELL), int(x // CELL)
            if 0 <= r < rows and 0 <= c < cols and index[r, c] < 0:
                index[r, c] = min(i, INDEX - 1)
        x1, y1, x2, y2 = item["box"]
        r1, c1, r2, c2 = y1 // CELL, x1 // CELL, min(rows - 1, (y2 - 1) // CELL), min(cols - 1, (x2 - 1) // CELL)
        order[r1:r2 + 1, c1:c2 + 1] = min(n, ORDER - 1)
        for k, (v, part) in enumerate(((x1, (slice(r1, r2 + 1), c1)), (y1, (r1, slice(c1, c2 + 1))),
                                       (x2, (slice(r1, r2 + 1), c2)), (y2, (r2, slice(c1, c2 + 1))))):
            digits[part + (k,)] = (v // 100, v // 10 % 10, v % 10)
    return {"index": index, "order": order, "digits": digits}


# ---- questions ------------------------------------------------------------------------------------------------------


def box_json(item: dict) -> str:
    return json.dumps([{"bbox_2d": item["box"], "label": item["text"]}], ensure_ascii=False)


def questions(items: list[dict], rng: random.Random) -> dict[str, list[tuple[str, str, dict | None]]]:
    """Every answerable question, grouped by the kind of task; (question, answer, element asked about)."""
    by_kind = {k: [i for i in items if i["kind"] == k] for k in KINDS}
    out: dict[str, list] = {k: [] for k in ("button", "text", "color", "locate", "count", "read")}
    inked = by_kind["link"] + by_kind["label"] + by_kind["heading"]
    alone = lambda group, key: sum(i[key[0]] == key[1] for i in group) == 1  # noqa: E731
    for item in items:
        kind, color, text = item["kind"], item["color"], item["text"]
        names = []  # ways to point at the element without its text
        if kind in ("button", "link") and alone(by_kind[kind], ("color", color)):
            names.append(f"{color} {kind}")
        if kind in ("link", "label", "heading") and alone(inked, ("color", color)):
            names.append(f"{color} text")
        if len(by_kind[kind]) == 1:
            names.append({"field": rng.choice(["text field", "field"])}.get(kind, kind))
        for name in names:
            ask = {"button": [f"What does the {name} say?"] * 3 + [f"What is written on the {name}?", f"Read the {name}.",
                              f"What is the text on the {name}?"],
                   "field": [f"What does the {name} say?", f"What is written in the {name}?", f"What is in the {name}?"],
                   "heading": ["What is the heading?"]}.get(kind, []) + [f"What does the {name} say?", f"Read the {name}."]
            if name == f"{color} button":
                ask.append(f"Which button is {color}?")
            out["button" if kind == "button" else "text"].append((rng.choice(ask), text, item))
            out["locate"].append((rng.choice([f"Locate the {name}.", f"Where is the {name}?", f"Find the {name}."]), box_json(item), item))
        noun = kind if kind in ("button", "link", "heading") else "text field" if kind == "field" else "text"
        quoted = f'"{text}" {noun}' if noun != "text" else f'text "{text}"'
        if kind != "field":
            out["color"].append((rng.choice([f"What color is the {quoted}?"] * 2 + [f"What is the color of the {quoted}?",
                                             f"Which color is the {quoted}?"]), color, item))
        out["locate"] += [(rng.choice([f"Locate the {quoted}.", f"Where is the {quoted}?", f"Find the {quoted}."]), box_json(item), item)] * 2
        out["locate"].append((rng.choice([f'Locate "{text}".', f'Where is "{text}"?', f'Find "{text}".']), box_json(item), item))
    prices = [i for i in items if i["text"][0] in "$€£"]
    if len(prices) == 1:
        out["text"].append((rng.choice(["What is the price?", "How much is it?"]), prices[0]["text"], prices[0]))
    what = rng.choice(["button"] * 4 + ["link", "field"])
    things = {"field": "text fields"}.get(what, what + "s")
    out["count"].append((rng.choice([f"How many {things} are there?"] * 3 + [f"How many {things} are on the screen?", f"Count the {things}."]),
                         str(len(by_kind[what])), None))
    out["read"].append((rng.choice(["Read the text."] * 4 + ["Read all the text.", "What does the screen say?", "What text is on the screen?",
                                    "What text is in the image?"]), "\n".join(i["text"] for i in items), None))
    return out


SHARE = {"button": 3.0, "text": 2.5, "color": 1.3, "locate": 2.2, "count": 0.6, "read": 1.4}


def draw_questions(items: list[dict], n: int, rng: random.Random, share: dict[str, float] = SHARE) -> list[tuple[str, str]]:
    pool = questions(items, rng)
    kinds = [k for k in pool if pool[k]]
    out = []
    for kind in rng.choices(kinds, [share[k] for k in kinds], k=n):
        question = rng.choice(pool[kind])[:2]
        if question not in out:
            out.append(question)
    return out


# ---- token sequences ------------------------------------------------------------------------------------------------

TOK = build_tokenizer()
PAD, IMAGE = TOK.token_to_id("<|endoftext|>"), TOK.token_to_id("<|image_pad|>")
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
USER, ASSISTANT, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n"
_cache: dict[str, list[int]] = {}


def encode(text: str) -> list[int]:
    if text not in _cache:
        if len(_cache) > 50000:
            _cache.clear()
        _cache[text] = TOK.encode(text, add_special_tokens=False).ids
    return _cache[text]


def image_tokens(grid: tuple[int, int]) -> list[int]:
    return encode("<|vision_start|>") + [IMAGE] * (grid[0] * grid[1]) + encode("<|vision_end|>")


@dataclass
class Sequence:
    ids: list[int]
    answer: list[bool]  # is this token to be predicted
    segment: list[int]  # a token sees earlier tokens of segment 0 and of its own
    position: list[tuple[int, int, int]]
    images: int


class Writer:
    """Writes a conversation token by token, exactly as the chat template renders it."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.answer: list[bool] = []
        self.segment: list[int] = []
        self.grids: list[tuple[int, int]] = []

    def add(self, ids: list[int], answer: bool = False, segment: int = 0) -> None:
        self.ids += ids
        self.answer += [answer] * len(ids)
        self.segment += [segment] * len(ids)

    def image(self, grid: tuple[int, int]) -> None:
        self.add(image_tokens(grid))
        self.grids.append(grid)

    def turn(self, question: str, reply: str, segment: int = 0) -> None:
        """From the question to the end of the reply; the opening of the user turn is already written."""
        self.add(encode(question + END + ASSISTANT), False, segment)
        self.add(encode(reply + "<|im_end|>"), True, segment)

    def done(self) -> Sequence:
        pos, _ = positions(self.ids, IMAGE, self.grids)
        if any(self.segment):  # every segment continues from the end of the shared beginning
            start = self.segment.index(1)
            at = pos[start][0]
            count: dict[int, int] = {}
            for i in range(start, len(pos)):
                n = count.get(self.segment[i], 0)
                pos[i] = (at + n,) * 3
                count[self.segment[i]] = n + 1
        return Sequence(self.ids, self.answer, self.segment, pos, len(self.grids))


def packed(grid: tuple[int, int], qa: list[tuple[str, str]]) -> Sequence:
    """Several single-question conversations about one image that share their beginning but do not see each other."""
    w = Writer()
    w.add(encode(SYSTEM + USER))
    w.image(grid)
    for i, (question, reply) in enumerate(qa):
        w.turn(question, reply, i + 1)
    return w.done()


def chat(grid: tuple[int, int], screens: list[list[tuple[str, str]]], text_first: bool, numbered: bool) -> Sequence:
    """One conversation; every further screen comes with a later user turn, and questions are about the latest one."""
    w = Writer()
    w.add(encode(SYSTEM))
    for n, qa in enumerate(screens):
        for i, (question, reply) in enumerate(qa):
            w.add(encode(USER))
            if i == 0:
                picture = encode(f"Picture {n + 1}: ") if numbered else []
                if text_first:
                    w.add(encode(question))
                w.add(picture)
                w.image(grid)
                w.turn("" if text_first else question, reply)
            else:
                w.turn(question, reply)
            w.add(encode("\n"))
    return w.done()


# ---- batches --------------------------------------------------------------------------------------------------------


class Source:
    """Batches of views of one size. Screens are grouped by size so that a view shows most of its screen."""

    def __init__(self, screens: list[Screen], seed: int):
        self.rng = random.Random(seed)
        self.screens = screens
        self.near: dict[tuple[int, int], list[Screen]] = {}
        for w, h in LARGE:
            self.near[w, h] = [s for s in screens if w - 60 <= s.w <= w + 90 and h - 60 <= s.h <= h + 90]

    def views(self, size: tuple[int, int], n: int) -> tuple[torch.Tensor, list[list[dict]]]:
        pool = self.near.get(size, self.screens)
        pixels, items = [], []
        while len(pixels) < n:
            if got := view(self.rng.choice(pool), *size, self.rng):
                pixels.append(got[0])
                items.append(got[1])
        return torch.from_numpy(np.stack(pixels)), items

    def size(self, small: float) -> tuple[int, int]:
        return self.rng.choice(SMALL if self.rng.random() < small else LARGE)

    def dense_batch(self, cells: int, small: float) -> dict[str, torch.Tensor]:
        """About `cells` merged tokens of images, with the tower's targets."""
        w, h = size = self.size(small)
        pixels, items = self.views(size, max(2, cells * CELL * CELL // (w * h)))
        targets = [dense_targets(i, w, h) for i in items]
        return {"pixels": pixels} | {k: torch.from_numpy(np.stack([t[k] for t in targets])) for k in targets[0]}

    def text_batch(self, tokens: int, small: float, turns: float) -> dict[str, torch.Tensor]:
        """Conversations of about `tokens` tokens, `turns` questions per image."""
        rng = self.rng
        w, h = size = self.size(small)
        grid = h // CELL, w // CELL
        n = max(2, round(tokens / (20 + grid[0] * grid[1] + 33 * turns)))
        pixels, items = self.views(size, n)
        sequences, i = [], 0
        while i < n:
            ask = lambda j: draw_questions(items[j], max(1, round(turns * rng.uniform(0.7, 1.3))), rng)  # noqa: E731
            style = rng.random()
            if style < 0.72:
                sequences.append(packed(grid, ask(i)))
            elif style < 0.94 or i + 1 == n:
                sequences.append(chat(grid, [ask(i)], rng.random() < 0.4, rng.random() < 0.1))
            else:
                sequences.append(chat(grid, [ask(i)[:2], ask(i + 1)[:3]], rng.random() < 0.3, rng.random() < 0.3))
            i += sequences[-1].images
        targets = [map_targets(i, w, h) for i in items]
        return {"pixels": pixels} | {k: torch.from_numpy(np.stack([t[k] for t in targets])) for k in targets[0]} | collate(sequences)


def collate(sequences: list[Sequence]) -> dict[str, torch.Tensor]:
    n, t = len(sequences), max(len(s.ids) for s in sequences)
    t += -t % 16
    ids = torch.full((n, t), PAD)
    answer = torch.zeros(n, t, dtype=torch.bool)
    segment = torch.full((n, t), -1)
    position = torch.zeros(n, t, 3, dtype=torch.long)
    for i, s in enumerate(sequences):
        k = len(s.ids)
        ids[i, :k] = torch.tensor(s.ids)
        answer[i, :k] = torch.tensor(s.answer)
        segment[i, :k] = torch.tensor(s.segment)
        position[i, :k] = torch.tensor(s.position)
    return {"ids": ids, "answer": answer, "segment": segment, "position": position}


def attention_mask(segment: torch.Tensor) -> torch.Tensor:
    t = segment.shape[1]
    sees = (segment[:, None, :] == 0) | (segment[:, None, :] == segment[:, :, None])
    sees &= torch.ones(t, t, dtype=torch.bool).tril()
    return torch.zeros(sees.shape).masked_fill_(~sees, -1e9)[:, None]


if __name__ == "__main__":
    import data  # so that the packed screens belong to this module, not to __main__
    data.pack(Path(sys.argv[1]))
