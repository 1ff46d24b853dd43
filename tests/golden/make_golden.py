#!/usr/bin/env python3
"""Makes every fixture in this folder from Hugging Face transformers. See README.md for what each file holds.

    python -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python make_golden.py [--real-tokenizer path/to/tokenizer.json] [--only PART ...]

Works offline, in well under a minute on one core, and needs no GPU. With the versions in requirements.txt and a CPU of the
kind named in MANIFEST.json everything comes out byte for byte; on another CPU floats may differ in their last digits.
"""

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import sys
import warnings

sys.dont_write_bytecode = True  # no __pycache__ among the fixtures

from goldenlib import images, models, positions, preprocess, sampling, text, video  # noqa: E402
from goldenlib.common import IMAGES, ROOT, torch  # noqa: E402

PACKAGES = ["transformers", "tokenizers", "safetensors", "torch", "torchvision", "numpy", "pillow", "Jinja2", "gguf", "qwen-vl-utils"]
PARTS = ["text", "images", "models", "preprocess", "positions", "sampling", "video"]


def manifest(results):
    """Versions, what the generator measured, and a checksum of every generated file."""
    path = ROOT / "MANIFEST.json"
    old = json.loads(path.read_text()) if path.exists() else {}
    sources = {".py", ".md", ".txt"}
    files = {}
    for file in sorted(p for p in ROOT.rglob("*") if p.is_file()):
        name = file.relative_to(ROOT).as_posix()
        if file.suffix not in sources and name != "MANIFEST.json" and "__pycache__" not in name:
            file.chmod(0o644)
            files[name] = [file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()]
    wanted = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)
    used = {p: importlib.metadata.version(p).split("+")[0] for p in PACKAGES}
    assert used == wanted, f"versions differ from requirements.txt: {used}"
    value = {
        "python": ".".join(map(str, sys.version_info[:2])), "packages": used,
        "cpu": torch.backends.cpu.get_cpu_capability(), "results": {**old.get("results", {}), **results},
        "bytes": sum(size for size, _ in files.values()), "files": files,
    }
    lines = json.dumps(value, indent=1)
    path.write_text(lines.replace("[\n   ", "[").replace(",\n   \"", ", \"").replace("\n  ]", "]") + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real-tokenizer", type=pathlib.Path, metavar="FILE",
                        help="tokenizer.json of Qwen2.5 or Qwen3 (not committed): also rewrites text/encode_qwen.json")
    parser.add_argument("--only", nargs="+", choices=PARTS + list(models.SPECS) + ["manifest"],
                        help="make only these parts; manifest: nothing but the checksums")
    args = parser.parse_args()
    only = set(args.only or PARTS)
    warnings.simplefilter("ignore", FutureWarning)  # transformers' own deprecations

    results = {}
    if "text" in only:
        text.make_tokenizer()
        results["encode"] = text.make_encode(args.real_tokenizer)
        results["template"] = text.make_template()
        results["template_qwen3"] = text.make_template3()
        results["continued"] = text.make_tools()
    if "images" in only:
        images.make()
    for name in models.SPECS:
        if "models" in only or name in only:
            results[f"models/{name}"] = models.make_model(name)
    if "preprocess" in only:
        results["preprocess"] = preprocess.make(json.loads((IMAGES / "images.json").read_text()))
    if "positions" in only:
        positions.make()
    if "sampling" in only:
        results["sampling"] = sampling.make()
    if "video" in only:
        results["video"] = video.make()
    manifest(results)
    total = sum(p.stat().st_size for p in ROOT.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()
