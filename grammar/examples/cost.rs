//! What constraints cost with a real vocabulary: `cargo run --release --package fanlight-grammar --example cost TOKENIZER.json`.
#![expect(clippy::disallowed_methods, reason = "measured natively")]

use std::time::Instant;

use fanlight_grammar::{Grammar, Kind, Spec, Vocabulary};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: cost TOKENIZER.json")?;
    let file: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let (words, vocabulary, end) = read(&file).ok_or("no byte-level tokenizer with <|im_end|>")?;
    let begin = Instant::now();
    let grammar = Grammar::new(&vocabulary, &[end])?;
    println!("{} tokens: ready after {:.0} ms", words.len(), begin.elapsed().as_secs_f64() * 1e3);
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"}, "age": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}},
            "box": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
        },
        "required": ["name", "age", "box"],
    });
    for (name, spec) in [
        ("schema", Spec::JsonSchema(schema)),
        ("any JSON", Spec::JsonSchema(json!({}))),
        ("expression", Spec::regex(r"[A-Z][a-z]+( [a-z]+){3,40}\.", "")),
        ("prose", Spec::regex(r"[^<]*", "s")),
        (
            "Lark",
            Spec::lark(
                "start: expr\nexpr: term ((\"+\" | \"-\") term)*\nterm: NUMBER | \"(\" expr \")\"\nNUMBER: /[0-9]+/",
            ),
        ),
    ] {
        let begin = Instant::now();
        let mut constraint = grammar.constraint(&spec)?;
        let made = begin.elapsed().as_secs_f64() * 1e3;
        let (mut mask, mut allows, mut commit) = (Vec::new(), Vec::new(), Vec::new());
        let mut seed = 7u64;
        while mask.len() < 300 && !constraint.complete() {
            let begin = Instant::now();
            let bits = constraint.mask()?.to_vec();
            mask.push(begin.elapsed().as_secs_f64() * 1e3);
            let all: Vec<u32> = (0..words.len() as u32)
                .filter(|&id| id != end && bits[id as usize / 32] >> (id % 32) & 1 == 1)
                .collect();
            if all.is_empty() {
                break;
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = all[(seed >> 33) as usize % all.len()];
            let begin = Instant::now();
            constraint.allows(id)?;
            allows.push(begin.elapsed().as_secs_f64() * 1e3);
            let begin = Instant::now();
            constraint.commit(id)?;
            commit.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        let [mask, allows, commit] = [mask, allows, commit].map(summary);
        println!("{name}: made in {made:.1} ms; a token: mask {mask}, allows {allows}, commit {commit}");
    }
    Ok(())
}

/// Mean and largest.
fn summary(times: Vec<f64>) -> String {
    let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
    format!("{mean:.3} ms (at most {:.2}, of {})", times.iter().copied().fold(0.0, f64::max), times.len())
}

/// `tokenizer.json` of a byte-level BPE.
fn read(file: &Value) -> Option<(Vec<Vec<u8>>, Vocabulary, u32)> {
    // GPT-2's alphabet: what is printable stands for itself, the other bytes for what follows U+00FF.
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255u8).filter(|&byte| !printable(byte)).zip(0x100..);
    let alphabet: std::collections::HashMap<char, u8> = (0..=255u8)
        .filter(|&byte| printable(byte))
        .map(|byte| (char::from(byte), byte))
        .chain(others.filter_map(|(byte, point)| Some((char::from_u32(point)?, byte))))
        .collect();
    let mut tokens = Vec::new();
    for (text, id) in file["model"]["vocab"].as_object()? {
        let bytes = text.chars().map(|c| alphabet.get(&c).copied()).collect::<Option<Vec<u8>>>()?;
        tokens.push((id.as_u64()? as usize, bytes, Kind::Text));
    }
    for token in file["added_tokens"].as_array()? {
        tokens.push((token["id"].as_u64()? as usize, token["content"].as_str()?.as_bytes().to_vec(), Kind::Control));
    }
    let count = tokens.iter().map(|(id, ..)| id + 1).max()?;
    let (mut words, mut kinds) = (vec![Vec::new(); count], vec![Kind::Text; count]);
    for (id, bytes, kind) in tokens {
        (words[id], kinds[id]) = (bytes, kind);
    }
    let end = words.iter().position(|word| word == b"<|im_end|>")? as u32;
    let mut vocabulary = Vocabulary::default();
    words.iter().zip(kinds).for_each(|(word, kind)| vocabulary.push(word, kind));
    Some((words, vocabulary, end))
}
