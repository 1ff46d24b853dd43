//! Tags as in HTML, read in one pass from front to back, and the points that models write in them. What a model writes may be badly
//! formed or cut off.

use super::coordinates::{Class, numbers_in};
use super::entities::decoded;
use super::lenient::number;
use super::located::{Found, Shape};

/// `<NAME attribute="value">`, `</NAME>` or `<NAME/>`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tag<'a> {
    /// As written.
    pub name: &'a str,
    /// `</…>`
    pub closes: bool,
    /// `<…/>`
    pub empty: bool,
    attributes: &'a str,
    /// Where it begins in the text, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

impl<'a> Tag<'a> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value of an attribute, in which entities are not decoded yet.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.attributes().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Names and values of all attributes, in which entities are not decoded yet.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.attributes;
        std::iter::from_fn(move || {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || "/,".contains(c));
            let end = rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            if rest.is_empty() {
                return None;
            }
            let Some(value) = after.trim_start().strip_prefix('=').map(str::trim_start) else {
                rest = after;
                return Some((name, ""));
            };
            let quote = value.chars().next().filter(|c| "\"'".contains(*c));
            let (value, after) = match quote {
                Some(quote) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
                None => value.split_at(value.find(char::is_whitespace).unwrap_or(value.len())),
            };
            rest = after;
            Some((name, value))
        })
    }
}

/// The tags of a text. A `<` that begins no tag is text, and so is a tag that does not end.
pub(super) fn tags(text: &str) -> impl Iterator<Item = Tag<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text[at..].find('<')?;
            let (tag, end) = tag(text, start);
            at = end;
            if tag.is_some() {
                return tag;
            }
        }
    })
}

/// The tag that begins at `start`, and how far the text has been read for it.
fn tag(text: &str, start: usize) -> (Option<Tag<'_>>, usize) {
    let inner = &text[start + 1..];
    let closes = inner.starts_with('/');
    let inner = if closes { &inner[1..] } else { inner };
    let begin = text.len() - inner.len();
    if inner.starts_with("!--") {
        return (None, inner.find("-->").map_or(text.len(), |end| begin + end + 3));
    }
    let name = &inner[..inner.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inner.len())];
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return (None, begin);
    }
    // The tag goes up to a `>` outside quotes.
    let (mut quote, mut last) = (None, b' ');
    for (at, byte) in inner.bytes().enumerate().skip(name.len()) {
        let before = last;
        last = if byte.is_ascii_whitespace() { last } else { byte };
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            // A quote begins a value only after `=`; elsewhere it is an apostrophe.
            (None, b'"' | b'\'') if before == b'=' => quote = Some(byte),
            (None, b'>') => {
                let attributes = &inner[name.len()..at];
                let (empty, end) = (attributes.ends_with('/'), begin + at + 1);
                let attributes = attributes.trim_end_matches('/');
                return (Some(Tag { name, closes, empty, attributes, start, end }), end);
            }
            (None, b'<') => return (None, begin + at),
            _ => {}
        }
    }
    (None, text.len())
}

/// What `<point x="…" y="…" alt="…">`, `<points x1="…" y1="…" x2="…" y2="…" alt="…">`, `<point>x y</point>` and
/// `<bbox>x1 y1 x2 y2</bbox>` locate.
pub(super) fn points(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut tags = tags(text).peekable();
    while let Some(tag) = tags.next() {
        if tag.closes || !["point", "points", "bbox"].iter().any(|name| tag.is(name)) {
            continue;
        }
        // The text up to the next tag, which is the closing one.
        let next = tags.peek();
        let inner = next.map_or("", |next| &text[tag.end..next.start]);
        let whole = next.is_some_and(|next| next.closes && next.is(tag.name));
        if let Some(numbers) = numbers_in(inner).filter(|_| whole) {
            let class = if tag.is("bbox") { Class::Box } else { Class::Points };
            found.extend(Found::all(class.flat(&numbers), None, None));
            continue;
        }
        let label = tag.get("alt").filter(|alt| !alt.trim().is_empty()).unwrap_or(inner);
        let label = decoded(label);
        let axis = |letter: [char; 2]| {
            let numbered =
                move |name: &str| name.strip_prefix(letter).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
            tag.attributes().filter(move |(name, _)| numbered(name)).map(|(_, value)| number(value))
        };
        let pairs = axis(['x', 'X']).zip(axis(['y', 'Y']));
        let shapes = pairs.filter_map(|(x, y)| Some(Shape::Point([x?, y?]))).collect();
        found.extend(Found::all(shapes, Some(&label), None));
    }
    found
}

/// The boxes of "QwenVL Markdown", which stand in comments: `<!-- Image (x1, y1, x2, y2) -->`.
pub(super) fn comments(text: &str) -> Vec<Found> {
    let inner = text.split("<!--").skip(1).filter_map(|rest| rest.split_once("-->").map(|(inner, _)| inner.trim()));
    let boxes = inner.filter_map(|comment| {
        let (label, numbers) = comment.strip_suffix(')')?.rsplit_once('(')?;
        let numbers = numbers_in(numbers).filter(|numbers| numbers.len() == 4)?;
        Some(Found::all(Class::Box.flat(&numbers), Some(label), None))
    });
    boxes.flatten().collect()
}
