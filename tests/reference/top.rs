//! Twin of `shaders/top.wgsl`.

/// What is listed: a value and its index.
pub type Entry = (f64, u32);

/// Whether `a` comes before `b`: numbers that are none first, then from the highest down, of equal ones the lower index.
pub fn ahead(a: Entry, b: Entry) -> bool {
    match (a.0.is_nan(), b.0.is_nan()) {
        (true, true) => a.1 < b.1,
        (true, false) => true,
        (false, true) => false,
        (false, false) => a.0 > b.0 || (a.0 == b.0 && a.1 < b.1),
    }
}

/// Sorts by [`ahead`].
pub fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| if ahead(*a, *b) { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater });
}

/// The first four (or fewer) of each part of the first `cols` of `x`. Index c belongs to part c / 4 mod `parts`.
pub fn top(x: &[f64], cols: usize, parts: usize) -> Vec<Vec<Entry>> {
    let mut all = vec![Vec::new(); parts];
    for c in 0..cols {
        all[c / 4 % parts].push((x[c], c as u32));
    }
    for part in &mut all {
        sort(part);
        part.truncate(4);
    }
    all
}
