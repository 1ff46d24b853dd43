//! What an answer points at, back in the pixels of the caller's pictures: boxes, points and polygons, the blocks of a
//! document, and the seconds of a video.
//!
//! Families differ in the unit ([`Convention`]) and in what they write around the numbers: Qwen-VL
//! `<ref>NAME</ref><box>(x1,y1),(x2,y2)</box>`, Qwen2-VL the same in control tokens, Qwen2.5-VL and Qwen3-VL JSON objects with
//! `bbox_2d`, `point_2d` or `bbox_3d`, or `<points x1="…" y1="…" alt="…">`. What they write also depends on what they are
//! asked for, so every form is read whatever the family, and leniently: prose and fences around, ends that are cut off,
//! Python's quotes, lists of bare boxes. Answers are foreign text; nothing here fails, and no text takes more than time in
//! proportion to its length.

mod document;
mod events;
mod lenient;
mod tags;
mod tokens;

pub use document::{Block, document};
pub use events::{Event, events};

use serde::Serialize;

use crate::chat::ImageInfo;
use lenient::{Node, number, plain};

/// In which unit a family writes coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convention {
    /// Thousandths of the picture's width and height, between control tokens: Qwen-VL and Qwen2-VL.
    ThousandTokens,
    /// Pixels of the picture as the model saw it: Qwen2.5-VL.
    ResizedPixels,
    /// Thousandths of the picture's width and height, in JSON: Qwen3-VL and Qwen3.5.
    ThousandJson,
}

impl Convention {
    /// That of a `model_type`; a text model has none.
    pub fn of(model_type: &str) -> Option<Self> {
        Some(match model_type {
            "qwen" | "qwen_vl" | "qwen2_vl" => Convention::ThousandTokens,
            "qwen2_5_vl" => Convention::ResizedPixels,
            "qwen3_vl" | "qwen3_vl_moe" | "qwen3_5" | "qwen3_5_moe" => Convention::ThousandJson,
            _ => return None,
        })
    }

    /// A point in pixels of the picture as given, and inside it.
    fn place(self, [x, y]: [f64; 2], image: &ImageInfo) -> [f64; 2] {
        let axis = |value: f64, axis: usize| {
            let original = f64::from(image.original[axis]);
            let whole = match self {
                Convention::ResizedPixels => f64::from(image.resized[axis].max(1)),
                Convention::ThousandTokens | Convention::ThousandJson => 1000.0,
            };
            (value * original / whole).clamp(0.0, original)
        };
        [axis(x, 0), axis(y, 1)]
    }

    /// A box so; its corners may have come in any order.
    fn place_box(self, [x1, y1, x2, y2]: [f64; 4], image: &ImageInfo) -> [f64; 4] {
        let ([x1, y1], [x2, y2]) = (self.place([x1, y1], image), self.place([x2, y2], image));
        [x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2)]
    }
}

/// Where something is. As JSON `{"kind": "box", "at": [x1, y1, x2, y2]}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", content = "at", rename_all = "lowercase")]
pub enum Shape {
    /// `[x1, y1, x2, y2]`: left, top, right, bottom.
    Box([f64; 4]),
    /// `[x, y]`.
    Point([f64; 2]),
    /// Corners `[x, y]` in the order of the answer: three or more.
    Polygon(Vec<[f64; 2]>),
    /// `[x, y, z, x_size, y_size, z_size, roll, pitch, yaw]` in the camera's frame as the model wrote them: metres, and
    /// angles. No pixels.
    Box3d([f64; 9]),
}

/// Something located in a picture, in pixels of the picture as given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Located {
    /// Where it is.
    #[serde(flatten)]
    pub shape: Shape,
    /// What it is, where the answer says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Index of its picture among those given: the one that the answer names, and otherwise the last.
    pub image: usize,
}

/// Everything that an answer locates in `images`, which are those of the whole conversation in order. Without pictures only
/// what needs no pixels is found.
///
/// An object may name its picture as the chat template numbers them (`"image": 2`, `"Picture 2"`: from 1 on) or by
/// `image_index` (from 0 on); what names none, or one that is not there, is in the last.
///
/// For [`Convention::ThousandTokens`] the answer should still have its control tokens
/// ([`Engine::locate`](crate::chat::Engine::locate) sees to it). Without them, `NAME(x1,y1),(x2,y2)` is read.
pub fn locate(answer: &str, convention: Convention, images: &[ImageInfo]) -> Vec<Located> {
    let mut found = document::boxes(answer);
    // The first form that there is: what one form reads, another might read again.
    let forms: [fn(&str) -> Vec<Found>; 3] = [tokens::marked, objects, tags::points];
    for form in forms {
        if found.is_empty() {
            found = form(answer);
        }
    }
    if found.is_empty() && convention == Convention::ThousandTokens {
        found = tokens::unmarked(answer);
    }
    if found.is_empty() {
        found = alone(answer);
    }
    found.into_iter().filter_map(|found| found.place(convention, images)).collect()
}

