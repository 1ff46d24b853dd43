//! Twin of `shaders/top_merge.wgsl`.

use super::top::{Entry, sort};

/// What is chosen and what is known.
pub struct Choice {
    /// The first 64 of all, before the penalty.
    pub list: Vec<Entry>,
    /// The best of the list after the penalty, and its value then.
    pub best: Entry,
    /// The highest value that another one can have after the penalty, `None` if there is no other.
    pub second: Option<f64>,
    /// The highest value that one beyond the list can have, `None` if there are none.
    pub rest: Option<f64>,
}

/// Merges the `parts` of `top`, which hold all that there is if `complete`. Values at the indices `seen` are divided by `penalty`
/// where they are positive, and multiplied elsewhere.
pub fn top_merge(parts: &[Vec<Entry>], complete: bool, seen: &[u32], penalty: f64) -> Choice {
    let mut all: Vec<Entry> = parts.iter().flatten().copied().collect();
    sort(&mut all);
    let mut beyond = Vec::new();
    if all.len() > 64 {
        beyond.push(all[63]); // whatever follows is no higher
    }
    if !complete {
        beyond.extend(parts.iter().filter_map(|part| part.get(3).copied()));
    }
    sort(&mut beyond);
    let rest = beyond.first().map(|entry| entry.0);
    all.truncate(64);
    let penalized = |&(x, id): &Entry| match seen.contains(&id) {
        true if x > 0.0 => (x / penalty, id),
        true => (x * penalty, id),
        false => (x, id),
    };
    let mut after: Vec<Entry> = all.iter().map(penalized).collect();
    sort(&mut after);
    let mut others: Vec<Entry> = after.get(1).copied().into_iter().chain(rest.map(|rest| (rest, 0))).collect();
    sort(&mut others);
    Choice { best: after[0], second: others.first().map(|entry| entry.0), rest, list: all }
}
