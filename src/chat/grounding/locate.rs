//! Boxes, points and polygons of an answer in any form.

use super::actions::actions;
use super::coordinates::{Class, numbers_in};
use super::document::boxes;
use super::located::{Convention, Found, Located};
use super::objects::objects;
use super::tags::{comments, points};
use super::tokens::{marked, unmarked};
use crate::chat::answer::ImageInfo;

/// Everything that an answer locates in `images`, which are the pictures of the whole conversation in order. Without pictures, only
/// 3D boxes are found, which need no pixels.
///
/// An object may name its picture by the number that the chat template gives it (`"image": 2`, `"Picture 2"`, counted from 1) or by
/// `image_index` (counted from 0). An object that names no picture, or one that does not exist, is in the last picture.
///
/// Boxes in control tokens need the answer with these, as [`Engine::locate`](crate::chat::Engine::locate) passes it. For
/// [`Convention::ThousandTokens`], `NAME(x1,y1),(x2,y2)` is read without them.
pub fn locate(answer: &str, convention: Convention, images: &[ImageInfo]) -> Vec<Located> {
    let mut found = boxes(answer);
    // Only the first form that finds something counts, because two forms might read the same numbers.
    let forms: [fn(&str) -> Vec<Found>; 5] = [comments, marked, objects, points, actions];
    for form in forms {
        if found.is_empty() {
            found = form(answer);
        }
    }
    if found.is_empty() && convention == Convention::ThousandTokens {
        found = unmarked(answer);
    }
    if found.is_empty() {
        found = alone(answer);
    }
    found.into_iter().filter_map(|found| found.place(convention, images)).collect()
}

/// Everything that JSON alone locates, such as a tool call: as [`locate`].
pub fn located_in(json: &str, convention: Convention, images: &[ImageInfo]) -> Vec<Located> {
    objects(json).into_iter().filter_map(|found| found.place(convention, images)).collect()
}

/// An answer that is nothing but one or two pairs of numbers: `(120, 45)`.
fn alone(answer: &str) -> Vec<Found> {
    let inner = answer.trim().trim_end_matches('.');
    let whole = inner.starts_with(['(', '[']) && inner.ends_with([')', ']']);
    let numbers = numbers_in(inner).filter(|numbers| whole && matches!(numbers.len(), 2 | 4));
    Found::all(numbers.map(|numbers| Class::Any.flat(&numbers)).unwrap_or_default(), None, None).collect()
}
