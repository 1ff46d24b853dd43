"""The language between tower and decoder while both are taught apart: a fixed code for what one merged token should say.

The tower learns to write this code from pixels; the decoder learns to read it, written straight from the truth. Neither has to
wait for the other, and the decoder's steps need no pixels at all. At the end the decoder is taught on what the tower really says.

The parts of the code stand side by side in the merged token: characters of the cell in order, kind and colour of its element,
index of the cell's first character in its text, place of the element in reading order, and the four edges relative to the cell.
Nothing says where the cell is: a tower with rotary positions cannot know, and the decoder can.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SCALE = 0.3  # size of one entry of the code
SLOTS, INDEX, ORDER = 6, 32, 10
PERIODS = (20, 60, 180, 600)  # pixels: the edges turn as angles at these


def book(rows: int, width: int, seed: int) -> np.ndarray:
    """Codes of +-1, the first one zero ("nothing"), chosen far apart."""
    rng = np.random.default_rng(seed)
    out = [np.zeros(width)]
    least = width // 2
    tries = 0
    while len(out) < rows:
        c = rng.choice([-1.0, 1.0], width)
        if all(np.sum(c != o) >= least for o in out[1:]):
            out.append(c)
        tries += 1
        if tries % 400 == 0:
            least -= 1
    return np.stack(out).astype(np.float32)


def angles(count: int, periods: tuple[float, ...]) -> np.ndarray:
    """[count, 2 * periods] points on circles."""
    at = np.arange(count)[:, None] * (2 * math.pi / np.array(periods))
    return np.concatenate([np.cos(at), np.sin(at)], 1).astype(np.float32)


class Code:
    """Books and where each part stands in the merged token."""

    def __init__(self, glyphs: int, kinds: int, colors: int, width: int):
        self.books = {"glyph": book(glyphs, 20, 1), "kind": book(kinds, 6, 2),
                      "color": np.concatenate([np.zeros((1, 8), np.float32), book(colors + 1, 8, 3)[1:]])}
        self.books["index"] = np.concatenate([np.zeros((1, 8)), angles(INDEX, (4, 9, 20, 70))]).astype(np.float32)
        self.books["order"] = np.concatenate([np.zeros((1, 8)), angles(ORDER, (3, 5, 12, 30))]).astype(np.float32)
        self.parts: dict[str, slice] = {}
        at = 0
        for name in [f"glyph{i}" for i in range(SLOTS)] + ["kind", "color", "index", "order"]:
            size = self.books[name.rstrip("012345")].shape[1]
            self.parts[name] = slice(at, at + size)
            at += size
        self.parts["edges"] = slice(at, at + 4 * 2 * len(PERIODS))
        if self.parts["edges"].stop > width:
            raise ValueError(f"the code needs {self.parts['edges'].stop} of {width} entries")
        self.width = width
        self.tensors = {k: torch.from_numpy(v) for k, v in self.books.items()}

    def write(self, truth: dict[str, np.ndarray]) -> np.ndarray:
        """truth of `targets`, any leading shape -> [..., width]"""
        out = np.zeros(truth["kind"].shape + (self.width,), np.float32)
        for i in range(SLOTS):
            out[..., self.parts[f"glyph{i}"]] = self.books["glyph"][truth["glyph"][..., i]]
        for name in ("kind", "color", "index", "order"):
            out[..., self.parts[name]] = self.books[name][truth[name]]
        out[..., self.parts["edges"]] = self.edges(truth["edges"]) * (truth["kind"] > 0)[..., None]
        return out * SCALE

    @staticmethod
    def edges(edges: np.ndarray) -> np.ndarray:
        at = edges[..., None] * (2 * math.pi / np.array(PERIODS))
        return np.concatenate([np.cos(at), np.sin(at)], -1).reshape(edges.shape[:-1] + (-1,)).astype(np.float32)

    def loss(self, merged: Tensor, truth: dict[str, Tensor], wanted: Tensor) -> tuple[Tensor, dict[str, float]]:
        """How far `merged` [n, width] is from the truth: as classes (the nearest code should be the right one) and as numbers."""
        x = merged.float() / SCALE
        stats: dict[str, float] = {}

        def classes(name: str, part: Tensor, at: Tensor, spread: float, weight: float) -> Tensor:
            codes = self.tensors[name]
            logits = (part @ codes.T - 0.5 * codes.pow(2).sum(1)) * spread
            balance = torch.ones(len(codes))
            balance[0] = 0.15
            hit = (logits.argmax(1) == at)[at > 0].float()
            stats[name] = hit.mean().item() if len(hit) else float("nan")
            return weight * F.cross_entropy(logits, at, balance)

        slots = x[:, :self.parts[f"glyph{SLOTS - 1}"].stop].reshape(-1, self.tensors["glyph"].shape[1])
        total = classes("glyph", slots, truth["glyph"].flatten(), 0.6, 2.0)
        for name, spread, weight in (("kind", 1.5, 0.3), ("color", 1.5, 0.5), ("index", 3.0, 0.5), ("order", 4.0, 0.4)):
            total = total + classes(name, x[:, self.parts[name]], truth[name].flatten(), spread, weight)
        here = truth["kind"].flatten() > 0
        off = (x[:, self.parts["edges"]] - wanted[:, self.parts["edges"]] / SCALE)[here]
        edges = off.pow(2).mean()
        stats["edge"] = edges.item()
        far = F.mse_loss(x, wanted / SCALE)
        stats["far"] = far.item()
        return total + 1.0 * edges + 0.5 * far, stats
