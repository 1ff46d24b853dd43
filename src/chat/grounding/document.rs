//! The blocks of a document in "QwenVL HTML", which Qwen2.5-VL and Qwen3-VL write for a page: HTML whose elements have
//! `data-bbox="x1 y1 x2 y2"`.

use serde::Serialize;

use super::coordinates::{Class, numbers_in};
use super::entities::decoded;
use super::located::{Convention, Found, Shape};
use super::tags::{Tag, tags};
use crate::chat::answer::ImageInfo;

/// Deepest nesting of elements; deeper elements count as part of the one above them.
const MAX_DEPTH: usize = 64;
/// Elements that are blocks even without a box, because text without a place is still text.
const BLOCKS: [&str; 18] = [
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "p",
    "table",
    "pre",
    "blockquote",
    "figure",
    "img",
    "ul",
    "ol",
    "li",
    "div",
    "figcaption",
    "caption",
];
/// Elements that have no content and no closing tag.
const VOID: [&str; 6] = ["img", "br", "hr", "input", "meta", "link"];
/// Elements that end where the next one of the same kind begins.
const ENDED: [&str; 5] = ["p", "li", "tr", "td", "th"];

/// A piece of a page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Block {
    /// The element's name in lower case: `h2`, `p`, `table`, `div`.
    pub tag: String,
    /// Its class, such as `image`, `formula` or `image caption`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// `[x1, y1, x2, y2]` in pixels of the picture as given; `None` if the model wrote none.
    #[serde(rename = "box", skip_serializing_if = "Option::is_none")]
    pub at: Option<[f64; 4]>,
    /// Its text: entities are decoded, rows and line breaks become lines, cells of a row have a tab between them.
    pub text: String,
    /// Its inner HTML as the model wrote it.
    pub html: String,
}

/// The blocks of a page in reading order. Of elements inside each other, the outermost with a box is the block; of a list, each item is
/// one. Of an answer that is cut off, the blocks so far.
pub fn document(html: &str, convention: Convention, image: &ImageInfo) -> Vec<Block> {
    let blocks = elements(html).into_iter().map(|element| {
        let inner = &html[element.inner.0..element.inner.1];
        let alt = if element.tag.is("img") { element.tag.get("alt") } else { None };
        let class = element.tag.get("class").map(decoded).map(|class| class.trim().to_owned());
        Block {
            tag: element.tag.name.to_ascii_lowercase(),
            class: class.filter(|class| !class.is_empty()),
            at: element.at.map(|at| convention.place_box(at, image)),
            text: alt.map_or_else(|| text(inner), decoded),
            html: inner.trim().to_owned(),
        }
    });
    blocks.filter(|block| block.at.is_some() || !block.text.is_empty()).collect()
}

/// The boxes of a page, labelled with their `data-label`, class or element name. None if the text is no page.
pub(super) fn boxes(answer: &str) -> Vec<Found> {
    if !answer.contains("data-bbox") && !answer.contains("data-polygon") {
        return Vec::new();
    }
    let boxes = elements(answer).into_iter().filter_map(|element| {
        // Chandra and others write what it is in an attribute of its own.
        let own = ["data-label", "class"].iter().filter_map(|name| element.tag.get(name));
        let name = own.into_iter().find(|label| !label.trim().is_empty()).unwrap_or(element.tag.name);
        Some(Found::all(vec![Shape::Box(element.at?)], Some(&decoded(name)), None))
    });
    boxes.flatten().collect()
}

/// A block where it stands in the text.
struct Element<'a> {
    tag: Tag<'a>,
    at: Option<[f64; 4]>,
    inner: (usize, usize),
}

