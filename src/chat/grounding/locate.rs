//! Boxes, points and polygons of an answer in any form.

use super::coordinates::{Class, numbers_in};
use super::located::{Convention, Found, Located};
use super::objects::objects;
use super::{document, tags, tokens};
use crate::chat::ImageInfo;

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

/// A pair, or two, that are all of an answer: `(120, 45)`.
fn alone(answer: &str) -> Vec<Found> {
    let inner = answer.trim().trim_end_matches('.');
    let whole = inner.starts_with(['(', '[']) && inner.ends_with([')', ']']);
    let numbers = numbers_in(inner).filter(|numbers| whole && matches!(numbers.len(), 2 | 4));
    Found::all(numbers.map(|numbers| Class::Any.flat(&numbers)).unwrap_or_default(), None, None).collect()
}
