"""The tokenizer: Qwen2's byte-level BPE with a tiny vocabulary.

The merges cover what every conversation repeats (roles, questions, JSON scaffolding) and hardly ever touch the words on a
screen, so those are read and written letter by letter. A merge chain such as " b", " bu", ... " button" starts with a
space, and text inside quotes or on its own line does not.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
           "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>"]
PLAIN = ["<tool_call>", "</tool_call>"]  # added tokens that stay visible when special ones are skipped
VOCAB = 512  # embedding rows; the tokenizer uses a few less

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
           r"|\s+(?!\S)|\s+")

# Words that get a token of their own when a space stands before them.
WORDS = """a are helpful assistant does the say is on what color button buttons link links label field text heading price
written there many in this of image screen number red orange yellow green teal blue purple pink gray black white""".split()
# Other chains, as the sequence of pieces to be glued: each grows from its rarest pair of letters.
CHAINS = [["us", "e", "r"], ["sy", "s", "t", "e", "m"], ["bb", "o", "x"], ["[", "{", '"'], ['"', ":"], ["]", ","],
          ['"', "}", "]"], ['"', "}", ",", "\n"]]
GLUE = [("s", "i"), ("s", "si"), ("a", "ssi"), ("assi", "s"), ("assis", "t"), ("assist", "a"), ("assista", "n"),
        ("assistan", "t")]


def byte_alphabet() -> dict[int, str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in plain}
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + len(table) - len(plain))
    return table


def build_tokenizer() -> Tokenizer:
    alphabet = byte_alphabet()
    spell = lambda s: "".join(alphabet[b] for b in s.encode())  # noqa: E731
    vocab = {alphabet[b]: i for i, b in enumerate(sorted(alphabet, key=lambda b: alphabet[b]))}
    merges: list[tuple[str, str]] = []

    def glue(a: str, b: str) -> str:
        if (a, b) not in merges:
            merges.append((a, b))
        vocab.setdefault(a + b, len(vocab))
        return a + b

    for mark in "€£":  # one token per currency sign
        head, *rest = spell(mark)
        for c in rest:
            head = glue(head, c)
    for a, b in GLUE:
        glue(a, b)
    for chain in CHAINS:
        head, *rest = [c for piece in chain[:1] for c in spell(piece)] + [spell(p) for p in chain[1:]]
        for piece in rest:
            head = glue(head, piece)
    for word in WORDS:
        head, *rest = spell(" " + word)
        for c in rest:
            head = glue(head, c)

    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    tok.add_tokens([AddedToken(s, special=False, normalized=False) for s in PLAIN])
    if tok.get_vocab_size() > VOCAB:
        raise ValueError(f"{tok.get_vocab_size()} tokens do not fit {VOCAB} rows")
    return tok


CHAT_TEMPLATE = """\
{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}\
{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}<|im_end|>
{% else %}{% for content in message['content'] %}\
{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}\
{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}\
<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' or 'video' in content %}\
{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}\
<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}\
<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def save_tokenizer(folder: Path) -> None:
    tok = build_tokenizer()
    tok.save(str(folder / "tokenizer.json"))
    added = {str(tok.token_to_id(s)): {"content": s, "lstrip": False, "normalized": False, "rstrip": False,
                                       "single_word": False, "special": s in SPECIAL} for s in SPECIAL + PLAIN}
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added,
        "additional_special_tokens": SPECIAL[1:], "bos_token": None, "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>", "errors": "replace", "model_max_length": 4096, "pad_token": "<|endoftext|>",
        "split_special_tokens": False, "tokenizer_class": "Qwen2TokenizerFast", "unk_token": None}, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
