"""Scores an exported model folder (its f16 weights) on held-out screens.

    python report.py FOLDER --heldout DIR [--first-page 3] [--last-page 13]

The first three pages of the held-out screens choose the best checkpoint during training, so they are left out here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import load_file

from data import read_pages
from evaluate import ask_all, correct, pose, score
from model import Reader


def load_folder(folder: Path) -> Reader:
    model = Reader()
    model.load_state_dict({k.removeprefix("model."): v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return model.eval()


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("folder", type=Path)
    p.add_argument("--heldout", type=Path, required=True)
    p.add_argument("--first-page", type=int, default=3)
    p.add_argument("--last-page", type=int, default=13)
    p.add_argument("--show", type=int, default=0, help="print so many wrong answers")
    args = p.parse_args()
    asked = pose(list(read_pages(args.heldout, args.first_page, args.last_page)), seed=2)
    replies = ask_all(load_folder(args.folder), asked)
    count: dict[str, int] = {}
    for q in asked:
        for key in (q.kind, f"{q.kind}/{q.words}"):
            count[key] = count.get(key, 0) + 1
    for key, value in score(asked, replies).items():
        print(f"{key:16} {100 * value:5.1f} %  {count.get(key, '')}")
    for q, reply in [(q, r) for q, r in zip(asked, replies) if not correct(q.kind, r, q.answer)][:args.show]:
        print(f"{q.text!r}: {reply!r}, should be {q.answer!r}")


if __name__ == "__main__":
    main()
