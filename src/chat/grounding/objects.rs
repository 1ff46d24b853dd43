//! What JSON objects and lists locate: `{"bbox_2d": [1, 2, 3, 4], "label": "cat"}`, with its label and its picture.

use super::coordinates::{Class, named, numbers};
use super::lenient::{self, Node, number, plain};
use super::located::{Found, Shape};

/// Everything that the JSON in a text locates.
pub(super) fn objects(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for node in lenient::values(text) {
        collect(&node, true, &mut found);
    }
    found
}

/// Goes through a value. `bare` says whether a list of four numbers without a key is a box here.
fn collect(node: &Node, bare: bool, found: &mut Vec<Found>) {
    match node {
        Node::Object(entries) => object(node, entries, found),
        Node::List { items, .. } => match numbers(node) {
            Some(numbers) if bare && numbers.len() == 4 => {
                found.extend(Found::all(Class::Any.flat(&numbers), None, None));
            }
            Some(_) => {}
            None => items.iter().for_each(|item| collect(item, bare, found)),
        },
        _ => {}
    }
}

/// Adds what an object locates, and then what is inside it.
fn object(node: &Node, entries: &[(String, Node)], found: &mut Vec<Found>) {
    let mut shapes = Vec::new();
    for (key, value) in entries {
        if let Some(class) = Class::of(key) {
            class.shapes(value, &mut shapes);
        }
    }
    if shapes.is_empty() {
        shapes.extend(named(node).map(|numbers| Class::Any.flat(&numbers)).unwrap_or_default());
    }
    let located = !shapes.is_empty();
    let (label, image) = if located { (label(node, entries), image(node)) } else { (None, None) };
    found.extend(Found::all(shapes, label.as_deref(), image));
    // `{"cat": [1, 2, 3, 4], "dog": [5, 6, 7, 8]}`
    let boxes = |value: &Node| {
        let mut shapes = Vec::new();
        Class::Box.shapes(value, &mut shapes);
        shapes.retain(|shape| matches!(shape, Shape::Box(_)));
        Some(shapes).filter(|shapes| !shapes.is_empty() && matches!(value, Node::List { .. }))
    };
    if !located && let Some(all) = entries.iter().map(|(_, value)| boxes(value)).collect::<Option<Vec<_>>>() {
        for ((key, _), shapes) in entries.iter().zip(all) {
            found.extend(Found::all(shapes, Some(key), None));
        }
        return;
    }
    for (key, value) in entries {
        if !located || Class::of(key).is_none() {
            collect(value, false, found);
        }
    }
}

/// Keys whose value is a label, the most telling first.
const LABELS: [&str; 14] = [
    "label",
    "textcontent",
    "text",
    "name",
    "object",
    "class",
    "category",
    "description",
    "caption",
    "title",
    "content",
    "alt",
    "event",
    "type",
];
/// Keys whose value says which picture, counted from 1.
const PICTURES: [&str; 7] = ["image", "imageid", "img", "picture", "pictureid", "imagenumber", "imagename"];
/// Keys whose value says which picture, counted from 0.
const PICTURES_FROM_0: [&str; 3] = ["imageindex", "imageidx", "pictureindex"];

/// The label of an object: the value of one of [`LABELS`], or else the first text in it, as in `{"bbox_2d": …, "name_en": "Rice"}`.
fn label(node: &Node, entries: &[(String, Node)]) -> Option<String> {
    let by_key = LABELS.iter().find_map(|key| node.get(&[key]).and_then(|value| first_text(value, true)));
    by_key.or_else(|| {
        let picture = |key: &str| PICTURES.iter().chain(&PICTURES_FROM_0).any(|name| plain(key).eq(name.chars()));
        let mut others = entries.iter().filter(|(key, _)| Class::of(key).is_none() && !picture(key));
        others.find_map(|(key, value)| first_text(value, false).filter(|_| !key.is_empty()))
    })
}

/// The first text in a value. `numbers` says whether a number counts as text.
pub(super) fn first_text(node: &Node, numbers: bool) -> Option<String> {
    match node {
        Node::Text(text) => Some(text.clone()).filter(|text| numbers || number(text).is_none()),
        Node::Number(value) => Some(value.to_string()).filter(|_| numbers),
        // An object with coordinates of its own is located itself, so its texts are its own labels.
        Node::Object(entries) if entries.iter().all(|(key, _)| Class::of(key).is_none()) => {
            entries.iter().find_map(|(_, value)| first_text(value, numbers))
        }
        Node::List { items, .. } => items.iter().find_map(|item| match item {
            Node::Text(_) => first_text(item, numbers),
            _ => None,
        }),
        _ => None,
    }
}

/// The picture that an object names, as an index from 0.
fn image(node: &Node) -> Option<usize> {
    // A number, or the number at the end of `Picture 2` or `image_2.png`.
    let count = |value: &Node| match value {
        Node::Number(value) => Some(*value).filter(|n| *n >= 0.0 && n.fract() == 0.0).map(|n| n as usize),
        Node::Text(text) => {
            let name = text.rsplit_once('.').map_or(text.as_str(), |(name, _)| name);
            let digits = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
            name[digits..].parse::<usize>().ok()
        }
        _ => None,
    };
    let from_0 = node.get(&PICTURES_FROM_0).and_then(count);
    from_0.or_else(|| node.get(&PICTURES).and_then(count).and_then(|number| number.checked_sub(1)))
}
