"""Trains the screen reader on a CPU within a time budget; stops (SIGTERM) and resumes at will.

    python train.py tower   --pages DIR --work DIR
    python train.py decoder --pages DIR --work DIR --heldout DIR [--export FOLDER]

Two processes, one core each, side by side. `tower` teaches the vision tower to write the code of symbols.py from pixels, and
publishes a running average of its weights. `decoder` teaches the decoder to answer from that code, first written straight from
the truth (with noise), from minute --join on as the latest published tower says it; it takes the exams and exports the best.
Learning rates follow the wall clock from WORK/begun on, so a resumed run goes on where the clock stands. WORK/STATUS.md says
how it goes.
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
from data import BY_LOOKS, BY_TEXT, CODE, DIGITS, QUOTED, Source, attention_mask, load, read_pages
from evaluate import ask_all, pose, score
from export import export, rounded
from model import Reader
from symbols import INDEX, ORDER, SCALE, SLOTS

ROWS, COLUMNS = 12, 16
MAP, ELEMENT, CELL_OF, SLOT = 1, 2, 3, 3  # decoder layers: the screen is mapped; the element, the cell, the slot are found


class Coach(nn.Module):
    """Thrown away after training: what hidden states of the decoder must know on the way to an answer."""

    def __init__(self, width: int):
        super().__init__()
        self.map = nn.Linear(width, INDEX + 1 + ORDER + 1 + 4 * sum(DIGITS))
        self.char = nn.Linear(width, INDEX)
        self.slot = nn.Linear(width, SLOTS + 1)
        self.place = nn.Linear(width, ROWS + COLUMNS)

    def forward(self, taps: list[Tensor], looks: dict[int, list], batch: dict[str, Tensor], image: Tensor) -> tuple[Tensor, dict[str, float]]:
        calm = lambda x: F.rms_norm(x.float(), x.shape[-1:])  # noqa: E731
        # image tokens: index, place in reading order, edges from the picture's corner
        index, order, digits = self.map(calm(taps[MAP][image])).split([INDEX + 1, ORDER + 1, 4 * sum(DIGITS)], 1)
        at, of, number = batch["index"].flatten(), batch["order"].flatten(), batch["digits"].view(-1, 3)
        places = digits.reshape(-1, sum(DIGITS)).split(DIGITS, 1)
        loss = 0.3 * F.cross_entropy(index, at) + 0.3 * F.cross_entropy(order, of)
        loss = loss + 0.3 * sum(F.cross_entropy(p, number[:, i], ignore_index=-100) for i, p in enumerate(places))
        # and before that, which row and column of cells it is
        n, rows, columns = batch["kind"].shape
        row_of, column_of = self.place(calm(taps[0][image])).split([ROWS, COLUMNS], 1)
        at_row = torch.arange(rows)[None, :, None].expand(n, rows, columns).flatten()
        at_column = torch.arange(columns)[None, None].expand(n, rows, columns).flatten()
        loss = loss + 0.2 * F.cross_entropy(row_of, at_row) + 0.3 * F.cross_entropy(column_of, at_column)
        # tokens that read: which character comes next, and where the first head of two layers looks
        row, token, element, cell, char, slot, part = batch["hints"].unbind(1)
        belongs = batch["owner"][row] == element[:, None]
        known, exact = belongs.any(1), cell >= 0

        def looked(layer: int, which: Tensor, at_cell: Tensor) -> Tensor:
            """Logarithm of the attention that the chosen hints' tokens give to their cell, or to all of their element."""
            seen = looks[layer][0][row[which], token[which]]
            whole = seen.masked_fill(~belongs[which], -1e9).logsumexp(1)
            return torch.where(at_cell[which], seen.gather(1, cell[which].clamp(min=0)[:, None])[:, 0], whole)

        # A quoted text finds itself, and an element named by looks is found, in one layer; what builds on that in the next.
        quoted = (part == QUOTED) & exact
        finds_quoted = looked(ELEMENT, quoted, quoted)
        finds = looked(ELEMENT, (part == BY_LOOKS) & known, quoted)
        reads = (part != QUOTED) & exact
        reads_cell = looked(CELL_OF, reads, reads)
        finds_again = looked(CELL_OF, (part == BY_TEXT) & ~exact & known, quoted)
        chars, slots = self.char(calm(taps[MAP][row[reads], token[reads]])), self.slot(calm(taps[SLOT][row[reads], token[reads]]))
        for weight, look in ((0.2, finds_quoted), (0.3, finds), (0.5, reads_cell), (0.3, finds_again)):
            if len(look):
                loss = loss - weight * look.clamp(min=-20).mean()
        loss = loss + 0.3 * F.cross_entropy(chars, char[reads]) + 0.3 * F.cross_entropy(slots, slot[reads])
        with torch.no_grad():
            said = number[:, 1] >= 0
            hit = lambda x, y: (x.argmax(1) == y).float().mean().item()  # noqa: E731
            stats = {"index": hit(index[at > 0], at[at > 0]), "order": hit(order[of > 0], of[of > 0]),
                     "tens": hit(places[1][said], number[said, 1]), "ones": hit(places[2][said], number[said, 2]),
                     "row": hit(row_of, at_row), "column": hit(column_of, at_column), "char": hit(chars, char[reads]), "slot": hit(slots, slot[reads]),
                     "element": finds.exp().mean().item(), "quoted": finds_quoted.exp().mean().item(),
                     "cell": reads_cell.exp().mean().item(), "again": finds_again.exp().mean().item()}
        return loss, stats


