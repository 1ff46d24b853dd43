//! Something that an answer points at: its shape in the unit of the model's family, and how that becomes pixels of the caller's
//! picture.

use serde::Serialize;

use crate::chat::answer::ImageInfo;

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
    /// The convention of a `model_type`; `None` for a text model.
    pub fn of(model_type: &str) -> Option<Self> {
        Some(match model_type {
            "qwen" | "qwen_vl" | "qwen2_vl" => Convention::ThousandTokens,
            "qwen2_5_vl" => Convention::ResizedPixels,
            "qwen3_vl" | "qwen3_vl_moe" | "qwen3_5" | "qwen3_5_moe" => Convention::ThousandJson,
            _ => return None,
        })
    }

    /// A point in this convention, as pixels of the picture as given. A point outside is moved to the edge.
    pub(super) fn place(self, [x, y]: [f64; 2], image: &ImageInfo) -> [f64; 2] {
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

    /// The same for a box, whose corners may be in any order.
    pub(super) fn place_box(self, [x1, y1, x2, y2]: [f64; 4], image: &ImageInfo) -> [f64; 4] {
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
    /// Three or more corners `[x, y]` in the order of the answer.
    Polygon(Vec<[f64; 2]>),
    /// `[x, y, z, x_size, y_size, z_size, roll, pitch, yaw]` in the camera's frame, as the model wrote them: metres and angles, not
    /// pixels.
    Box3d([f64; 9]),
}

/// Something located in a picture, in pixels of the picture as given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Located {
    /// Where it is.
    #[serde(flatten)]
    pub shape: Shape,
    /// What it is, if the answer says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Index of its picture among those given: the one that the answer names, or else the last.
    pub image: usize,
}

/// Something located, in the unit of the answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    shape: Shape,
    label: Option<String>,
    image: Option<usize>,
}

/// Longest label, in bytes, that several shapes share. Many copies of a very long one could fill the memory.
const MAX_SHARED_LABEL: usize = 256;

impl Found {
    /// Several shapes with the same label.
    pub(super) fn all(
        shapes: Vec<Shape>,
        label: Option<&str>,
        image: Option<usize>,
    ) -> impl Iterator<Item = Found> + use<> {
        let mut label = label.map(str::trim).filter(|label| !label.is_empty());
        if shapes.len() > 1 {
            label = label.map(shared);
        }
        let label = label.map(str::to_owned);
        shapes.into_iter().map(move |shape| Found { shape, label: label.clone(), image })
    }

    /// The same in pixels; `None` if that needs a picture and there is none.
    pub(super) fn place(self, convention: Convention, images: &[ImageInfo]) -> Option<Located> {
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

/// A label cut to the length that shared ones may have.
pub(super) fn shared(label: &str) -> &str {
    let ends = label.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_SHARED_LABEL);
    &label[..ends.last().unwrap_or(0)]
}
