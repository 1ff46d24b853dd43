"""Trains the screen reader on a CPU within a time budget; stops and resumes at will.

    python train.py --pages DIR --heldout DIR --work DIR --tower-minutes 22 --minutes 115 [--export FOLDER]

First the vision tower alone learns, from dense targets, which characters stand in each 28 px cell, then tower and decoder
learn to answer together. The learning rate follows the wall clock, counted from the first start: a resumed run goes on
where the clock stands. Every evaluation writes WORK/last.pt and WORK/STATUS.md; the best so far is exported.
"""

from __future__ import annotations

import argparse
import math
import signal
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import model as model_module
from data import ALPHABET, BINS, COLORS, KINDS, SLOTS, Source, attention_mask, load, read_pages
from evaluate import ask_all, pose, score
from export import export, rounded
from model import CELL, Reader

PARTS = {"glyph": (SLOTS + BINS) * (len(ALPHABET) + 1), "kind": len(KINDS) + 1, "color": len(COLORS), "edge": 4 * (CELL + 1)}


class DenseHead(nn.Module):
    """Thrown away after training: what every merged token must know about its cell."""

    def __init__(self, width: int):
        super().__init__()
        self.out = nn.Linear(width, sum(PARTS.values()))

    def forward(self, merged: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        n, cells, _ = merged.shape
        glyph, kind, color, edge = self.out(merged.float()).flatten(0, 1).split(list(PARTS.values()), 1)
        blank = torch.ones(len(ALPHABET) + 1)
        blank[0] = 0.1
        g, truth = glyph.reshape(-1, len(ALPHABET) + 1), torch.cat([batch["glyph"], batch["bins"]], -1).flatten()
        e, edges = edge.reshape(-1, CELL + 1), batch["edge"].flatten()
        off = torch.ones(CELL + 1)
        off[0] = 0.15
        losses = [F.cross_entropy(g, truth, blank), F.cross_entropy(kind, batch["kind"].flatten()),
                  F.cross_entropy(color, batch["color"].flatten(), ignore_index=-100), F.cross_entropy(e, edges, off)]
        with torch.no_grad():
            ink = (batch["glyph"] > 0).flatten()
            g, truth = g.view(-1, SLOTS + BINS, len(ALPHABET) + 1)[:, :SLOTS].flatten(0, 1), batch["glyph"].flatten()
            stats = {"glyphs": (g.argmax(1)[ink] == truth[ink]).float().mean().item(),
                     "colors": (color.argmax(1) == batch["color"].flatten())[batch["color"].flatten() >= 0].float().mean().item(),
                     "edges": (e.argmax(1)[edges > 0] == edges[edges > 0]).float().mean().item()}
        return 2 * losses[0] + 0.5 * losses[1] + 0.5 * losses[2] + 0.4 * losses[3], stats


def text_loss(reader: Reader, merged: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, float]:
    ids, answer = batch["ids"], batch["answer"]
    merged = merged[:int((ids == reader.image_pad).sum()) // merged.shape[1]]
    hidden = reader.language_model(reader.embed(ids, merged), batch["position"], attention_mask(batch["segment"]))
    logits = reader.logits(hidden[:, :-1][answer[:, 1:]]).float()
    truth = ids[:, 1:][answer[:, 1:]]
    return F.cross_entropy(logits, truth), (logits.argmax(1) == truth).float().mean().item()


def compile_small_parts() -> None:
    """Fuses the element-wise chains; symbolic shapes, so that the many image sizes share one compilation."""
    for owner, name in ((model_module.RMSNorm, "forward"), (model_module.MLP, "forward"), (model_module, "rotate"), (model_module, "attend")):
        setattr(owner, name, torch.compile(getattr(owner, name), dynamic=True))


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--pages", type=Path, required=True)
    p.add_argument("--heldout", type=Path, required=True)
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--export", type=Path)
    p.add_argument("--minutes", type=float, default=115)
    p.add_argument("--tower-minutes", type=float, default=22)
    p.add_argument("--eval-minutes", type=float, default=12)
    p.add_argument("--save-minutes", type=float, default=5)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--cells", type=int, default=1000, help="merged tokens of images per step")
    p.add_argument("--tokens", type=int, default=2500, help="tokens of conversation per step")
    p.add_argument("--text-to-tower", type=float, default=0.1, help="share of the answers' gradient that reaches the tower")
    p.add_argument("--every-step-from", type=float, default=60, help="minute from which every step trains the decoder; before, every other")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--compile", action="store_true")
    args = p.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.compile:
        compile_small_parts()
    source = Source(load(args.pages), int(time.time()))
    exam = pose(list(read_pages(args.heldout, 0, 1)), seed=1)
    reader = Reader()
    reader.initialise()
    head = DenseHead(reader.shape.hidden)
    named = [*reader.named_parameters(), *head.named_parameters()]
    inner = [q for n, q in named if q.dim() == 2 and (".blocks." in n or ".layers." in n or "merger" in n)]
    rest = [q for _, q in named if not any(q is i for i in inner)]
    optimizers = [torch.optim.Muon(inner, lr=args.lr, weight_decay=0.03, adjust_lr_fn="match_rms_adamw"),
                  torch.optim.AdamW(rest, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.0)]
    state = {"step": 0, "joint": 0, "begun": time.time(), "best": -1.0}
    last = args.work / "last.pt"
    if last.exists():
        saved = torch.load(last, weights_only=True)
        reader.load_state_dict(saved["model"])
        head.load_state_dict(saved["head"])
        for o, was in zip(optimizers, saved["optimizers"]):
            o.load_state_dict(was)
        state = saved["state"]
    print(f"{len(source.screens)} screens, {len(exam)} exam questions, from step {state['step']}", flush=True)

    def save() -> None:
        torch.save({"model": reader.state_dict(), "head": head.state_dict(), "optimizers": [o.state_dict() for o in optimizers],
                    "state": state}, last.with_suffix(".tmp"))
        last.with_suffix(".tmp").replace(last)

    def examine() -> None:
        began = time.time()
        fixed = rounded(reader)
        table = score(exam, ask_all(fixed, exam))
        better = table["mean"] > state["best"]
        if better:
            state["best"] = table["mean"]
            torch.save({"model": reader.state_dict()}, args.work / "best.pt")
            if args.export:
                export(reader, args.export)
        line = " ".join(f"{k} {v:.3f}" for k, v in table.items())
        print(f"exam at step {state['step']} ({time.time() - began:.0f} s){' (best, exported)' if better else ''}: {line}", flush=True)
        with (args.work / "exams.md").open("a") as f:
            f.write(f"| {state['step']} | {minutes():.0f} | " + line + " |\n")

    def status() -> None:
        exams = (args.work / "exams.md").read_text() if (args.work / "exams.md").exists() else "none yet"
        (args.work / "STATUS.md").write_text(
            f"# Screen reader training\n\nstep {state['step']}, {minutes():.0f} of {args.minutes:.0f} minutes; "
            f"this process has had {time.process_time() / (time.time() - started):.2f} cores so far\n\n{shown}\n\n"
            f"Exams (step, minute, accuracy on held-out screens, f16 weights):\n\n{exams}")

    minutes = lambda: (time.time() - state["begun"]) / 60  # noqa: E731
    mean: dict[str, float] = {}
    shown, images = "", 0
    looked = spoke = saved_at = time.time()
    trained = inner + rest
    started = time.time()
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    while minutes() < args.minutes and not stop:
        joint = minutes() >= args.tower_minutes
        part = minutes() / args.minutes
        rate = args.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
        rate *= min(1, (state["step"] + 1) / 100, 0.2 + state["joint"] / 60 if joint else 1)
        optimizers[0].param_groups[0]["lr"] = 2 * rate
        optimizers[1].param_groups[0]["lr"] = rate
        since = max(0.0, minutes() - args.tower_minutes)
        small = max(0.3, 0.85 - since / 100)  # small views are dense with characters
        speak = joint and (state["step"] % 2 == 0 or minutes() > args.every_step_from)
        batch = source.batch(args.cells, small, 4, args.tokens if speak else 0)
        with torch.autocast("cpu", torch.bfloat16):
            merged = reader.visual(batch["pixels"])
        loss, now = head(merged, batch)
        if speak:
            with torch.autocast("cpu", torch.bfloat16):
                gentle = merged.detach() + args.text_to_tower * (merged - merged.detach())
                text, right = text_loss(reader, gentle, batch)
            now |= {"text": text.item(), "tokens": right}
            loss = text + 0.5 * loss
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        for o in optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        state["step"] += 1
        state["joint"] += joint
        images += len(batch["pixels"])
        for k, v in (now | {"loss": loss.item()}).items():
            if not math.isnan(v):
                mean[k] = v if k not in mean else 0.96 * mean[k] + 0.04 * v
        if state["step"] % 25 == 0:
            shown = f"step {state['step']} {minutes():.1f} min, {images / (time.time() - spoke):.1f} images/s, lr {rate:.1e}: " + " ".join(f"{k} {v:.3f}" for k, v in mean.items())
            print(shown, flush=True)
            status()
            spoke, images = time.time(), 0
        if time.time() - saved_at > 60 * args.save_minutes:
            save()
            saved_at = time.time()
        if joint and time.time() - looked > 60 * args.eval_minutes:
            examine()
            status()
            looked = spoke = time.time()
            images = 0
    save()
    if not stop:
        examine()
        status()


if __name__ == "__main__":
    main()
