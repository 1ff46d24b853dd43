"""Writes held-out screens as PNG files with questions.json, for any engine to be measured on.

    python evalset.py --heldout DIR --out DIR [--screens 300] [--per-screen 5] [--skip 0] [--limit-bytes N]

questions.json: [{image, question, kind, answer, words, resized: [w, h]}]. `kind` is button, text, color, locate, count or
read. A located box counts from an IoU of 0.5, every other answer must match exactly. `words` tells whether the text asked
about contains words of the training screens (seen), only others (unseen), or digits (number).
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from PIL import Image

from data import read_pages
from evaluate import pose


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--heldout", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--screens", type=int, default=300)
    p.add_argument("--skip", type=int, default=0, help="screens to pass over first")
    p.add_argument("--per-screen", type=int, default=5)
    p.add_argument("--least", type=int, default=1, help="fewest elements on a screen")
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(7)
    screens = [s for s in read_pages(args.heldout) if len(s.items) >= args.least][args.skip:args.skip + args.screens]
    rows = []
    for n, screen in enumerate(screens):
        name = f"screen-{n:03}.png"
        Image.fromarray(screen.pixels()).save(args.out / name, optimize=True)
        asked = pose([screen], seed=rng.randrange(10**6))
        for q in rng.sample(asked, min(args.per_screen, len(asked))):
            rows.append({"image": name, "question": q.text, "kind": q.kind, "answer": q.answer, "words": q.words,
                         "resized": [screen.w, screen.h]})
    (args.out / "questions.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(screens)} screens, {len(rows)} questions")


if __name__ == "__main__":
    main()
