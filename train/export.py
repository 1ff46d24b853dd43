"""Writes a checkpoint as a Hugging Face model folder with f16 weights.

    python export.py CHECKPOINT.pt FOLDER
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from data import LARGE
from model import MEAN, MERGE, PATCH, STD, Reader, hf_config
from tokens import build_tokenizer, save_tokenizer


def rounded(model: Reader) -> Reader:
    """A copy whose weights went through f16, as the exported ones do."""
    copy = Reader(model.shape)
    copy.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    return copy.eval()


def export(model: Reader, folder: Path) -> None:
    """Replaces the files of `folder` one by one, each in a single step."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder.parent / f".{folder.name}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    dump = lambda name, value: (new / name).write_text(json.dumps(value, indent=2) + "\n")  # noqa: E731
    tok = build_tokenizer()
    dump("config.json", hf_config(model.shape))
    dump("generation_config.json", {
        "do_sample": False, "eos_token_id": [tok.token_to_id("<|im_end|>"), tok.token_to_id("<|endoftext|>")],
        "bos_token_id": tok.token_to_id("<|endoftext|>"), "pad_token_id": tok.token_to_id("<|endoftext|>")})
    dump("preprocessor_config.json", {
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor",
        "patch_size": PATCH, "temporal_patch_size": 2, "merge_size": MERGE,
        "min_pixels": 4 * (PATCH * MERGE) ** 2, "max_pixels": max(w * h for w, h in LARGE) * 4 // 3,
        "image_mean": list(MEAN), "image_std": list(STD), "do_resize": True, "do_rescale": True, "do_normalize": True,
        "do_convert_rgb": True, "rescale_factor": 1 / 255, "resample": 3})
    save_tokenizer(new)
    save_file({k: v.half().contiguous() for k, v in model.state_for_hf().items()}, new / "model.safetensors", metadata={"format": "pt"})
    for path in sorted(new.iterdir()):
        path.replace(folder / path.name)
    new.rmdir()


def load_checkpoint(path: Path) -> Reader:
    model = Reader()
    model.load_state_dict(torch.load(path, weights_only=True)["model"])
    return model.eval()


if __name__ == "__main__":
    export(load_checkpoint(Path(sys.argv[1])), Path(sys.argv[2]))