def text_loss(reader: Reader, merged: Tensor, batch: dict[str, Tensor], taps: list, looks: dict[int, list]) -> tuple[Tensor, float]:
    ids, answer = batch["ids"], batch["answer"]
    hidden = reader.language_model(reader.embed(ids, merged), batch["position"], attention_mask(batch["segment"]), taps=taps, looks=looks)
    said = answer[:, 1:] > 0
    logits = reader.logits(hidden[:, :-1][said]).float()
    truth, weight = ids[:, 1:][said], answer[:, 1:][said]
    return (F.cross_entropy(logits, truth, reduction="none") * weight).sum() / weight.sum(), (logits.argmax(1) == truth).float().mean().item()


def written(batch: dict[str, Tensor], noise: bool = True) -> Tensor:
    """The code of a batch's pictures [n, cells, width] as a tower that errs might write it."""
    truth = {k: batch[k].numpy() for k in ("glyph", "kind", "color", "index", "order", "edges")}
    if noise:
        glyph = batch["glyph"].clone()
        wrong = (torch.rand(glyph.shape) < 0.02) & (glyph > 0)
        glyph[wrong] = torch.randint(1, len(CODE.books["glyph"]), (int(wrong.sum()),))
        truth["glyph"] = glyph.numpy()
    code = torch.from_numpy(CODE.write(truth))
    if noise:
        n = len(code)
        for part, share in (("order", 0.4), ("index", 0.15)):
            gone = torch.rand(n) < share
            code[..., CODE.parts[part]] *= (~gone).float()[:, None, None, None]
        code = code + torch.randn(code.shape) * SCALE * torch.rand(n, 1, 1, 1) * 0.4
    return code.flatten(1, 2)


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
    run = Run(args, reader.visual)
    average = {k: v.clone() for k, v in reader.visual.state_dict().items()}
    saved = published = time.time()
    while not run.over():
        batch = source.dense_batch(args.cells, max(0.25, 0.7 - run.minutes() / 130))
        with torch.autocast("cpu", torch.bfloat16):
            merged = reader.visual(batch["pixels"])
        loss, stats = CODE.loss(merged.flatten(0, 1), batch, written(batch, False).flatten(0, 1))
        run.step(loss, stats, len(merged))
        keep = min(0.995, run.state["step"] / 100)
        for k, v in reader.visual.state_dict().items():
            average[k].lerp_(v, 1 - keep)
        if time.time() - published > 60:
            store(average, args.work / "tower.pt")
            published = time.time()
        if time.time() - saved > 240:
            run.save()
            saved = time.time()
    store(average, args.work / "tower.pt")
    run.save()


def train_decoder(args: argparse.Namespace, source: Source) -> None:
    reader = begin(args)
    whole = nn.ModuleDict({"decoder": reader.language_model, "coach": Coach(reader.shape.hidden)})
    run = Run(args, whole)
    exam = pose(list(read_pages(args.heldout, 0, 1)), seed=1)
    tower = args.work / "tower.pt"
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
        joined = tower.exists() and run.minutes() >= args.join
        if joined and tower.stat().st_mtime > loaded:
            loaded = tower.stat().st_mtime
            reader.visual.load_state_dict(torch.load(tower, weights_only=True))
        part = run.minutes() / args.minutes
        small = max(0.15, min(0.8, 1.1 - 1.6 * part))  # small views first: less to search
        paint = joined and torch.rand(()).item() < 0.85
        batch = source.text_batch(args.tokens, small, 4, paint)
        taps: list[Tensor] = []
        looks: dict[int, list] = {ELEMENT: [], CELL_OF: []}
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                merged = reader.visual(batch["pixels"]) if paint else written(batch).bfloat16()
            text, right = text_loss(reader, merged, batch, taps, looks)
        loss, stats = whole["coach"](taps, looks, batch, batch["ids"] == reader.image_pad)
        run.step(text + args.coach * loss, stats | {"tokens": right, "text": text.item()}, len(merged))
        if run.state["step"] % 25 == 0:
            write_status(args.work)
        if time.time() - saved > 240:
            run.save()
            saved = time.time()
        if joined and time.time() - looked > 60 * args.exam_minutes:
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
    p.add_argument("--lr", type=float, default=2e-3, help="of AdamW; Muon takes twice that")
    p.add_argument("--cells", type=int, default=1000, help="merged tokens of images per step")
    p.add_argument("--tokens", type=int, default=3000, help="tokens of conversation per step of the decoder")
    p.add_argument("--join", type=float, default=60, help="minute from which the decoder reads what the tower writes")
    p.add_argument("--coach", type=float, default=0.4, help="weight of what the decoder is taught on the way to the answer")
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
