//! Backslashes in strings of JSON that are not escapes: models copy formulas and paths without doubling them.

/// LaTeX commands that begin like an escape of JSON, `\n`, `\r` or `\t`. Those that could as well be a line break and a short
/// word of some language (`\ne`, `\ni`, `\nu`) are not among them.
const COMMANDS: [&str; 45] = [
    "nabla",
    "neg",
    "neq",
    "newline",
    "nexists",
    "ngeq",
    "nleq",
    "nmid",
    "nolimits",
    "nonumber",
    "not",
    "notag",
    "notin",
    "nparallel",
    "nsubseteq",
    "nwarrow",
    "rangle",
    "rbrace",
    "rbrack",
    "rceil",
    "rfloor",
    "rho",
    "right",
    "rightarrow",
    "rightharpoonup",
    "rightleftharpoons",
    "rm",
    "root",
    "rvert",
    "rVert",
    "tabular",
    "tag",
    "tan",
    "tanh",
    "tau",
    "tbinom",
    "tfrac",
    "therefore",
    "theta",
    "tilde",
    "times",
    "to",
    "top",
    "triangle",
    "triangleq",
];

/// Whether the backslash before `rest` stands for itself. `before` is the string up to it.
///
/// JSON has no other escapes than `\" \\ \/ \b \f \n \r \t \uXXXX`; Python also has `\'`. Nobody means a backspace, or a
/// form feed before a letter. Line breaks and tabs are meant, unless a command of LaTeX begins there or the word is a path.
pub(super) fn literal(before: &str, rest: &str) -> bool {
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let word = &rest[..letters];
    match rest.bytes().next() {
        None | Some(b'"' | b'\'' | b'\\' | b'/') => false,
        Some(b'b') => true,
        Some(b'f') => letters > 1,
        Some(b'n' | b'r' | b't') => COMMANDS.contains(&word) || word.starts_with("text") || in_path(before),
        Some(b'u') => !rest.get(1..5).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())),
        _ => true,
    }
}

/// Whether a text ends inside a path of Windows that has a backslash already: `C:\Users`.
fn in_path(text: &str) -> bool {
    let far = text.len().saturating_sub(260);
    let near = &text.as_bytes()[far..];
    let start = near.iter().rposition(|byte| byte.is_ascii_whitespace()).map_or(0, |at| at + 1);
    match &near[start..] {
        [drive, b':', b'\\', ..] => drive.is_ascii_alphabetic(),
        [b'\\', b'\\', ..] => true,
        _ => false,
    }
}
