//! A template's source before it is parsed: what Jinja2 reads differently, and what would be too deep for the parser.
//!
//! minijinja limits how deep blocks and brackets nest, but it builds a tree as deep as an expression has operators, and drops it by
//! recursion. `1+1+1+…` of some kilobytes overflows the stack, which ends the process, so operators are counted before.

use std::borrow::Cow;

use super::limits::failed;
use crate::error::Result;

/// Most operators, filters, attributes and brackets of one expression. The longest expression in use has about 40.
const MAX_OPERATORS: usize = 300;
/// Most `elif` of a template, all together. They nest in each other.
const MAX_ELIF: usize = 300;

/// The source as minijinja should get it: newlines as Jinja2's lexer reads them, and transformers' `{% generation %}` (which marks what the
/// assistant wrote, for training) as a block that only has a scope.
///
/// # Errors
/// [`crate::Error::Template`] for an expression of more than [`MAX_OPERATORS`].
pub(super) fn prepared(source: &str) -> Result<Cow<'_, str>> {
    let source = match source.contains('\r') {
        true => Cow::Owned(source.replace("\r\n", "\n").replace('\r', "\n")),
        false => Cow::Borrowed(source),
    };
    // Where `generation` and `endgeneration` stand as the only word of a statement.
    let mut tags: Vec<(usize, &str)> = Vec::new();
    let (mut at, mut elif) = (0, 0);
    while let Some(begin) = opening(&source, at) {
        at = begin + 2;
        if source.as_bytes()[begin + 1] == b'#' {
            at = source[at..].find("#}").map_or(source.len(), |end| at + end + 2);
            continue;
        }
        let end = scan(&source, at)?;
        let inner = &source[at..end];
        let word = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let statement = source.as_bytes()[begin + 1] == b'%';
        at = (end + 2).min(source.len());
        match word {
            "generation" if statement => tags.push((begin + 2 + inner.find(word).unwrap_or(0), word)),
            "endgeneration" if statement => tags.push((begin + 2 + inner.find(word).unwrap_or(0), word)),
            // What stands there is text up to the end of the block.
            "raw" if statement => at = source[at..].find("endraw").map_or(source.len(), |end| at + end),
            _ if statement && word.starts_with("elif") => elif += 1,
            _ => {}
        }
        if elif > MAX_ELIF {
            return Err(failed(format!("expected at most {MAX_ELIF} elif, found more")));
        }
    }
    if tags.is_empty() {
        return Ok(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut done = 0;
    for (at, word) in tags {
        out.push_str(&source[done..at]);
        out.push_str(if word == "generation" { "with" } else { "endwith" });
        done = at + word.len();
    }
    out.push_str(&source[done..]);
    Ok(Cow::Owned(out))
}

/// Where the next expression, statement or comment begins.
fn opening(source: &str, from: usize) -> Option<usize> {
    let found = source.as_bytes()[from..].windows(2).position(|pair| matches!(pair, b"{{" | b"{%" | b"{#"))?;
    Some(from + found)
}

/// Where an expression or statement ends, by the rules of minijinja's lexer: brackets are balanced, and strings may hold anything.
fn scan(source: &str, from: usize) -> Result<usize> {
    let bytes = source.as_bytes();
    let (mut at, mut depth, mut operators) = (from, 0usize, 0usize);
    while let Some(&byte) = bytes.get(at) {
        let closes = matches!(byte, b'}' | b'%') && bytes.get(at + 1) == Some(&b'}');
        match byte {
            _ if closes && depth == 0 => return Ok(at),
            b'"' | b'\'' => {
                at += 1;
                while let Some(&inner) = bytes.get(at).filter(|inner| **inner != byte) {
                    at += 1 + usize::from(inner == b'\\');
                }
            }
            b'(' | b'[' | b'{' => {
                depth += 1;
                operators += 1;
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'~' | b'|' | b'.' | b'<' | b'>' | b'=' | b'!' => operators += 1,
            _ if byte.is_ascii_alphabetic() => {
                let end = bytes[at..].iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_');
                let word = &bytes[at..end.map_or(bytes.len(), |end| at + end)];
                operators += usize::from(matches!(word, b"and" | b"or" | b"not" | b"in" | b"is" | b"if" | b"else"));
                at += word.len() - 1;
            }
            // Of a number the point is no operator.
            _ if byte.is_ascii_digit() => {
                let end = bytes[at..].iter().position(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b'.'));
                at += end.map_or(bytes.len() - at, |end| end) - 1;
            }
            _ => {}
        }
        if operators > MAX_OPERATORS {
            let found = format!("more at byte {at}");
            return Err(failed(format!("expected at most {MAX_OPERATORS} operators in an expression, found {found}")));
        }
        at += 1;
    }
    Ok(bytes.len())
}
