//! Sets of code points: those that escapes name, and what letters of another case add.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// Ranges of code points with both ends in them: ascending, and no two of them touch.
pub(super) type Set = Vec<(u32, u32)>;

/// The code points of a class of `regex_syntax`.
pub(super) fn points(class: &ClassUnicode) -> Set {
    class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
}

/// A range without the surrogates in it.
pub(super) fn scalars(from: u32, to: u32) -> impl Iterator<Item = (char, char)> {
    [(from, to.min(0xd7ff)), (from.max(0xe000), to)].into_iter().filter_map(|(from, to)| {
        let (from, to) = (char::from_u32(from)?, char::from_u32(to)?);
        (from <= to).then_some((from, to))
    })
}

/// Puts ranges in order and joins those that touch.
pub(super) fn tidy(mut set: Set) -> Set {
    set.sort_unstable();
    let mut out = Set::new();
    for (from, to) in set {
        match out.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = (*end).max(to),
            _ => out.push((from, to)),
        }
    }
    out
}

/// What is in `all` and not in `less`. Both are tidy.
pub(super) fn minus(all: &Set, less: &Set) -> Set {
    let mut out = Set::new();
    for &(from, to) in all {
        let mut at = from;
        for &(low, high) in less.iter().filter(|(low, high)| *high >= from && *low <= to) {
            if low > at {
                out.push((at, low - 1));
            }
            at = at.max(high + 1);
        }
        if at <= to {
            out.push((at, to));
        }
    }
    out
}

/// `LineTerminator`.
pub(super) fn lines() -> Set {
    vec![(0x0a, 0x0a), (0x0d, 0x0d), (0x2028, 0x2029)]
}

/// `\w`.
pub(super) fn word() -> Set {
    vec![(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)]
}

/// `\s`: `WhiteSpace` and `LineTerminator`.
pub(super) fn spaces() -> Set {
    vec![
        (0x09, 0x0d),
        (0x20, 0x20),
        (0xa0, 0xa0),
        (0x1680, 0x1680),
        (0x2000, 0x200a),
        (0x2028, 0x2029),
        (0x202f, 0x202f),
        (0x205f, 0x205f),
        (0x3000, 0x3000),
        (0xfeff, 0xfeff),
    ]
}

/// With everything that differs from a member by its case alone. `unicode`: as the flags `u` and `v` fold case.
pub(super) fn any_case(set: Set, unicode: bool) -> Set {
    if unicode {
        let ranges = set.iter().flat_map(|&(from, to)| scalars(from, to));
        let mut class = ClassUnicode::new(ranges.map(|(from, to)| ClassUnicodeRange::new(from, to)));
        return match class.try_case_fold_simple() {
            Ok(()) => points(&class),
            Err(_) => set,
        };
    }
    CASES.get_or_init(Cases::new).close(&set)
}

static CASES: OnceLock<Cases> = OnceLock::new();

/// ECMA-262 `Canonicalize` without the flag `u`: the capital of a unit where that is one unit, and ASCII of ASCII alone.
struct Cases {
    capital: Vec<u16>,
    small: HashMap<u16, Vec<u16>>,
}

impl Cases {
    fn new() -> Self {
        let capital: Vec<u16> = (0..=0xffffu16).map(capital).collect();
        let mut small = HashMap::<u16, Vec<u16>>::new();
        for (unit, &capital) in (0..=0xffffu16).zip(&capital) {
            small.entry(capital).or_default().push(unit);
        }
        Cases { capital, small }
    }

    fn close(&self, set: &Set) -> Set {
        let mut all = set.clone();
        for unit in set.iter().flat_map(|&(from, to)| from.min(0x1_0000)..=to.min(0xffff)) {
            let same = &self.small[&self.capital[unit as usize]];
            if same.len() > 1 {
                all.extend(same.iter().map(|&unit| (u32::from(unit), u32::from(unit))));
            }
        }
        tidy(all)
    }
}

fn capital(unit: u16) -> u16 {
    let Some(c) = char::from_u32(u32::from(unit)) else { return unit };
    let mut upper = c.to_uppercase();
    match (upper.next().map(u32::from), upper.next()) {
        (Some(one), None) if one <= 0xffff && (one >= 128 || unit < 128) => one as u16,
        _ => unit,
    }
}
