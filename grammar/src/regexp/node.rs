//! A pattern worked out down to sets of code points.

use super::sets::Set;

#[derive(Debug, Clone)]
pub(super) enum Node {
    Empty,
    Set(Set),
    /// A character beyond U+FFFF in a pattern without the flags `u` and `v`, for which it is two units of UTF-16.
    Pair(u32),
    All(Vec<Node>),
    Any(Vec<Node>),
    Repeat(Box<Node>, u32, Option<u32>),
    /// `^`; `true` for that of every line (flag `m`).
    Start(bool),
    /// `$`, likewise.
    End(bool),
}
