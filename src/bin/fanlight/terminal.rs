//! Text for people. What a model, a template or a file name says may hold escape sequences, with which a terminal can be made to write to
//! the clipboard or to show something else; on a terminal, control characters are therefore shown as `\u{1b}`. A pipe gets them
//! as they are.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write};

/// The text as a terminal may show it. Line breaks and tabs stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    // C0, DEL and C1; and the characters that turn the direction of a line around.
    let hostile = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    match text.contains(hostile) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(
            text.chars().map(|c| if hostile(c) { c.escape_unicode().to_string() } else { c.into() }).collect(),
        ),
    }
}

/// Writes to standard output. If its reader has gone, as `head` does, the program ends: nobody reads what would follow.
pub fn out(text: Arguments<'_>) {
    let mut stream = std::io::stdout();
    let terminal = stream.is_terminal();
    let text = text.to_string();
    let text = if terminal { shown(&text) } else { text.as_str().into() };
    if let Err(error) = stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        let code = i32::from(error.kind() != ErrorKind::BrokenPipe);
        std::process::exit(code);
    }
}

/// Writes to standard error, as far as that goes.
pub fn err(text: Arguments<'_>) {
    let mut stream = std::io::stderr();
    let terminal = stream.is_terminal();
    let text = text.to_string();
    let text = if terminal { shown(&text) } else { text.as_str().into() };
    let _ = stream.write_all(text.as_bytes());
}

/// `println!` for a terminal.
macro_rules! say {
    ($($part:tt)*) => { $crate::native::terminal::out(format_args!("{}\n", format_args!($($part)*))) };
}

/// `eprintln!` for a terminal.
macro_rules! note {
    ($($part:tt)*) => { $crate::native::terminal::err(format_args!("{}\n", format_args!($($part)*))) };
}

pub(super) use {note, say};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_shown_and_not_sent() {
        assert_eq!(shown("\u{1b}]52;c;QQ==\u{7}\u{9b}31m\r"), "\\u{1b}]52;c;QQ==\\u{7}\\u{9b}31m\\u{d}");
        assert_eq!(shown("a\u{202E}b\u{7F}"), "a\\u{202e}b\\u{7f}");
        assert_eq!(shown("Grüße\n\t世界 👩\u{200D}💻"), "Grüße\n\t世界 👩\u{200D}💻");
    }
}
