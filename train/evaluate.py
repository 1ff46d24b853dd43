"""Greedy answers of a `Reader`, and their score per kind of question."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass

import torch

from data import ASSISTANT, CELL, COLORS, END, IMAGE, PAD, SYSTEM, TOK, USER, Screen, encode, image_tokens, questions
from model import Reader, positions


@dataclass
class Question:
    screen: Screen
    kind: str
    text: str
    answer: str
    words: str  # how the element's text relates to training: seen, unseen, number, or "" where none is asked about


def pose(screens: list[Screen], seed: int, per_kind: int = 1) -> list[Question]:
    """For every screen up to `per_kind` questions of every kind."""
    rng = random.Random(seed)
    out = []
    for s in screens:
        for kind, pool in questions(s.items, rng).items():
            pool = list({q: (q, a, e) for q, a, e in pool}.values())
            for q, a, e in rng.sample(pool, min(per_kind, len(pool))):
                out.append(Question(s, kind, q, a, e["words"] if e else ""))
    return out


@torch.no_grad()
def answer(model: Reader, asked: list[Question], limit: int = 120) -> list[str]:
    """All questions must be about screens of one size."""
    n, s = len(asked), asked[0].screen
    grid = s.h // CELL, s.w // CELL
    unique = {id(q.screen): q.screen for q in asked}
    merged = dict(zip(unique, model.visual(torch.stack([torch.from_numpy(u.pixels().copy()) for u in unique.values()]))))
    rows = [encode(SYSTEM + USER) + image_tokens(grid) + encode(q.text + END + ASSISTANT) for q in asked]
    t = max(map(len, rows))
    ids = torch.full((n, t), PAD)
    position = torch.zeros(n, t, 3, dtype=torch.long)
    hidden = torch.zeros(n, 1, 1, t)  # left padding
    following = torch.zeros(n, dtype=torch.long)
    for i, row in enumerate(rows):
        pos, following[i] = positions(row, IMAGE, [grid])
        ids[i, t - len(row):] = torch.tensor(row)
        position[i, t - len(row):] = torch.tensor(pos)
        hidden[i, ..., :t - len(row)] = -1e9
    caches: list[list] = [[] for _ in model.language_model.layers]
    x = model.embed(ids, torch.stack([merged[id(q.screen)] for q in asked]))
    mask = hidden + torch.full((t, t), -1e9).triu(1)
    out = torch.empty(n, 0, dtype=torch.long)
    stop = TOK.token_to_id("<|im_end|>")
    for step in range(limit):
        h = model.language_model(x, position, mask, caches)
        token = model.logits(h[:, -1]).argmax(-1)
        out = torch.cat([out, token[:, None]], 1)
        if (out == stop).any(1).all():
            break
        x = model.language_model.embed_tokens(token)[:, None]
        position = (following + step)[:, None, None].expand(n, 1, 3)
        hidden = torch.cat([hidden, torch.zeros(n, 1, 1, 1)], -1)
        mask = hidden
    texts = []
    for row in out.tolist():
        texts.append(TOK.decode(row[:row.index(stop)] if stop in row else row, skip_special_tokens=False))
    return texts


def overlap(a: list[int], b: list[int]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, w) * max(0, h)
    return both / max(1, (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def correct(kind: str, given: str, truth: str) -> bool:
    if kind != "locate":
        return given == truth
    try:
        return overlap(json.loads(given)[0]["bbox_2d"], json.loads(truth)[0]["bbox_2d"]) >= 0.5
    except (ValueError, KeyError, IndexError, TypeError):
        return False


def ask_all(model: Reader, asked: list[Question], batch: int = 48) -> list[str]:
    groups = defaultdict(list)
    for i, q in enumerate(asked):
        groups[q.screen.w, q.screen.h].append(i)
    replies = [""] * len(asked)
    for group in groups.values():
        group.sort(key=lambda i: len(asked[i].answer))  # short answers finish together
        for k in range(0, len(group), batch):
            part = group[k:k + batch]
            for i, reply in zip(part, answer(model, [asked[i] for i in part])):
                replies[i] = reply
    return replies


def score(asked: list[Question], replies: list[str]) -> dict[str, float]:
    hits = defaultdict(list)
    for q, reply in zip(asked, replies):
        ok = correct(q.kind, reply, q.answer)
        hits[q.kind].append(ok)
        if q.kind in ("button", "text"):
            hits[f"{q.kind}/{q.words}"].append(ok)
        if q.kind == "read":
            lines = q.answer.split("\n")
            hits["read/lines"].append(sum(a == b for a, b in zip(reply.split("\n"), lines)) / len(lines))
    table = {k: sum(v) / len(v) for k, v in sorted(hits.items())}
    kinds = [v for k, v in table.items() if "/" not in k]
    return {"mean": sum(kinds) / len(kinds)} | table
