//! Translates JavaScript's regular expressions to patterns of the `regex` crate that match the same whole texts.
//!
//! It follows ECMA-262 (2025), "RegExp (Regular Expression) Objects", with the additions of its annex B. Everything is reduced to
//! sets of code points, so that differences between the two notations do not matter: classes, `\s`, `\d`, case, the dot.
//!
//! Without the flag `u` or `v`, a pattern is about units of UTF-16, and a character beyond U+FFFF is two of them. Such a character is
//! allowed where any number of units is allowed (`.*`, `[^"]+`) and where it is written out. So the original pattern matches
//! everything that the result allows.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

use crate::Error;

/// The most bytes of a pattern.
const MAX_PATTERN: usize = 16 << 10;
/// The deepest nesting of groups.
const MAX_DEPTH: usize = 100;
/// The most repetitions in a count.
const MAX_COUNT: u32 = 10_000;

/// Ranges of code points (from, to), ascending and with gaps between them.
type Set = Vec<(u32, u32)>;

#[derive(Debug, Clone)]
enum Node {
    Empty,
    Set(Set),
    /// A character of two units, in a pattern without the flags that count it as one.
    Pair(u32),
    All(Vec<Node>),
    Any(Vec<Node>),
    Repeat(Box<Node>, u32, Option<u32>),
    /// `^` and `$`. `true` if they match at every line.
    Start(bool),
    End(bool),
}

#[derive(Debug, Clone, Copy)]
struct Flags {
    ignore_case: bool,
    multiline: bool,
    dot_all: bool,
}

/// The pattern for the texts that `source` with `flags` matches as a whole. `None` if that is only the empty text.
///
/// # Errors
/// The pattern is not valid, or it has lookaround or back-references, which cannot be checked while a text is generated token by
/// token.
pub(crate) fn translate(source: &str, flags: &str) -> Result<Option<String>, Error> {
    if source.len() > MAX_PATTERN {
        return Err(refused(format!("a pattern of at most {MAX_PATTERN} bytes"), format!("{}", source.len())));
    }
    let mut unicode = false;
    let mut set = Flags { ignore_case: false, multiline: false, dot_all: false };
    for flag in flags.chars() {
        match flag {
            'i' => set.ignore_case = true,
            'm' => set.multiline = true,
            's' => set.dot_all = true,
            'u' | 'v' => unicode = true,
            // These flags (indices, position of a search) make no difference for a match of the whole text.
            'd' | 'g' | 'y' => {}
            other => {
                return Err(refused("flags of a regular expression: d, g, i, m, s, u, v or y", format!("{other:?}")));
            }
        }
    }
    let mut parser =
        Parser { rest: source.chars().collect(), at: 0, unicode, sets: flags.contains('v'), flags: set, depth: 0 };
    let node = parser.alternatives()?;
    if let Some(c) = parser.peek() {
        return Err(refused("a regular expression", format!("{c:?} at {} without its opening", parser.at)));
    }
    let node = anchors(node, true, true)?;
    match write(&node, unicode) {
        None => Err(refused("a regular expression that some text matches", format!("/{source}/{flags}"))),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => Ok(Some(text)),
    }
}

fn refused(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::new("regular expression", expected, found)
}

fn around(what: &str) -> Error {
    refused("what can be checked from front to back: no lookaround, word boundary or backreference", what)
}

