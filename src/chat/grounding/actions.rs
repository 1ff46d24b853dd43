//! Positions in calls as agents write them: `click(start_box='(84,56)')` of UI-TARS, `pyautogui.click(x=84, y=56)` of OpenCUA.

use super::coordinates::{Class, numbers_in};
use super::lenient::number;
use super::located::{Found, Shape};

/// Longest arguments of a call that are looked at, in bytes.
const MAX_ARGUMENTS: usize = 512;
/// Functions of pyautogui that take a position without names.
const POINTERS: [&str; 10] = [
    "click",
    "doubleClick",
    "tripleClick",
    "rightClick",
    "middleClick",
    "leftClick",
    "moveTo",
    "dragTo",
    "mouseDown",
    "mouseUp",
];

/// The positions of all calls in a text.
pub(super) fn actions(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(skipped) = text[from..].find('(') {
        let open = from + skipped;
        from = open + 1;
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        // No function's name is longer; without the limit, a long word would be gone over again and again.
        let before = text.as_bytes()[open.saturating_sub(64)..open].iter().rev().take_while(|b| word(char::from(**b)));
        let name = &text[open - before.count()..open];
        if name.is_empty() {
            continue;
        }
        let Some(length) = end(&text[from..]) else { continue };
        found.extend(Found::all(shapes(name, &text[from..from + length]), None, None));
        from += length;
    }
    found
}

/// Bytes up to the bracket that closes the arguments; brackets in quotes are text.
fn end(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0usize, None);
    for (at, byte) in text.bytes().enumerate().take(MAX_ARGUMENTS) {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'(' | b'[') => depth += 1,
            (None, b')') if depth == 0 => return Some(at),
            (None, b')' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The shapes of one call's arguments.
fn shapes(name: &str, arguments: &str) -> Vec<Shape> {
    let mut shapes = Vec::new();
    let (mut x, mut y) = (None, None);
    for (key, value) in named(arguments) {
        let value = value.trim_matches(|c: char| c.is_whitespace() || "'\"".contains(c));
        match key {
            "x" => x = number(value),
            "y" => y = number(value),
            key => shapes.extend(
                Class::of(key).and_then(|_| numbers_in(value)).map(|n| Class::Any.flat(&n)).unwrap_or_default(),
            ),
        }
    }
    shapes.extend(x.zip(y).map(|(x, y)| Shape::Point([x, y])));
    let pointer = name.strip_prefix("pyautogui.").is_some_and(|name| POINTERS.contains(&name));
    if shapes.is_empty() && pointer {
        let mut values = arguments.split(',').map(number);
        if let (Some(Some(x)), Some(Some(y))) = (values.next(), values.next()) {
            shapes.push(Shape::Point([x, y]));
        }
    }
    shapes
}

/// `key=value` pairs. A value goes up to the next comma outside quotes and brackets.
fn named(arguments: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = arguments;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (mut depth, mut quote) = (0usize, None);
            let comma = rest.bytes().position(|byte| {
                match (quote, byte) {
                    (Some(open), _) if open == byte => quote = None,
                    (Some(_), _) => {}
                    (None, b'"' | b'\'') => quote = Some(byte),
                    (None, b'(' | b'[') => depth += 1,
                    (None, b')' | b']') => depth = depth.saturating_sub(1),
                    _ => {}
                }
                byte == b',' && depth == 0 && quote.is_none()
            });
            let part = &rest[..comma.unwrap_or(rest.len())];
            rest = comma.map_or("", |at| &rest[at + 1..]);
            if let Some((key, value)) = part.split_once('=') {
                return Some((key.trim(), value));
            }
        }
        None
    })
}