/// Something located, in the answer's own unit.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    shape: Shape,
    label: Option<String>,
    image: Option<usize>,
}

/// Longest label, in bytes, of what shares one: many times a long one could fill the memory.
const MAX_SHARED_LABEL: usize = 256;

impl Found {
    /// Shapes of one label.
    fn all(shapes: Vec<Shape>, label: Option<&str>, image: Option<usize>) -> impl Iterator<Item = Found> + use<> {
        let mut label = label.map(str::trim).filter(|label| !label.is_empty());
        if shapes.len() > 1 {
            label = label.map(shared);
        }
        let label = label.map(str::to_owned);
        shapes.into_iter().map(move |shape| Found { shape, label: label.clone(), image })
    }

    fn place(self, convention: Convention, images: &[ImageInfo]) -> Option<Located> {
        let last = images.len().checked_sub(1);
        let image = self.image.filter(|image| *image < images.len()).or(last);
        let info = image.map(|image| &images[image]);
        let shape = match self.shape {
            Shape::Box(at) => Shape::Box(convention.place_box(at, info?)),
            Shape::Point(at) => Shape::Point(convention.place(at, info?)),
            Shape::Polygon(at) => {
                let info = info?;
                Shape::Polygon(at.into_iter().map(|at| convention.place(at, info)).collect())
            }
            Shape::Box3d(at) => Shape::Box3d(at),
        };
        Some(Located { shape, label: self.label, image: image.unwrap_or(0) })
    }
}

/// The beginning of a label that others have too.
fn shared(label: &str) -> &str {
    let ends = label.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_SHARED_LABEL);
    &label[..ends.last().unwrap_or(0)]
}

/// What the key of some numbers says about them.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Class {
    Box,
    Points,
    Polygon,
    Box3d,
    /// A list without a key, or one that could be any.
    Any,
}

impl Class {
    fn of(key: &str) -> Option<Self> {
        Some(match plain(key).take(24).collect::<String>().as_str() {
            "bbox2d" | "bbox" | "box" | "box2d" | "boundingbox" | "boundingbox2d" | "bboxes" | "bboxes2d" | "boxes"
            | "boundingboxes" | "rect" | "rectangle" => Class::Box,
            "point2d" | "point" | "points" | "points2d" | "coordinate" | "clickpoint" => Class::Points,
            "polygon" | "polygon2d" | "polygons" | "poly" | "quad" | "quads" | "quadrilateral" | "contour" => {
                Class::Polygon
            }
            "bbox3d" | "box3d" | "boundingbox3d" => Class::Box3d,
            "coordinates" | "coords" | "location" | "position" => Class::Any,
            _ => return None,
        })
    }

    /// What so many numbers in a row are, if they are anything.
    fn flat(self, numbers: &[f64]) -> Vec<Shape> {
        match (self, numbers) {
            (Class::Box3d, _) => numbers.try_into().map(Shape::Box3d).into_iter().collect(),
            (Class::Points, _) if numbers.len().is_multiple_of(2) => {
                numbers.chunks_exact(2).map(|at| Shape::Point([at[0], at[1]])).collect()
            }
            (Class::Any, &[x, y]) => vec![Shape::Point([x, y])],
            (_, &[x1, y1, x2, y2]) => vec![Shape::Box([x1, y1, x2, y2])],
            _ if numbers.len() >= 6 && numbers.len().is_multiple_of(2) => {
                vec![Shape::Polygon(numbers.chunks_exact(2).map(|at| [at[0], at[1]]).collect())]
            }
            _ => Vec::new(),
        }
    }

    /// Everything that a value of this class is.
    fn shapes(self, node: &Node, out: &mut Vec<Shape>) {
        if let Some(numbers) = numbers(node) {
            return out.extend(self.flat(&numbers));
        }
        let Node::List { items, closed } = node else { return };
        let pairs: Option<Vec<f64>> = items.iter().try_fold(Vec::new(), |mut all, item| {
            all.extend(numbers(item).filter(|pair| pair.len() == 2)?);
            Some(all)
        });
        match pairs.filter(|pairs| !pairs.is_empty()) {
            // Half a polygon is none.
            Some(_) if !closed && self != Class::Points => {}
            Some(pairs) => out.extend(self.flat(&pairs)),
            None => items.iter().for_each(|item| self.shapes(item, out)),
        }
    }
}