struct Parser {
    rest: Vec<char>,
    at: usize,
    unicode: bool,
    /// The flag `v`.
    sets: bool,
    flags: Flags,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn take(&mut self, text: &str) -> bool {
        let found = text.chars().enumerate().all(|(i, c)| self.rest.get(self.at + i) == Some(&c));
        self.at += if found { text.chars().count() } else { 0 };
        found
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn last(&self) -> u32 {
        if self.unicode { 0x10_ffff } else { 0xffff }
    }

    fn alternatives(&mut self) -> Result<Node, Error> {
        let mut all = vec![self.sequence()?];
        while self.take("|") {
            all.push(self.sequence()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Node::Any(all) })
    }

    fn sequence(&mut self) -> Result<Node, Error> {
        let mut all = Vec::new();
        while let Some(c) = self.peek().filter(|c| !"|)".contains(*c)) {
            let item = match c {
                '(' => self.group()?,
                '[' => {
                    self.at += 1;
                    Node::Set(self.class()?)
                }
                '.' => {
                    self.at += 1;
                    let all = vec![(0, self.last())];
                    Node::Set(if self.flags.dot_all { all } else { minus(&all, &lines()) })
                }
                '^' => {
                    self.at += 1;
                    Node::Start(self.flags.multiline)
                }
                '$' => {
                    self.at += 1;
                    Node::End(self.flags.multiline)
                }
                '\\' => {
                    self.at += 1;
                    self.escape(false)?
                }
                '*' | '+' | '?' => return Err(refused("something to repeat", format!("{c:?} at {}", self.at))),
                '{' if self.unicode || self.count()?.is_some() => {
                    return Err(refused("something to repeat", format!("a count at {}", self.at)));
                }
                '}' | ']' if self.unicode => {
                    return Err(refused("a backslash before it", format!("{c:?} at {}", self.at)));
                }
                c => {
                    self.at += 1;
                    self.character(u32::from(c))
                }
            };
            all.push(self.repeated(item)?);
        }
        Ok(match all.len() {
            0 => Node::Empty,
            1 => all.remove(0),
            _ => Node::All(all),
        })
    }

    fn group(&mut self) -> Result<Node, Error> {
        let start = self.at;
        self.at += 1;
        let outside = self.flags;
        if self.take("?") {
            for (mark, name) in [("=", "(?="), ("!", "(?!"), ("<=", "(?<="), ("<!", "(?<!")] {
                if self.take(mark) {
                    return Err(around(&format!("{name}…) at {start}")));
                }
            }
            if self.take("<") {
                let name = self.rest[self.at..].iter().position(|c| *c == '>');
                self.at += name.ok_or_else(|| refused("a name and >", format!("(?< at {start}")))? + 1;
            } else {
                // `(?:`, or modifiers `(?ims-ims:`.
                let mut value = true;
                loop {
                    match self.next() {
                        Some(':') => break,
                        Some('-') if value => value = false,
                        Some('i') => self.flags.ignore_case = value,
                        Some('m') => self.flags.multiline = value,
                        Some('s') => self.flags.dot_all = value,
                        _ => return Err(refused("a group", format!("(? at {start}"))),
                    }
                }
            }
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(refused(format!("groups at most {MAX_DEPTH} deep"), "more"));
        }
        let inside = self.alternatives()?;
        self.depth -= 1;
        self.flags = outside;
        if !self.take(")") {
            return Err(refused("a closing bracket", format!("none for the group at {start}")));
        }
        Ok(inside)
    }

    fn repeated(&mut self, item: Node) -> Result<Node, Error> {
        let at = self.at;
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => match self.count()? {
                Some(count) => count,
                None if self.unicode => return Err(refused("a count", format!("{{ at {at}"))),
                None => return Ok(item),
            },
            _ => return Ok(item),
        };
        if self.at == at {
            self.at += 1;
        }
        // Whether a repetition is greedy makes no difference for a match of the whole text.
        self.take("?");
        match item {
            Node::Start(_) | Node::End(_) => Err(refused("something to repeat", format!("an anchor at {at}"))),
            Node::Pair(_) => {
                Err(refused("the flag u, without which this is two characters", format!("a repetition at {at}")))
            }
            item => Ok(Node::Repeat(Box::new(item), least, most)),
        }
    }

    /// Reads `{n}`, `{n,}` or `{n,m}`, if there is one here.
    fn count(&mut self) -> Result<Option<(u32, Option<u32>)>, Error> {
        let end = match self.rest[self.at..].iter().position(|c| *c == '}') {
            Some(length) => self.at + length,
            None => return Ok(None),
        };
        let inside: String = self.rest[self.at + 1..end].iter().collect();
        let (low, high) = match inside.split_once(',') {
            Some((low, high)) => (low, Some(high)),
            None => (inside.as_str(), None),
        };
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if low.is_empty() || !digits(low) || !digits(high.unwrap_or("")) {
            return Ok(None);
        }
        let number = |text: &str| match text.parse::<u32>() {
            Ok(n) if n <= MAX_COUNT => Ok(n),
            _ => Err(refused(format!("counts of at most {MAX_COUNT}"), text)),
        };
        let least = number(low)?;
        let most = match high {
            None => Some(least),
            Some("") => None,
            Some(high) => Some(number(high)?),
        };
        if most.is_some_and(|most| most < least) {
            return Err(refused("counts in order", format!("{{{inside}}}")));
        }
        self.at = end + 1;
        Ok(Some((least, most)))
    }

    /// A character that stands for itself.
    fn character(&mut self, point: u32) -> Node {
        if point > self.last() {
            return Node::Pair(point);
        }
        Node::Set(self.cased(vec![(point, point)]))
    }

