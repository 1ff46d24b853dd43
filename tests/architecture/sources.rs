//! The source files, and their code without what is no code.

use std::fs;
use std::path::Path;

/// A source file: where it is, which room it belongs to, and its code without comments and literals.
pub struct File {
    pub path: String,
    pub room: String,
    pub code: String,
}

/// All files of `src`, by path.
pub fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let inside = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                let room = inside.split(['/', '.']).next().unwrap().to_owned();
                found.push(File {
                    room,
                    code: code(&fs::read_to_string(&path).unwrap()),
                    path: format!("src/{inside}"),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The text with comments, strings and characters blanked.
pub fn code(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r\"") || rest.starts_with("r#\"") {
            let (start, end) = if rest.starts_with("r#") { (3, "\"#") } else { (2, "\"") };
            rest[start..].find(end).map_or(rest.len(), |at| start + at + end.len())
        } else if c == '"' || (c == '\'' && is_character(rest)) {
            let mut chars = rest.char_indices().skip(1);
            loop {
                match chars.next() {
                    Some((_, '\\')) => drop(chars.next()),
                    Some((at, end)) if end == c => break at + 1,
                    Some(_) => {}
                    None => break rest.len(),
                }
            }
        } else {
            0
        };
        out.push(if skip == 0 { c } else { ' ' });
        rest = &rest[if skip == 0 { c.len_utf8() } else { skip }..];
    }
    out
}

/// Whether this is `'x'` or `'\n'` and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}

/// Identifiers and what stands between them.
pub fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}
