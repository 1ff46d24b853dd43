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
from symbols import INDEX, ORDER, SLOTS, Code
from tokens import build_tokenizer

KINDS = ["button", "link", "label", "heading", "field"]
COLORS = ["red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "gray", "black", "white"]
ALPHABET = "".join(chr(c) for c in range(32, 127)) + "€£"
GLYPH = {c: i + 1 for i, c in enumerate(ALPHABET)}  # 0 is "no character here"

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


def frame(screen: Screen, w: int, h: int, rng: random.Random, tries: int = 8) -> tuple[int, int, list[dict]] | None:
    """Where a w x h view may stand so that it shows at least one element and cuts none, and the elements it shows."""
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
            return ox, oy, kept
    return None


def cut(screen: Screen, w: int, h: int, ox: int, oy: int) -> np.ndarray:
    """The pixels of a view; the page colour continues beyond the edges."""
    rows = np.clip(np.arange(oy, oy + h), 0, screen.h - 1)
    cols = np.clip(np.arange(ox, ox + w), 0, screen.w - 1)
    return screen.pixels()[rows][:, cols]


# ---- what stands where ----------------------------------------------------------------------------------------------

CODE = Code(len(ALPHABET) + 1, len(KINDS) + 1, len(COLORS), 192)
DIGITS = (5, 10, 10)  # hundreds, tens and ones of a pixel coordinate


def targets(items: list[dict], w: int, h: int) -> dict[str, np.ndarray]:
    """Per 28 px cell: its characters, left to right; kind, colour and place of its element in reading order; which character of
    the text the cell's first one is; the element's edges relative to the cell. 0 is "nothing" in each but the edges. `digits`
    spells the edges from the picture's corner (-100: no element)."""
    rows, cols = h // CELL, w // CELL
    glyph = np.zeros((rows, cols, SLOTS), np.int64)
    kind, color, index, order = (np.zeros((rows, cols), np.int64) for _ in range(4))
    edges = np.zeros((rows, cols, 4), np.int64)
    digits = np.full((rows, cols, 4, 3), -100, np.int64)
    used: dict[tuple[int, int], int] = {}
    best = np.zeros((rows, cols))
    for n, item in enumerate(items):
        for i, (c, x, y) in enumerate(item["chars"]):
            cell = int(y // CELL), int(x // CELL)
            if not (0 <= cell[0] < rows and 0 <= cell[1] < cols):
                continue
            k = used.get(cell, 0)
            if k == 0:
                index[cell] = min(i + 1, INDEX)
            if k < SLOTS:
                glyph[cell][k] = GLYPH.get(c, 0)
                used[cell] = k + 1
        x1, y1, x2, y2 = item["box"]
        for r in range(y1 // CELL, min(rows - 1, (y2 - 1) // CELL) + 1):
            for k in range(x1 // CELL, min(cols - 1, (x2 - 1) // CELL) + 1):
                t, l = r * CELL, k * CELL
                area = (min(x2, l + CELL) - max(x1, l)) * (min(y2, t + CELL) - max(y1, t))
                if area > best[r, k]:
                    best[r, k] = area
                    kind[r, k] = 1 + KINDS.index(item["kind"])
                    color[r, k] = 1 + COLORS.index(item["color"])
                    order[r, k] = 1 + min(n, ORDER - 1)
                    edges[r, k] = x1 - l, y1 - t, x2 - l, y2 - t
                    digits[r, k] = [(v // 100, v // 10 % 10, v % 10) for v in (x1, y1, x2, y2)]
    return {"glyph": glyph, "kind": kind, "color": color, "index": index, "order": order, "edges": edges, "digits": digits}


class Places:
    """Where every character of every element stands: cell (raster index) and slot in the cell."""

    def __init__(self, items: list[dict], w: int, h: int):
        rows, cols = h // CELL, w // CELL
        used: dict[int, int] = {}
        self.of: list[list[tuple[int, int]]] = []
        for item in items:
            at = []
            for _, x, y in item["chars"]:
                r, c = int(y // CELL), int(x // CELL)
                cell = min(max(r, 0), rows - 1) * cols + min(max(c, 0), cols - 1)
                at.append((cell, min(used.get(cell, 0), SLOTS - 1)))
                used[cell] = used.get(cell, 0) + 1
            self.of.append(at)

    def __call__(self, item: int, char: int) -> tuple[int, int]:
        """Cell and slot of a character; one past the last is the place after it in the last one's cell."""
        at = self.of[item]
        if char < len(at):
            return at[char]
        return at[-1][0], min(at[-1][1] + 1, SLOTS)


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


def draw_questions(items: list[dict], n: int, rng: random.Random, share: dict[str, float] = SHARE) -> list[Asked]:
    pool = questions(items, rng)
    kinds = [k for k in pool if pool[k]]
    out = []
    for kind in rng.choices(kinds, [share[k] for k in kinds], k=n):
        question, reply, about = rng.choice(pool[kind])
        if all(question != q[0] for q in out):
            out.append((question, reply, None if about is None else next(n for n, i in enumerate(items) if i is about), kind))
    return out


# ---- token sequences ------------------------------------------------------------------------------------------------

TOK = build_tokenizer()
PAD, IMAGE = TOK.token_to_id("<|endoftext|>"), TOK.token_to_id("<|image_pad|>")
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
USER, ASSISTANT, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n"
_cache: dict[str, tuple[list[int], list[int]]] = {}


def spell(text: str) -> tuple[list[int], list[int]]:
    """Tokens and the character at which each begins."""
    if text not in _cache:
        if len(_cache) > 50000:
            _cache.clear()
        got = TOK.encode(text, add_special_tokens=False)
        _cache[text] = got.ids, [a for a, _ in got.offsets]
    return _cache[text]


def encode(text: str) -> list[int]:
    return spell(text)[0]


def image_tokens(grid: tuple[int, int]) -> list[int]:
    return encode("<|vision_start|>") + [IMAGE] * (grid[0] * grid[1]) + encode("<|vision_end|>")


@dataclass
class Sequence:
    ids: list[int]
    answer: list[float]  # how much it counts that this token is predicted
    segment: list[int]  # a token sees earlier tokens of segment 0 and of its own
    position: list[tuple[int, int, int]]
    images: int
    hints: list[tuple[int, int, int, int, int, int]]  # token, element, cell, character, slot, part: see `collate`
    owners: list[int]  # element shown by each image token, -1 for none


@dataclass
class Picture:
    """What a conversation needs to know about a view."""
    grid: tuple[int, int]
    items: list[dict]
    places: Places
    order: np.ndarray


# Where a hint stands: in the question's quotation, or in the answer to a question that names its element by looks or by text.
QUOTED, BY_LOOKS, BY_TEXT = range(3)
WEIGHT = {"color": 4.0, "count": 4.0, "locate": 0.5}  # short answers would drown among long ones


class Writer:
    """Writes a conversation token by token, exactly as the chat template renders it, and notes for every token that reads the
    screen where it should look: that teaches attention directly."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.answer: list[float] = []
        self.segment: list[int] = []
        self.pictures: list[Picture] = []
        self.hints: list[tuple[int, int, int, int, int, int]] = []
        self.owners: list[int] = []
        self.start = 0  # of the latest picture's tokens

    def add(self, ids: list[int], answer: float = 0.0, segment: int = 0) -> None:
        self.ids += ids
        self.answer += [answer] * len(ids)
        self.segment += [segment] * len(ids)

    def image(self, picture: Picture) -> None:
        self.start = len(self.ids) + 1
        self.add(image_tokens(picture.grid))
        self.owners += [100 * len(self.pictures) + n - 1 if n else -1 for n in picture.order.flatten().tolist()]
        self.pictures.append(picture)

    def hint(self, token: int, item: int, char: int | None, part: int) -> None:
        at = 100 * (len(self.pictures) - 1) + min(item, ORDER - 1)
        if char is None:
            self.hints.append((token, at, -1, -1, -1, part))
        else:
            cell, slot = self.pictures[-1].places(item, char)
            self.hints.append((token, at, self.start + cell, min(char, INDEX - 1), slot, part))

    def turn(self, question: str, reply: str, item: int | None, kind: str, segment: int = 0) -> None:
        """From the question to the end of the reply; the opening of the user turn is already written. `item`: asked about."""
        items = self.pictures[-1].items if self.pictures else []
        ids, at = spell(question + END + ASSISTANT)
        quoted = item is not None and f'"{items[item]["text"]}"' in question
        if quoted:
            begin, n = question.index('"') + 1, len(items[item]["text"])
            for k, a in enumerate(at):
                if begin <= a < begin + n:
                    self.hint(len(self.ids) + k, item, a - begin, QUOTED)
        self.add(ids, 0.0, segment)
        ids, at = spell(reply + "<|im_end|>")
        spans = []  # of the reply: first character, end (the place after the text counts), element
        if kind == "read":
            begin = 0
            for n, it in enumerate(items):
                spans.append((begin, begin + len(it["text"]) + 1, n))
                begin += len(it["text"]) + 1
        elif kind in ("button", "text"):
            spans = [(0, len(reply) + 1, item)]
        elif kind == "locate":
            begin = reply.index('"label": "') + 10
            spans = [(begin, begin + len(items[item]["text"]) + 1, item)]
        for k, a in enumerate(at):
            token = len(self.ids) + k - 1
            for begin, end, n in spans:
                if begin <= a < end:
                    self.hint(token, n, a - begin, BY_TEXT if quoted else BY_LOOKS)
                    break
            else:
                if item is not None:
                    self.hint(token, item, None, BY_TEXT if quoted else BY_LOOKS)
        self.add(ids, WEIGHT.get(kind, 1.0), segment)

    def done(self) -> Sequence:
        pos, _ = positions(self.ids, IMAGE, [p.grid for p in self.pictures])
        if any(self.segment):  # every segment continues from the end of the shared beginning
            start = self.segment.index(1)
            at = pos[start][0]
            count: dict[int, int] = {}
            for i in range(start, len(pos)):
                n = count.get(self.segment[i], 0)
                pos[i] = (at + n,) * 3
                count[self.segment[i]] = n + 1
        return Sequence(self.ids, self.answer, self.segment, pos, len(self.pictures), self.hints, self.owners)


Asked = tuple[str, str, int | None, str]  # question, answer, element asked about, kind of question


def packed(picture: Picture, qa: list[Asked]) -> Sequence:
    """Several single-question conversations about one image that share their beginning but do not see each other."""
    w = Writer()
    w.add(encode(SYSTEM + USER))
    w.image(picture)
    for i, one in enumerate(qa):
        w.turn(*one, segment=i + 1)
    return w.done()


def chat(screens: list[tuple[Picture, list[Asked]]], text_first: bool, numbered: bool) -> Sequence:
    """One conversation; every further screen comes with a later user turn, and questions are about the latest one."""
    w = Writer()
    w.add(encode(SYSTEM))
    for n, (picture, qa) in enumerate(screens):
        for i, (question, reply, item, kind) in enumerate(qa):
            w.add(encode(USER))
            if i == 0:
                if text_first:
                    w.add(encode(question))
                if numbered:
                    w.add(encode(f"Picture {n + 1}: "))
                w.image(picture)
                w.turn("" if text_first else question, reply, item, kind)
            else:
                w.turn(question, reply, item, kind)
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

    def views(self, size: tuple[int, int], n: int) -> list[tuple[Screen, int, int, list[dict]]]:
        pool = self.near.get(size, self.screens)
        out = []
        while len(out) < n:
            screen = self.rng.choice(pool)
            if got := frame(screen, *size, self.rng):
                out.append((screen, *got))
        return out

    def size(self, small: float) -> tuple[int, int]:
        return self.rng.choice(SMALL if self.rng.random() < small else LARGE)

    def dense_batch(self, cells: int, small: float) -> dict[str, torch.Tensor]:
        """About `cells` merged tokens of images, with what stands in them."""
        w, h = size = self.size(small)
        views = self.views(size, max(2, cells * CELL * CELL // (w * h)))
        truth = [targets(v[3], w, h) for v in views]
        return {"pixels": pixels(views, w, h)} | {k: torch.from_numpy(np.stack([t[k] for t in truth])) for k in truth[0]}

    def text_batch(self, tokens: int, small: float, turns: float, paint: bool) -> dict[str, torch.Tensor]:
        """Conversations of about `tokens` tokens, `turns` questions per image; pixels only if `paint`."""
        rng = self.rng
        w, h = size = self.size(small)
        grid = h // CELL, w // CELL
        n = max(2, round(tokens / (20 + grid[0] * grid[1] + 33 * turns)))
        views = self.views(size, n)
        truth = [targets(v[3], w, h) for v in views]
        pictures = [Picture(grid, v[3], Places(v[3], w, h), t["order"]) for v, t in zip(views, truth)]
        sequences, i = [], 0
        while i < n:
            ask = lambda j: draw_questions(views[j][3], max(1, round(turns * rng.uniform(0.7, 1.3))), rng)  # noqa: E731
            style = rng.random()
            if style < 0.72:
                sequences.append(packed(pictures[i], ask(i)))
            elif style < 0.94 or i + 1 == n:
                sequences.append(chat([(pictures[i], ask(i))], rng.random() < 0.4, rng.random() < 0.1))
            else:
                sequences.append(chat([(pictures[i], ask(i)[:2]), (pictures[i + 1], ask(i + 1)[:3])], rng.random() < 0.3, rng.random() < 0.3))
            i += sequences[-1].images
        batch = {k: torch.from_numpy(np.stack([t[k] for t in truth])) for k in truth[0]} | collate(sequences)
        return batch | ({"pixels": pixels(views, w, h)} if paint else {})


def pixels(views: list[tuple[Screen, int, int, list[dict]]], w: int, h: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([cut(screen, w, h, ox, oy) for screen, ox, oy, _ in views]))


def collate(sequences: list[Sequence]) -> dict[str, torch.Tensor]:
    """hints [k, 7]: row, token, element, place in the sequence of the cell, character, slot (-1: none), part; owner [n, t]:
    the element an image token shows, -1 for none."""
    n, t = len(sequences), max(len(s.ids) for s in sequences)
    t += -t % 16
    ids = torch.full((n, t), PAD)
    answer = torch.zeros(n, t)
    segment = torch.full((n, t), -1)
    position = torch.zeros(n, t, 3, dtype=torch.long)
    owner = torch.full((n, t), -1)
    for i, s in enumerate(sequences):
        k = len(s.ids)
        ids[i, :k] = torch.tensor(s.ids)
        answer[i, :k] = torch.tensor(s.answer)
        segment[i, :k] = torch.tensor(s.segment)
        position[i, :k] = torch.tensor(s.position)
        owner[i, :k][torch.tensor(s.ids) == IMAGE] = torch.tensor(s.owners)
    hints = torch.tensor([(i, *hint) for i, s in enumerate(sequences) for hint in s.hints]).long()
    return {"ids": ids, "answer": answer, "segment": segment, "position": position, "owner": owner, "hints": hints}


def attention_mask(segment: torch.Tensor) -> torch.Tensor:
    t = segment.shape[1]
    sees = (segment[:, None, :] == 0) | (segment[:, None, :] == segment[:, :, None])
    sees &= torch.ones(t, t, dtype=torch.bool).tril()
    return torch.zeros(sees.shape).masked_fill_(~sees, -1e9)[:, None]


if __name__ == "__main__":
    import data  # so that the packed screens belong to this module, not to __main__
    data.pack(Path(sys.argv[1]))