    /// Parses what follows a backslash.
    fn escape(&mut self, in_class: bool) -> Result<Node, Error> {
        let at = self.at - 1;
        let Some(c) = self.next() else { return Err(refused("a character after the last backslash", "the end")) };
        let literal = match c {
            'd' | 'D' | 'w' | 'W' | 's' | 'S' => {
                let set = match c.to_ascii_lowercase() {
                    'd' => vec![(0x30, 0x39)],
                    's' => spaces(),
                    _ if self.unicode => self.cased(word()),
                    _ => word(),
                };
                return Ok(Node::Set(if c.is_ascii_uppercase() { self.negated(&set) } else { self.cased(set) }));
            }
            'p' | 'P' if self.unicode => return self.property(c == 'P').map(Node::Set),
            'b' if in_class => 8,
            'b' | 'B' if !in_class => return Err(around(&format!("\\{c} at {at}"))),
            'k' => return Err(around(&format!("\\k at {at}"))),
            '0' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => 0,
            '0'..='9' => return Err(around(&format!("\\{c} at {at}"))),
            't' => 9,
            'n' => 10,
            'v' => 11,
            'f' => 12,
            'r' => 13,
            'c' => match self.peek().filter(char::is_ascii_alphabetic) {
                Some(letter) => {
                    self.at += 1;
                    u32::from(letter) % 32
                }
                None if self.unicode => return Err(refused("a letter after \\c", format!("none at {at}"))),
                // Annex B: the backslash stands for itself.
                None => {
                    self.at -= 1;
                    u32::from('\\')
                }
            },
            'x' => match self.hex(2) {
                Some(point) => point,
                None if self.unicode => return Err(refused("two hexadecimal digits", format!("\\x at {at}"))),
                None => u32::from('x'),
            },
            'u' => match self.unit()? {
                Some(point) => point,
                None if self.unicode => return Err(refused("four hexadecimal digits", format!("\\u at {at}"))),
                None => u32::from('u'),
            },
            c if self.unicode && !("^$\\.*+?()[]{}|/".contains(c) || (c == '-' && in_class) || self.sets) => {
                return Err(refused("an escape sequence", format!("\\{c} at {at}")));
            }
            c => u32::from(c),
        };
        Ok(self.character(literal))
    }

