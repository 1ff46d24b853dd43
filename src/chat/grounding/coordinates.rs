//! Lists of numbers, and which shape they are: told by the key that they stand under and by how many there are.

use super::lenient::{Node, number, plain};
use super::located::Shape;

/// What the key of a list of numbers says about them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Class {
    Box,
    Points,
    Polygon,
    Box3d,
    /// A list without a key, or with a key that could mean any of these.
    Any,
}

impl Class {
    /// The class that a key names; `None` if it names none.
    pub(super) fn of(key: &str) -> Option<Self> {
        Some(match plain(key).take(24).collect::<String>().as_str() {
            "bbox2d" | "bbox" | "box" | "box2d" | "boundingbox" | "boundingbox2d" | "bboxes" | "bboxes2d" | "boxes"
            | "boundingboxes" | "rect" | "rectangle" => Class::Box,
            "point2d" | "point" | "points" | "points2d" | "coordinate" | "clickpoint" | "coordinate1"
            | "coordinate2" | "startcoordinate" | "endcoordinate" | "startpoint" | "endpoint" | "frompoint"
            | "topoint" => Class::Points,
            "polygon" | "polygon2d" | "polygons" | "poly" | "quad" | "quads" | "quadrilateral" | "contour" => {
                Class::Polygon
            }
            "bbox3d" | "box3d" | "boundingbox3d" => Class::Box3d,
            "coordinates" | "coords" | "location" | "position" | "startbox" | "endbox" => Class::Any,
            _ => return None,
        })
    }

    /// The shapes that a flat list of numbers stands for; none if their count fits no shape.
    pub(super) fn flat(self, numbers: &[f64]) -> Vec<Shape> {
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

    /// Adds every shape that a value under such a key stands for.
    pub(super) fn shapes(self, node: &Node, out: &mut Vec<Shape>) {
        if let Some(numbers) = numbers(node) {
            return out.extend(self.flat(&numbers));
        }
        let Node::List { items, closed } = node else { return };
        let pairs: Option<Vec<f64>> = items.iter().try_fold(Vec::new(), |mut all, item| {
            all.extend(numbers(item).filter(|pair| pair.len() == 2)?);
            Some(all)
        });
        match pairs.filter(|pairs| !pairs.is_empty()) {
            // A polygon that is cut off is left out.
            Some(_) if !closed && self != Class::Points => {}
            Some(pairs) => out.extend(self.flat(&pairs)),
            None => items.iter().for_each(|item| self.shapes(item, out)),
        }
    }
}

/// The numbers of a whole list of numbers, of a string of them, or of an object such as `{"x1": …}`.
pub(super) fn numbers(node: &Node) -> Option<Vec<f64>> {
    match node {
        Node::List { items, closed: true } if !items.is_empty() => items.iter().map(one_number).collect(),
        Node::Text(text) => numbers_in(text),
        Node::Object(_) => named(node),
        _ => None,
    }
}

/// A number, also one that is written as a string.
fn one_number(node: &Node) -> Option<f64> {
    match node {
        Node::Number(value) => Some(*value),
        Node::Text(text) => number(text),
        _ => None,
    }
}

/// The numbers of `1 2 3 4`, `1, 2` or `(1,2),(3,4)`; `None` if there is anything else, or only one.
pub(super) fn numbers_in(text: &str) -> Option<Vec<f64>> {
    let words = text.split(|c: char| c.is_whitespace() || "()[],;".contains(c)).filter(|word| !word.is_empty());
    words.map(number).collect::<Option<Vec<f64>>>().filter(|numbers| numbers.len() > 1)
}

/// The coordinates of an object that names each: `x1` and `y1`, `xmin`, `left`, `x` with `width`, and so on.
pub(super) fn named(node: &Node) -> Option<Vec<f64>> {
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