/// The numbers of a whole list of numbers, of a string of them, or of an object such as `{"x1": …}`.
fn numbers(node: &Node) -> Option<Vec<f64>> {
    match node {
        Node::List { items, closed: true } if !items.is_empty() => items.iter().map(one_number).collect(),
        Node::Text(text) => numbers_in(text),
        Node::Object(_) => named(node),
        _ => None,
    }
}

fn one_number(node: &Node) -> Option<f64> {
    match node {
        Node::Number(value) => Some(*value),
        Node::Text(text) => number(text),
        _ => None,
    }
}

/// The numbers of `1 2 3 4`, `1, 2` or `(1,2),(3,4)`; `None` if there is anything else, or only one.
fn numbers_in(text: &str) -> Option<Vec<f64>> {
    let words = text.split(|c: char| c.is_whitespace() || "()[],;".contains(c)).filter(|word| !word.is_empty());
    words.map(number).collect::<Option<Vec<f64>>>().filter(|numbers| numbers.len() > 1)
}

/// Coordinates by name.
fn named(node: &Node) -> Option<Vec<f64>> {
    let value = |name: &str| node.get(&[name]).and_then(one_number);
    let all = |names: [&str; 4]| names.iter().map(|name| value(name)).collect::<Option<Vec<_>>>();
    let size = |width: &str, height: &str| {
        let [x, y, w, h] = [value("x")?, value("y")?, value(width)?, value(height)?];
        Some(vec![x, y, x + w, y + h])
    };
    let corners = (1..).map_while(|n| Some([value(&format!("x{n}"))?, value(&format!("y{n}"))?])).take(64);
    Some(corners.flatten().collect::<Vec<f64>>())
        .filter(|corners| !corners.is_empty())
        .or_else(|| all(["xmin", "ymin", "xmax", "ymax"]))
        .or_else(|| all(["left", "top", "right", "bottom"]))
        .or_else(|| size("width", "height"))
        .or_else(|| size("w", "h"))
        .or_else(|| Some(vec![value("x")?, value("y")?]))
}

/// What the JSON of a text locates.
fn objects(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for node in lenient::values(text) {
        collect(&node, true, &mut found);
    }
    found
}

/// Goes through a value; `bare`: a list of four numbers is a box here without any key.
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

/// Keys whose value is a label, the best first.
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
/// Keys whose value says which picture.
const PICTURES: [&str; 7] = ["image", "imageid", "img", "picture", "pictureid", "imagenumber", "imagename"];
/// The same, counted from 0.
const PICTURES_FROM_0: [&str; 3] = ["imageindex", "imageidx", "pictureindex"];

/// The value of a key that labels have, or the first text there is: `{"bbox_2d": …, "name_en": "Rice"}`.
fn label(node: &Node, entries: &[(String, Node)]) -> Option<String> {
    let by_key = LABELS.iter().find_map(|key| node.get(&[key]).and_then(|value| first_text(value, true)));
    by_key.or_else(|| {
        let picture = |key: &str| PICTURES.iter().chain(&PICTURES_FROM_0).any(|name| plain(key).eq(name.chars()));
        let mut others = entries.iter().filter(|(key, _)| Class::of(key).is_none() && !picture(key));
        others.find_map(|(key, value)| first_text(value, false).filter(|_| !key.is_empty()))
    })
}

/// The first text in a value; `numbers` count too where they are wanted.
fn first_text(node: &Node, numbers: bool) -> Option<String> {
    match node {
        Node::Text(text) => Some(text.clone()).filter(|text| numbers || number(text).is_none()),
        Node::Number(value) => Some(value.to_string()).filter(|_| numbers),
        // What else is in an object may be located itself.
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

/// Which picture an object names.
fn image(node: &Node) -> Option<usize> {
    // The number at the end of `Picture 2`, and of `image_2.png`.
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

/// A pair, or two, that are all of an answer: `(120, 45)`.
fn alone(answer: &str) -> Vec<Found> {
    let inner = answer.trim().trim_end_matches('.');
    let whole = inner.starts_with(['(', '[']) && inner.ends_with([')', ']']);
    let numbers = numbers_in(inner).filter(|numbers| whole && matches!(numbers.len(), 2 | 4));
    Found::all(numbers.map(|numbers| Class::Any.flat(&numbers)).unwrap_or_default(), None, None).collect()
}

#[cfg(test)]
mod tests;
