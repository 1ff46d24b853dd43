//! Regular expressions as JavaScript writes them → patterns of the `regex` crate that match the same texts as a whole.
//! `parse` reads them into a tree (`node`) of sets of code points (`sets`), `write` writes the tree as a pattern.
//!
//! ECMA-262 (2025), "RegExp (Regular Expression) Objects", with the additions of its annex B. Classes,
//! `\s`, `\d`, the dot and letters of either case mean different things in the two notations. So each of them becomes the set of
//! code points that it matches in JavaScript, and the result contains nothing but such sets.
//!
//! Without the flag `u` or `v` a pattern is about units of UTF-16, and a character beyond U+FFFF is two of them. Such a
//! character is allowed where any number of units is (`.*`, `[^"]+`), and where it is written out; so whatever the result
//! allows, the pattern matches.

mod node;
mod parse;
mod sets;
mod write;

use crate::Error;

use parse::{parse, refused};
use write::{anchors, write};

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 16 << 10;

/// The pattern for what `source` with `flags` matches as a whole; `None` where that is the empty text alone.
///
/// # Errors
/// Text that is no pattern, and patterns with lookaround, word boundaries or backreferences: an answer is checked token by
/// token while it is written, and cannot be checked for these.
pub(crate) fn translate(source: &str, flags: &str) -> Result<Option<String>, Error> {
    if source.len() > MAX_PATTERN {
        return Err(refused(format!("a pattern of at most {MAX_PATTERN} bytes"), format!("one of {}", source.len())));
    }
    let (node, unicode) = parse(source, flags)?;
    let node = anchors(node, true, true)?;
    match write(&node, unicode) {
        None => Err(refused("a regular expression that some text matches", format!("/{source}/{flags}"))),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => Ok(Some(text)),
    }
}

#[cfg(test)]
mod tests;
