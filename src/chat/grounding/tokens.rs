//! Boxes between control tokens, as Qwen-VL and Qwen2-VL write them, and the same text after the control tokens were removed.

use super::coordinates::{Class, numbers_in};
use super::lenient::number;
use super::located::{Found, Shape, shared};

/// What a control token begins or ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mark {
    Reference,
    ReferenceEnd,
    Box,
    Quad,
    /// Of a box or of a quad.
    End,
}

/// The control tokens of Qwen2-VL and its successors that begin something here.
pub const CONTROL_TOKENS: [&str; 3] = ["<|object_ref_start|>", "<|box_start|>", "<|quad_start|>"];

/// Qwen2-VL's control tokens, then Qwen-VL's.
const MARKS: [(&str, Mark); 12] = [
    ("<|object_ref_start|>", Mark::Reference),
    ("<|object_ref_end|>", Mark::ReferenceEnd),
    ("<|box_start|>", Mark::Box),
    ("<|box_end|>", Mark::End),
    ("<|quad_start|>", Mark::Quad),
    ("<|quad_end|>", Mark::End),
    ("<ref>", Mark::Reference),
    ("</ref>", Mark::ReferenceEnd),
    ("<box>", Mark::Box),
    ("</box>", Mark::End),
    ("<quad>", Mark::Quad),
    ("</quad>", Mark::End),
];

/// What a text locates between control tokens. A reference is the label of every box up to the next reference.
pub(super) fn marked(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut label = None;
    // The mark that was opened last, and where the text after it begins.
    let mut open: Option<(Mark, usize)> = None;
    let mark_at = |at: usize| MARKS.iter().find(|(name, _)| text[at..].starts_with(name));
    let marks = text.match_indices('<').filter_map(|(at, _)| mark_at(at).map(|(name, mark)| (at, name.len(), *mark)));
    for (at, length, mark) in marks.chain([(text.len(), 0, Mark::End)]) {
        match open {
            Some((Mark::Reference, from)) if mark != Mark::End => label = Some(shared(&text[from..at])),
            Some((shape @ (Mark::Box | Mark::Quad), from)) => {
                found.extend(Found::all(shapes(shape, &text[from..at]), label, None));
            }
            _ => {}
        }
        open = Some((mark, at + length));
    }
    found
}

/// The shapes of the numbers between two tokens: one pair is a point, two pairs are a box, four are a quadrilateral.
fn shapes(mark: Mark, inner: &str) -> Vec<Shape> {
    let inner = inner.trim();
    // Without a closing bracket, the last number may be cut off.
    if !inner.ends_with([')', ']']) {
        return Vec::new();
    }
    let Some(numbers) = numbers_in(inner) else { return Vec::new() };
    let size = if mark == Mark::Quad { 8 } else { 4 };
    match numbers.len() {
        n if n > size && n.is_multiple_of(size) => {
            numbers.chunks_exact(size).flat_map(|part| Class::Any.flat(part)).collect()
        }
        _ => Class::Any.flat(&numbers),
    }
}

/// What a text without control tokens locates: `NAME(x1,y1),(x2,y2)`. Several boxes may follow one name.
pub(super) fn unmarked(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let (mut at, mut end) = (0, 0);
    let mut label = "";
    while let Some(skipped) = text[at..].find('(') {
        let start = at + skipped;
        let mut numbers = Vec::new();
        at = start;
        // Pairs with commas between them.
        while let Some((pair, length)) = pair(&text[at..]) {
            numbers.extend(pair);
            at += length;
            let rest = text[at..].trim_start();
            match rest.strip_prefix(',').map(str::trim_start).filter(|rest| rest.starts_with('(')) {
                Some(rest) => at = text.len() - rest.len(),
                None => break,
            }
        }
        if numbers.is_empty() {
            at = start + 1;
            continue;
        }
        let before = text[end..start].rsplit('\n').next().unwrap_or_default();
        let before = before.trim_matches(|c: char| c.is_whitespace() || ",;:.-*•".contains(c));
        if !before.is_empty() {
            label = shared(before);
        }
        end = at;
        if matches!(numbers.len(), 4 | 8) {
            found.extend(Found::all(Class::Any.flat(&numbers), Some(label), None));
        }
    }
    found
}

/// `(x,y)` at the beginning of a text, and its length.
fn pair(text: &str) -> Option<([f64; 2], usize)> {
    let inner = text.strip_prefix('(')?;
    // No pair is longer than this. The limit keeps the search for the end from going over a long text again and again.
    let end = inner.bytes().take(64).position(|byte| byte == b')')?;
    let (x, y) = inner[..end].split_once(',')?;
    Some(([number(x)?, number(y)?], end + 2))
}
