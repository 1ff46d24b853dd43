"""Paths, seeds and writers shared by all parts of the golden generator."""

import json
import os
import pathlib

# Everything below must run offline and give the same bytes each time.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)  # the order of float additions depends on the number of threads
torch.use_deterministic_algorithms(True)

ROOT = pathlib.Path(__file__).resolve().parent.parent
IMAGES = ROOT / "images"
TEXT = ROOT / "text"
MODELS = ROOT / "models"
PREPROCESS = ROOT / "preprocess"


def write_json(path, value, indent=1):
    """JSON with one element of the outermost list per line (so that git diffs stay readable)."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, list):
        lines = ",\n".join(json.dumps(v, ensure_ascii=True, separators=(",", ":")) for v in value)
        text = "[\n" + lines + "\n]\n"
    else:
        text = json.dumps(value, ensure_ascii=True, indent=indent) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")


def write_tensors(path, tensors):
    """safetensors without metadata: with at most one metadata key the file is byte-for-byte reproducible."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, path)


def i32(values):
    return torch.as_tensor(np.asarray(values), dtype=torch.int32)
