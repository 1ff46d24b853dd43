"""Fanlight's greedy answers and logits beside llama.cpp's and transformers', for a real Qwen2 text model in GGUF.

    # llama.cpp prebuilt, nothing is compiled (other systems: @node-llama-cpp/mac-arm64-metal, ..)
    npm install --prefix LLAMA --ignore-scripts --omit=optional node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
    pip install -r requirements.txt accelerate                      # without accelerate transformers reads no GGUF
    cargo build --release --bin fanlight
    python compare_llama.py --model MODEL.gguf --fanlight FANLIGHT --llama LLAMA --out OUT [--tokens 48] [--f32]

The GGUF's own template is rendered here, by Fanlight and tokenized by llama.cpp: the ids must be the same. Then: Fanlight's answer
(`ask`, token by token), Fanlight's logits for it (`trace`: the answer as the assistant's message, in one pass), llama.cpp's answer
and logits on the same ids (CPU; activations in 8 bits, KV cache in 16), and transformers' logits in f32 on the dequantized weights.
With --f32 also llama.cpp without 8 bits: the weights dequantized to a file of f32 in OUT (four bytes a weight), KV cache in f32.
What has run stays in OUT and is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import jinja2
import numpy as np
import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

LONG = """Here is a note from the maintenance log of a lighthouse, followed by a question. On Monday the keeper cleaned the lens and \
replaced two of the four lamps. On Tuesday a storm came from the west, and the fog horn sounded for nine hours without a pause. On \
Wednesday the supply boat brought diesel, bread, coffee and a letter from the harbour office. On Thursday the generator failed at \
noon and was repaired before dusk, so the light was never out. On Friday a school class visited the tower and asked how far the beam \
can be seen; the keeper said twenty-one nautical miles on a clear night. On Saturday nothing happened. Question: on which day did the \
generator fail, what came by boat, and how far can the light be seen? Answer in two short sentences."""
PROMPTS = {
    "fact": "What is the capital of France?",
    "python": "Write a Python function that checks whether a string is a palindrome.",
    "json": 'Give a JSON object that describes a book with the keys "title", "author", "year" and "tags".',
    "chinese": "请用一句话介绍一下长城。",
    "numbers": "List the first twelve prime numbers, separated by commas.",
    "long": LONG,
}
# Reads {prompt: {text, ids}}, writes each prompt's own ids, answer and logits [answer, vocabulary].
LLAMA = """
import fs from "fs";
import { getLlama } from "node-llama-cpp";
const [model_path, out, tokens, kind] = process.argv.slice(1);
process.execArgv = []; // getLlama forks this process, and must not fork this script
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const model = await llama.loadModel({ modelPath: model_path });
const precise = { experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32", flashAttention: false };
// On a busy machine two threads mostly wait for each other.
const context = await model.createContext({ contextSize: 1024, batchSize: 512, threads: 1, ...(kind === "llama-f32" ? precise : {}) });
const sequence = context.getSequence();
for (const [name, { text, ids }] of Object.entries(JSON.parse(fs.readFileSync(0, "utf8")))) {
  await sequence.clearHistory();
  const answer = [], rows = [];
  for (let next = ids; answer.length < Number(tokens); ) {
    const options = { generateNext: { token: true, logits: true, options: { temperature: 0, topK: 0, topP: 1 } } };
    const result = (await sequence.controlledEvaluate([...next.slice(0, -1), [next.at(-1), options]])).at(-1).next;
    const row = new Float32Array(result.logits.size);
    for (const [token, logit] of result.logits) row[token] = logit;
    rows.push(Buffer.from(row.buffer));
    answer.push(result.token);
    if (model.isEogToken(result.token)) break;
    next = [result.token];
  }
  fs.writeFileSync(`${out}/${name}.${kind}.bin`, Buffer.concat(rows));
  const mine = Array.from(model.tokenize(text, true));
  fs.writeFileSync(`${out}/${name}.${kind}.json`, JSON.stringify({ ids: mine, answer }));
}
process.exit(0);
"""


def run(*command: object, **more: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def fanlight(args: argparse.Namespace, name: str) -> tuple[dict, list[int], np.ndarray]:
    """The answer as `ask` gives it, the ids of the whole conversation, and the logits that chose each token of the answer."""
    ask, messages, trace = (args.out / f"{name}.{end}" for end in ("ask.json", "messages.json", "trace.safetensors"))
    talk = [{"role": "user", "content": PROMPTS[name]}]
    if not ask.exists():
        messages.write_text(json.dumps(talk))
        ask.write_text(run(args.fanlight, "ask", "--model", args.model, "--messages", messages, "--json", "--temperature", 0,
                           "--no-generation-config", "--max-tokens", args.tokens))
    answer = json.loads(ask.read_text())
    if not trace.exists():
        messages.write_text(json.dumps([*talk, {"role": "assistant", "content": answer["text"]}]))
        run(args.fanlight, "trace", "--model", args.model, "--messages", messages, "--out", trace)
    traced = load_file(trace)
    ids, start = traced["input_ids"].tolist(), answer["prompt_tokens"]
    if answer["finish_reason"] == "stop":
        # The id that ended it is not part of an answer; the template writes the same one.
        answer["token_ids"].append(ids[start + len(answer["token_ids"])])
    end = start + len(answer["token_ids"])
    if ids[start:end] != answer["token_ids"]:
        raise ValueError(f"{name}: the answer's text encodes to other ids: {ids[start:end]} for {answer['token_ids']}")
    return answer, ids[:end], traced["logits"][start - 1:end - 1]


def dequantized(reader: GGUFReader, path: Path) -> Path:
    """The same model in f32."""
    if not path.exists():
        writer = GGUFWriter(path.with_suffix(".part"), reader.get_field("general.architecture").contents())
        for field in reader.fields.values():
            if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "general.file_type"):
                writer.add_key_value(field.name, field.contents(), field.types[0], field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None)
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        path.with_suffix(".part").rename(path)
    return path


def llama(args: argparse.Namespace, kind: str, model: Path, asked: dict[str, dict]) -> None:
    missing = {name: prompt for name, prompt in asked.items() if not (args.out / f"{name}.{kind}.json").exists()}
    if missing:
        run("node", "--input-type=module", "--eval", LLAMA, "--", model, args.out, args.tokens, kind, cwd=args.llama, input=json.dumps(missing))


def top(row: np.ndarray, names: list[str]) -> str:
    """The two best tokens, their log-probabilities, and by how much the first is ahead."""
    a, b = np.argsort(row)[:-3:-1].tolist()
    norm = np.logaddexp.reduce(row.astype(np.float64))
    return f"{names[a]!r} {row[a] - norm:.4f}, {names[b]!r} {row[b] - norm:.4f}, gap {row[a] - row[b]:.4f}"


def errors(got: np.ndarray, want: np.ndarray) -> str:
    off = (got - want).astype(np.float64)
    relative = np.linalg.norm(off) / np.linalg.norm(want.astype(np.float64))
    log = np.abs(off - np.logaddexp.reduce(got.astype(np.float64), -1, keepdims=True) + np.logaddexp.reduce(want.astype(np.float64), -1, keepdims=True))
    return f"{relative:.1e} relative, {np.abs(off).max():.1e} of a logit, {log.max():.1e} of a log-probability"


def first(a: list[int], b: list[int]) -> int | None:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None if len(a) == len(b) else min(len(a), len(b)))


def difference(a: list[int], b: list[int]) -> str:
    at = first(a, b)
    return f"equal to the end ({len(a)})" if at is None else f"first difference at {at}"


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("model", "fanlight", "llama", "out"):
        parser.add_argument(f"--{name}", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--f32", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    ours = {name: fanlight(args, name) for name in PROMPTS}

    reader = GGUFReader(args.model)
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(reader.get_field("tokenizer.chat_template").contents())
    pieces = reader.get_field("tokenizer.ggml.tokens").contents()
    asked = {}
    for name, (answer, ids, _) in ours.items():
        text = template.render(messages=[{"role": "user", "content": PROMPTS[name]}], add_generation_prompt=True)
        asked[name] = {"text": text, "ids": ids[:answer["prompt_tokens"]]}
    llama(args, "llama", args.model, asked)
    if args.f32:
        llama(args, "llama-f32", dequantized(reader, args.out / "f32.gguf"), asked)

    model = AutoModelForCausalLM.from_pretrained(args.model.parent, gguf_file=args.model.name, dtype=torch.float32, attn_implementation="eager").eval()
    for name, (answer, ids, logits) in ours.items():
        start, mine = answer["prompt_tokens"], answer["token_ids"]
        with torch.no_grad():
            want = model(torch.tensor([ids])).logits[0, start - 1:-1].numpy()
        second, best = np.sort(want, -1)[:, -2:].T
        gaps = best - second
        print(f"\n## {name}: {start} + {len(mine)} tokens, {answer['timings']['decode_tokens_per_second']:.2f} a second\n{answer['text']!r}")
        print("Fanlight, ask and trace choose", "the same" if logits.argmax(-1).tolist() == mine else "DIFFERENT tokens")
        print(f"transformers: {difference(mine, want.argmax(-1).tolist())}; its closest choice {gaps.min():.4f} at {gaps.argmin()}")
        print("  Fanlight's first token:  ", errors(logits[:1], want[:1]))
        print("  Fanlight's whole answer: ", errors(logits, want))
        for kind in ("llama", "llama-f32") if args.f32 else ("llama",):
            theirs = json.loads((args.out / f"{name}.{kind}.json").read_text())
            rows = np.fromfile(args.out / f"{name}.{kind}.bin", np.float32).reshape(len(theirs["answer"]), -1)
            at = first(mine, theirs["answer"])
            same = len(mine) if at is None else at + 1
            if theirs["ids"] != ids[:start]:
                raise ValueError(f"{name}: llama.cpp's ids of the prompt are {theirs['ids']}, Fanlight's {ids[:start]}")
            print(f"{kind}: {difference(mine, theirs['answer'])}")
            print("  its first token:         ", errors(rows[:1], want[:1]))
            print("  as far as equal:         ", errors(rows[:same], want[:same]))
            if at is not None:
                for who, row in (("Fanlight", logits[at]), (kind, rows[at]), ("transformers", want[at])):
                    print(f"    {who:<12} {top(row, pieces)}")


if __name__ == "__main__":
    main()
