//! A tree of [`Node`]s → a pattern of the `regex` crate.

use super::node::Node;
use super::parse::around;
use super::sets::{Set, lines, minus, scalars};
use crate::Error;

/// Leaves out anchors where they are always true: at the ends of the text, and next to a line break.
///
/// # Errors
/// For an anchor anywhere else.
pub(super) fn anchors(node: Node, first: bool, last: bool) -> Result<Node, Error> {
    let middle = |what: &str| around(&format!("{what} where the text goes on"));
    match node {
        Node::Start(_) if first => Ok(Node::Empty),
        Node::Start(_) => Err(middle("^")),
        Node::End(_) if last => Ok(Node::Empty),
        Node::End(_) => Err(middle("$")),
        Node::Any(all) => Ok(Node::Any(all.into_iter().map(|n| anchors(n, first, last)).collect::<Result<_, _>>()?)),
        Node::Repeat(inner, least, most) => {
            let once = most == Some(1);
            Ok(Node::Repeat(Box::new(anchors(*inner, first && once, last && once)?), least, most))
        }
        Node::All(all) => {
            let wide = |node: &Node| !matches!(node, Node::Empty | Node::Start(_) | Node::End(_));
            let breaks = |node: &Node| matches!(node, Node::Set(set) if minus(set, &lines()).is_empty());
            let begin = all.iter().position(wide).unwrap_or(all.len());
            let end = all.iter().rposition(wide).map_or(0, |at| at + 1);
            let solid: Vec<Node> = all.clone();
            let mut out = Vec::new();
            for (at, node) in all.into_iter().enumerate() {
                // The neighbours that are not anchors themselves.
                let before = solid[..at].iter().rev().find(|node| wide(node));
                let after = solid[at + 1..].iter().find(|node| wide(node));
                out.push(match node {
                    Node::Start(true) if before.is_some_and(breaks) => Node::Empty,
                    Node::End(true) if after.is_some_and(breaks) => Node::Empty,
                    node => anchors(node, first && at <= begin, last && at + 1 >= end)?,
                });
            }
            Ok(Node::All(out))
        }
        other => Ok(other),
    }
}

/// The pattern of a node; `None` if no text matches it.
pub(super) fn write(node: &Node, unicode: bool) -> Option<String> {
    match node {
        Node::Empty | Node::Start(_) | Node::End(_) => Some(String::new()),
        Node::Set(set) => class(set, false),
        Node::Pair(point) => char::from_u32(*point).map(|c| format!("\\x{{{:X}}}", u32::from(c))),
        Node::All(all) => all.iter().map(|node| write(node, unicode)).collect(),
        Node::Any(all) => {
            let all: Vec<String> = all.iter().filter_map(|node| write(node, unicode)).collect();
            match all.len() {
                0 => None,
                _ => Some(format!("(?:{})", all.join("|"))),
            }
        }
        Node::Repeat(inner, least, most) => {
            // Any number of units is allowed here, so also the two of a character beyond U+FFFF.
            let pairs = |set: &Set| !unicode && most.is_none() && minus(&vec![(0xd800, 0xdfff)], set).is_empty();
            let body = match &**inner {
                Node::Set(set) => class(set, pairs(set)),
                other => write(other, unicode),
            };
            match body {
                None => (*least == 0).then(String::new),
                Some(body) if body.is_empty() => Some(body),
                Some(body) => {
                    let most = most.map_or(String::new(), |most| most.to_string());
                    Some(format!("(?:{body}){{{least},{most}}}"))
                }
            }
        }
    }
}

/// A class of the `regex` crate; with `pairs` also all characters beyond U+FFFF. `None` if nothing is left in it.
fn class(set: &Set, pairs: bool) -> Option<String> {
    let beyond = pairs.then_some((0x1_0000, 0x10_ffff));
    let ranges = set.iter().copied().chain(beyond).flat_map(|(from, to)| scalars(from, to));
    let text: String = ranges
        .map(|(from, to)| match from == to {
            true => format!("\\x{{{:X}}}", u32::from(from)),
            false => format!("\\x{{{:X}}}-\\x{{{:X}}}", u32::from(from), u32::from(to)),
        })
        .collect();
    (!text.is_empty()).then(|| format!("[{text}]"))
}
