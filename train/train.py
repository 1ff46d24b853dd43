"""Trains the screen reader on a CPU within a time budget; stops (SIGTERM) and resumes at will.

    python train.py tower   --pages DIR --work DIR
    python train.py decoder --pages DIR --work DIR --heldout DIR [--export FOLDER]

Two processes, one core each, meant to run side by side; neither waits for the other, which matters on a shared machine.
`tower` teaches the vision tower from dense targets which characters, elements, colours and edges lie in each 28 px cell, and
publishes a running average of its weights. `decoder` teaches the decoder to answer, on the latest published tower, takes the
exams, and exports the best. Learning rates follow the wall clock from WORK/begun on, so a resumed run goes on where the clock
stands. WORK/STATUS.md says how it goes.
"""

from __future__ import annotations

import argparse
import math
import signal
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

import model as model_module
from data import ALPHABET, BINS, COLORS, DIGITS, INDEX, KINDS, ORDER, SLOTS, Source, attention_mask, load, read_pages
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


class MapHead(nn.Module):
    """Thrown away too: what the decoder's third layer must know at an image token to walk the screen from there."""

    def __init__(self, width: int):
        super().__init__()
        self.out = nn.Linear(width, INDEX + ORDER + 4 * sum(DIGITS))

    def forward(self, hidden: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """hidden [image tokens, width]"""
        index, order, digits = self.out(F.rms_norm(hidden.float(), hidden.shape[-1:])).split([INDEX, ORDER, 4 * sum(DIGITS)], 1)
        at, of, number = batch["index"].flatten(), batch["order"].flatten(), batch["digits"].view(-1, 3)
        loss = F.cross_entropy(index, at, ignore_index=-100) + 0.5 * F.cross_entropy(order, of, ignore_index=-100)
        places = digits.reshape(-1, sum(DIGITS)).split(DIGITS, 1)
        loss = loss + sum(F.cross_entropy(p, number[:, i], ignore_index=-100) for i, p in enumerate(places))
        with torch.no_grad():
            said = number[:, 1] >= 0
            stats = {"index": (index.argmax(1) == at)[at >= 0].float().mean().item(), "order": (order.argmax(1) == of)[of >= 0].float().mean().item(),
                     "tens": (places[1].argmax(1) == number[:, 1])[said].float().mean().item(), "ones": (places[2].argmax(1) == number[:, 2])[said].float().mean().item()}
        return loss, stats


def text_loss(reader: Reader, merged: Tensor, batch: dict[str, Tensor], taps: list | None = None) -> tuple[Tensor, float]:
    ids, answer = batch["ids"], batch["answer"]
    hidden = reader.language_model(reader.embed(ids, merged), batch["position"], attention_mask(batch["segment"]), taps=taps)
    logits = reader.logits(hidden[:, :-1][answer[:, 1:]]).float()
    truth = ids[:, 1:][answer[:, 1:]]
    return F.cross_entropy(logits, truth), (logits.argmax(1) == truth).float().mean().item()


def compile_small_parts() -> None:
    """Fuses the element-wise chains; symbolic shapes, so that the many image sizes share one compilation."""
    for owner, name in ((model_module.RMSNorm, "forward"), (model_module.MLP, "forward"), (model_module, "rotate"), (model_module, "attend")):
        setattr(owner, name, torch.compile(getattr(owner, name), dynamic=True))


def minutes_since(work: Path) -> float:
    mark = work / "begun"
    if not mark.exists():
        mark.write_text(str(time.time()))
    return (time.time() - float(mark.read_text())) / 60


def make_optimizers(named: list[tuple[str, nn.Parameter]], lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, AdamW for embeddings, heads, norms and biases."""
    inner = [q for n, q in named if q.dim() == 2 and ("blocks." in n or "layers." in n or "merger" in n)]
    rest = [q for _, q in named if not any(q is i for i in inner)]
    return [torch.optim.Muon(inner, lr=2 * lr, weight_decay=0.03, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)]


def store(value: object, path: Path) -> None:
    torch.save(value, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


class Run:
    """What both processes share: clock, learning rate, checkpoint, log."""

    def __init__(self, args: argparse.Namespace, module: nn.Module):
        self.args, self.module = args, module
        self.named = list(module.named_parameters())
        self.optimizers = make_optimizers(self.named, args.lr)
        self.state = {"step": 0, "best": -1.0}
        self.path = args.work / f"{args.role}-last.pt"
        self.mean: dict[str, float] = {}
        self.seen, self.since, self.started = 0, time.time(), time.time()
        self.stop = False
        signal.signal(signal.SIGTERM, lambda number, frame: setattr(self, "stop", True))
        if self.path.exists():
            saved = torch.load(self.path, weights_only=True)
            module.load_state_dict(saved["model"])
            for optimizer, was in zip(self.optimizers, saved["optimizers"]):
                optimizer.load_state_dict(was)
            self.state = saved["state"]

    def minutes(self) -> float:
        return minutes_since(self.args.work)

    def over(self) -> bool:
        return self.stop or self.minutes() >= self.args.minutes

    def step(self, loss: Tensor, stats: dict[str, float], images: int) -> None:
        rate = self.args.lr * (0.02 + 0.98 * (1 - min(1, self.minutes() / self.args.minutes) ** 2)) * min(1, (self.state["step"] + 1) / 100)
        loss.backward()
        nn.utils.clip_grad_norm_([q for _, q in self.named], 1.0)
        for optimizer, factor in zip(self.optimizers, (2, 1)):
            optimizer.param_groups[0]["lr"] = factor * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.state["step"] += 1
        self.seen += images
        for k, v in (stats | {"loss": loss.item()}).items():
            if not math.isnan(v):
                self.mean[k] = v if k not in self.mean else 0.96 * self.mean[k] + 0.04 * v
        if self.state["step"] % 25 == 0:
            line = (f"{self.args.role} step {self.state['step']}, {self.minutes():.1f} min, {self.seen / (time.time() - self.since):.1f} images/s, "
                    f"{time.process_time() / (time.time() - self.started):.2f} cores, lr {rate:.1e}: " + " ".join(f"{k} {v:.3f}" for k, v in self.mean.items()))
            print(line, flush=True)
            (self.args.work / f"{self.args.role}.txt").write_text(line + "\n")
            self.seen, self.since = 0, time.time()

    def save(self) -> None:
        store({"model": self.module.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers], "state": self.state}, self.path)


def write_status(work: Path) -> None:
    lines = "\n\n".join((work / n).read_text().strip() for n in ("tower.txt", "decoder.txt") if (work / n).exists())
    exams = (work / "exams.md").read_text() if (work / "exams.md").exists() else "none yet"
    (work / "STATUS.md").write_text(f"# Screen reader training\n\n{lines}\n\nExams (minute, accuracy on held-out screens, f16 weights):\n\n{exams}")


def begin(args: argparse.Namespace) -> Reader:
    """A fresh model, or the one of an exported folder; a checkpoint in the work folder replaces either."""
    reader = Reader()
    reader.initialise()
    if args.start:
        weights = load_file(args.start / "model.safetensors")
        reader.load_state_dict({k.removeprefix("model."): v.float() for k, v in weights.items()})
    return reader


def train_tower(args: argparse.Namespace, source: Source) -> None:
    reader = begin(args)
    whole = nn.ModuleDict({"visual": reader.visual, "head": DenseHead(reader.shape.hidden)})
    run = Run(args, whole)
    average = {k: v.clone() for k, v in reader.visual.state_dict().items()}
    saved = published = 0.0
    while not run.over():
        batch = source.dense_batch(args.cells, max(0.4, 0.85 - run.minutes() / 200))
        with torch.autocast("cpu", torch.bfloat16):
            merged = reader.visual(batch["pixels"])
        loss, stats = whole["head"](merged, batch)
        run.step(loss, stats, len(merged))
        keep = min(0.98, run.state["step"] / 100)
        for k, v in reader.visual.state_dict().items():
            average[k].lerp_(v, 1 - keep)
        if time.time() - published > 40:
            store(average, args.work / "tower.pt")
            published = time.time()
        if time.time() - saved > 240:
            run.save()
            saved = time.time()
    store(average, args.work / "tower.pt")
    run.save()


def train_decoder(args: argparse.Namespace, source: Source) -> None:
    reader = begin(args)
    whole = nn.ModuleDict({"decoder": reader.language_model, "head": MapHead(reader.shape.hidden)})
    run = Run(args, whole)
    exam = pose(list(read_pages(args.heldout, 0, 1)), seed=1)
    tower = args.work / "tower.pt"
    if args.start and not tower.exists():
        store(reader.visual.state_dict(), tower)
    reader.visual.requires_grad_(False)

    def examine() -> None:
        began = time.time()
        table = score(exam, ask_all(rounded(reader), exam))
        better = table["mean"] > run.state["best"]
        if better:
            run.state["best"] = table["mean"]
            store({"model": reader.state_dict()}, args.work / "best.pt")
            if args.export:
                export(reader, args.export)
        line = f"{run.minutes():.0f}: " + " ".join(f"{k} {v:.3f}" for k, v in table.items())
        print(f"exam ({time.time() - began:.0f} s){' (best, exported)' if better else ''} {line}", flush=True)
        with (args.work / "exams.md").open("a") as f:
            f.write(f"- {line}\n")
        write_status(args.work)

    loaded = 0.0
    looked = saved = time.time()
    while not run.over():
        while not tower.exists():
            time.sleep(1)
        if tower.stat().st_mtime > loaded:
            loaded = tower.stat().st_mtime
            reader.visual.load_state_dict(torch.load(tower, weights_only=True))
        part = run.minutes() / args.minutes
        small = min(0.8, 0.35 + 1.3 * (1 - part))  # small views first: less to search
        batch = source.text_batch(args.tokens, small, 4)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                merged = reader.visual(batch["pixels"])
            taps: list[Tensor] = []
            text, right = text_loss(reader, merged, batch, taps)
        loss, stats = whole["head"](taps[2][batch["ids"] == reader.image_pad], batch)
        run.step(text + args.map * loss, stats | {"tokens": right, "text": text.item()}, len(merged))
        if run.state["step"] % 25 == 0:
            write_status(args.work)
        if time.time() - saved > 240:
            run.save()
            saved = time.time()
        if time.time() - looked > 60 * args.exam_minutes:
            examine()
            looked = time.time()
    if not run.stop:
        reader.visual.load_state_dict(torch.load(tower, weights_only=True))
        examine()
    run.save()  # after the exam: it holds the best score so far


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("role", choices=["tower", "decoder"])
    p.add_argument("--pages", type=Path, required=True)
    p.add_argument("--heldout", type=Path)
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--export", type=Path)
    p.add_argument("--start", type=Path, help="begin from this exported folder where the work folder has no checkpoint")
    p.add_argument("--minutes", type=float, default=90, help="from the first start of either process")
    p.add_argument("--exam-minutes", type=float, default=12)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--cells", type=int, default=1000, help="merged tokens of images per step")
    p.add_argument("--tokens", type=int, default=3000, help="tokens of conversation per step of the decoder")
    p.add_argument("--map", type=float, default=0.25, help="weight of the decoder's dense targets")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--no-compile", action="store_true")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.no_compile:
        compile_small_parts()
    source = Source(load(args.pages), int(time.time()) + (args.role == "tower"))
    print(f"{args.role}: {len(source.screens)} screens", flush=True)
    {"tower": train_tower, "decoder": train_decoder}[args.role](args, source)


if __name__ == "__main__":
    main()
