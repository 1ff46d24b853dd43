//! What an answer points at, as pixels of the caller's pictures: boxes, points and polygons, the blocks of a document, and
//! the seconds of a video.
//!
//! Families differ in the unit ([`Convention`]) and in what they write around the numbers: Qwen-VL writes
//! `<ref>NAME</ref><box>(x1,y1),(x2,y2)</box>`, Qwen2-VL the same with control tokens, Qwen2.5-VL and Qwen3-VL JSON objects with
//! `bbox_2d`, `point_2d` or `bbox_3d`, or `<points x1="…" y1="…" alt="…">`. What a model writes also depends on the question, so
//! every form is read for every family. Reading is lenient: there may be prose and code fences around, the end may be cut off,
//! quotes may be Python's, boxes may stand in lists without keys. An answer is text that nobody has checked, so nothing here
//! fails, and the time that is taken grows only in proportion to the text's length.
//!
//! - `locate`: everything that an answer locates in pictures, whatever its form
//! - `located`: units, shapes, and how they become pixels
//! - `coordinates`: lists of numbers, and which shape they are
//! - `objects`: boxes and points in JSON
//! - `lenient`: JSON as models write it
//! - `escapes`: backslashes that mean themselves
//! - `tokens`: boxes between control tokens
//! - `tags`: tags as in HTML, and points in them
//! - `entities`: `&amp;` and the like
//! - `actions`: positions in calls such as `click(x=84, y=56)`
//! - `document`: the blocks of a page
//! - `events`: times in a video

mod actions;
mod coordinates;
mod document;
mod entities;
mod escapes;
mod events;
mod lenient;
mod locate;
mod located;
mod objects;
mod tags;
mod tokens;

pub use document::{Block, document};
pub use events::{Event, events};
pub use locate::{locate, located_in};
pub use located::{Convention, Located, Shape};
pub use tokens::CONTROL_TOKENS;

#[cfg(test)]
mod tests;