    /// Reads this many hexadecimal digits, if they are here.
    fn hex(&mut self, digits: usize) -> Option<u32> {
        let text: String = self.rest.get(self.at..self.at + digits)?.iter().collect();
        let value = text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(&text, 16).ok())??;
        self.at += digits;
        Some(value)
    }

    /// Parses what follows `\u`: a unit, a pair of units, or `{…}`.
    fn unit(&mut self) -> Result<Option<u32>, Error> {
        if self.unicode && self.take("{") {
            let digits: String = self.rest[self.at..].iter().take_while(|c| **c != '}').collect();
            self.at += digits.len() + 1;
            let point = u32::from_str_radix(&digits, 16).ok().filter(|point| *point <= 0x10_ffff);
            return point.map(Some).ok_or_else(|| refused("a code point", format!("\\u{{{digits}}}")));
        }
        let Some(high) = self.hex(4) else { return Ok(None) };
        let before = self.at;
        if (0xd800..0xdc00).contains(&high) && self.take("\\u") {
            match self.hex(4) {
                Some(low) if (0xdc00..0xe000).contains(&low) => {
                    return Ok(Some(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)));
                }
                _ => self.at = before,
            }
        }
        Ok(Some(high))
    }

    /// Parses what follows `\p` or `\P`.
    fn property(&mut self, negated: bool) -> Result<Set, Error> {
        let start = self.at;
        let name: String = match self.take("{") {
            true => self.rest[self.at..].iter().take_while(|c| **c != '}').collect(),
            false => String::new(),
        };
        self.at += name.len() + 1;
        let known = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_=".contains(&b));
        let hir = if known { regex_syntax::parse(&format!("\\p{{{name}}}")).ok() } else { None };
        let set = match hir.map(|hir| hir.into_kind()) {
            Some(HirKind::Class(Class::Unicode(class))) => points(&class),
            // A property of one code point.
            Some(HirKind::Literal(literal)) => {
                let text = String::from_utf8_lossy(&literal.0).into_owned();
                text.chars().map(|c| (u32::from(c), u32::from(c))).collect()
            }
            _ => return Err(refused("a property of Unicode", format!("\\p{{{name}}} at {start}"))),
        };
        Ok(if negated { self.negated(&set) } else { self.cased(set) })
    }

    /// Parses what is between `[` and `]`.
    fn class(&mut self) -> Result<Set, Error> {
        let start = self.at - 1;
        let negated = self.take("^");
        let mut set = Set::new();
        while !self.take("]") {
            let (first, single) = self.member(start)?;
            let dash = self.peek() == Some('-') && self.rest.get(self.at + 1).is_some_and(|c| *c != ']');
            if !dash {
                set.extend(first);
                continue;
            }
            self.at += 1;
            let (last, end) = self.member(start)?;
            match (single, end) {
                (Some(from), Some(to)) if from <= to => set.push((from, to)),
                (Some(from), Some(to)) => return Err(refused("a range in order", format!("{from:#x} to {to:#x}"))),
                _ if self.unicode => {
                    return Err(refused("a range of characters", format!("a class in one at {start}")));
                }
                // Annex B: then the dash stands for itself.
                _ => {
                    set.extend(first);
                    set.push((0x2d, 0x2d));
                    set.extend(last);
                }
            }
        }
        let set = self.cased(tidy(set));
        Ok(if negated { self.negated(&set) } else { set })
    }

    /// A character or class within a class, and the character if it is one.
    fn member(&mut self, start: usize) -> Result<(Set, Option<u32>), Error> {
        let at = self.at;
        let Some(c) = self.next() else { return Err(refused("a closing ]", format!("none for the class at {start}"))) };
        if self.sets && (c == '[' || (self.peek() == Some(c) && "-&!#$%*+,.:;<=>?@^`~".contains(c))) {
            return Err(refused("classes without sets in them", format!("one of the flag v at {at}")));
        }
        let point = match c {
            '\\' if self.sets && self.peek() == Some('q') => {
                return Err(refused("classes without strings in them", format!("\\q at {at}")));
            }
            '\\' => {
                // The case of a range is that of all its members, so it is looked at when the class is complete.
                let flags = std::mem::replace(&mut self.flags.ignore_case, false);
                let escaped = self.escape(true);
                self.flags.ignore_case = flags;
                match escaped? {
                    Node::Set(set) if set.len() == 1 && set[0].0 == set[0].1 => set[0].0,
                    Node::Set(set) => return Ok((set, None)),
                    Node::Pair(point) => point,
                    _ => return Err(refused("a character or a class", format!("an escape at {at}"))),
                }
            }
            c => u32::from(c),
        };
        match point > self.last() {
            true => Err(refused("the flag u, without which this is two characters", format!("U+{point:X} in a class"))),
            false => Ok((vec![(point, point)], Some(point))),
        }
    }

    fn negated(&mut self, set: &Set) -> Set {
        let closed = self.cased(tidy(set.clone()));
        minus(&vec![(0, self.last())], &closed)
    }

    /// If case is ignored, adds everything that differs from a member only by its case.
    fn cased(&mut self, set: Set) -> Set {
        if !self.flags.ignore_case {
            return set;
        }
        if self.unicode {
            let ranges = set.iter().flat_map(|&(from, to)| scalars(from, to));
            let mut class = ClassUnicode::new(ranges.map(|(from, to)| ClassUnicodeRange::new(from, to)));
            return match class.try_case_fold_simple() {
                Ok(()) => points(&class),
                Err(_) => set,
            };
        }
        CASES.get_or_init(Cases::new).close(&set)
    }
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

fn points(class: &ClassUnicode) -> Set {
    class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
}

/// A range without the surrogates in it.
fn scalars(from: u32, to: u32) -> impl Iterator<Item = (char, char)> {
    [(from, to.min(0xd7ff)), (from.max(0xe000), to)].into_iter().filter_map(|(from, to)| {
        let (from, to) = (char::from_u32(from)?, char::from_u32(to)?);
        (from <= to).then_some((from, to))
    })
}

/// Sorts the ranges and joins those that touch.
fn tidy(mut set: Set) -> Set {
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

/// Both arguments must be sorted and have gaps between their ranges.
fn minus(all: &Set, less: &Set) -> Set {
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

fn lines() -> Set {
    vec![(0x0a, 0x0a), (0x0d, 0x0d), (0x2028, 0x2029)]
}

fn word() -> Set {
    vec![(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)]
}

/// `WhiteSpace` and `LineTerminator`.
fn spaces() -> Set {
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

/// Removes anchors that are always true: at the ends of the text, and at the ends of lines.
fn anchors(node: Node, first: bool, last: bool) -> Result<Node, Error> {
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
                // Find the neighbours that are not anchors themselves.
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

/// The pattern of a node, if there is any text that it matches.
fn write(node: &Node, unicode: bool) -> Option<String> {
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
            // Any number of units is allowed, so two of them may be one character.
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

/// A class of the `regex` crate. With `pairs`, it also has the characters beyond U+FFFF.
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

#[cfg(test)]
mod tests;