fn elements(html: &str) -> Vec<Element<'_>> {
    // The open elements, each with the number of blocks that were done when it began.
    let mut open: Vec<(Tag<'_>, usize)> = Vec::new();
    let mut done: Vec<Element<'_>> = Vec::new();
    for tag in tags(html) {
        let same = |(above, _): &(Tag<'_>, usize)| above.is(tag.name);
        if tag.closes {
            if let Some(depth) = open.iter().rposition(same) {
                while open.len() > depth {
                    close(&mut open, &mut done, tag.start);
                }
            }
            continue;
        }
        if open.last().is_some_and(same) && ENDED.iter().any(|name| tag.is(name)) {
            close(&mut open, &mut done, tag.start);
        }
        if open.len() < MAX_DEPTH {
            open.push((tag, done.len()));
            if tag.empty || VOID.iter().any(|name| tag.is(name)) {
                close(&mut open, &mut done, tag.end);
            }
        }
    }
    let end = html.trim_end();
    let end = end.strip_suffix("```").unwrap_or(end).len();
    while !open.is_empty() {
        close(&mut open, &mut done, end);
    }
    done
}

/// Ends the innermost open element. It becomes a block, unless it holds blocks or is none.
fn close<'a>(open: &mut Vec<(Tag<'a>, usize)>, done: &mut Vec<Element<'a>>, end: usize) {
    let Some((tag, before)) = open.pop() else { return };
    let at = coordinates(tag);
    let is = |names: &[&str]| names.iter().any(|name| tag.is(name));
    // A list has no text beside that of its items, so the items are the blocks.
    let whole = at.is_some() && !is(&["ul", "ol", "html", "body"]) || is(&["table"]);
    if whole {
        done.truncate(before);
    }
    if done.len() == before && (at.is_some() || is(&BLOCKS)) {
        done.push(Element { tag, at, inner: (tag.end.min(end), end) });
    }
}

/// The box of an element: the four numbers of `data-bbox`, or the box around the corners of `data-polygon`.
fn coordinates(tag: Tag<'_>) -> Option<[f64; 4]> {
    let shapes = |name: &str| tag.get(name).and_then(numbers_in).map(|numbers| Class::Polygon.flat(&numbers));
    match shapes("data-bbox").or_else(|| shapes("data-polygon"))?.pop()? {
        Shape::Box(at) => Some(at),
        Shape::Polygon(corners) => {
            let most = |axis: usize, pick: fn(f64, f64) -> f64| corners.iter().map(|at| at[axis]).reduce(pick);
            Some([most(0, f64::min)?, most(1, f64::min)?, most(0, f64::max)?, most(1, f64::max)?])
        }
        _ => None,
    }
}

/// The text of HTML, without its tags.
fn text(html: &str) -> String {
    let mut lines = Lines::default();
    let mut at = 0;
    for tag in tags(html) {
        lines.words(&decoded(&html[at..tag.start]));
        at = tag.end;
        let is = |names: &[&str]| names.iter().any(|name| tag.is(name));
        if is(&["br"]) || !is(&["td", "th"]) && (is(&BLOCKS) || is(&["tr"])) {
            lines.end();
        } else if tag.closes && is(&["td", "th"]) {
            lines.cell();
        }
        if tag.is("img")
            && let Some(alt) = tag.get("alt")
        {
            lines.words(&decoded(alt));
        }
    }
    // A tag that is cut off is not part of the text.
    let rest = &html[at..];
    let cut = rest.rfind('<').filter(|at| rest[at + 1..].starts_with(|c: char| c == '/' || c.is_ascii_alphabetic()));
    lines.words(&decoded(&rest[..cut.unwrap_or(rest.len())]));
    lines.finish()
}

/// Text roughly as a browser lays it out: white space becomes one space, and there is none at the ends of lines.
#[derive(Default)]
struct Lines {
    text: String,
    space: bool,
}

impl Lines {
    /// Adds words, with one space for any white space between them.
    fn words(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() {
                self.space = true;
                continue;
            }
            if std::mem::take(&mut self.space) && !self.text.is_empty() && !self.text.ends_with(['\n', '\t']) {
                self.text.push(' ');
            }
            self.text.push(c);
        }
    }

    /// Ends the line.
    fn end(&mut self) {
        self.space = false;
        self.text.truncate(self.text.trim_end_matches('\t').len());
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// Ends a table's cell.
    fn cell(&mut self) {
        self.space = false;
        self.text.push('\t');
    }

    fn finish(self) -> String {
        self.text.trim_matches(['\n', '\t', ' ']).to_owned()
    }
}
