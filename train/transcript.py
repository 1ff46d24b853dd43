"""What transformers answers about the screens in tests/screens: the reference for the engine, natively and in the browser.

    python train/transcript.py [--model models/screen-reader] [--screens tests/screens]

Greedy, f32, the checkpoint's own template and image processor. Writes SCREENS/transcript.json: one answer per question.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

NEW_TOKENS = 160


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    p = argparse.ArgumentParser()
    p.add_argument("--model", type=Path, default=root / "models/screen-reader")
    p.add_argument("--screens", type=Path, default=root / "tests/screens")
    args = p.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    template = (args.model / "chat_template.jinja").read_text()
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor.from_pretrained(args.model), tokenizer, Qwen2VLVideoProcessor(), chat_template=template
    )
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32).eval()
    answers = []
    for question in json.loads((args.screens / "questions.json").read_text()):
        picture = Image.open(args.screens / question["image"]).convert("RGB")
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question["question"]}]}]
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
        inputs = processor(text=[text], images=[picture], return_tensors="pt")
        with torch.no_grad():
            ids = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        new = ids[0, inputs["input_ids"].shape[1]:]
        stops = {tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")}
        finish = "stop" if int(new[-1]) in stops else "length"
        new = [int(i) for i in new if int(i) not in stops]
        answers.append({"image": question["image"], "question": question["question"], "token_ids": new,
                        "text": tokenizer.decode(new, skip_special_tokens=True), "finish_reason": finish})
    lines = ",\n".join(json.dumps(a, ensure_ascii=False) for a in answers)
    (args.screens / "transcript.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(answers)} answers")


if __name__ == "__main__":
    main()
