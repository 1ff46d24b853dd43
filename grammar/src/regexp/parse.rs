//! The notation of JavaScript: a pattern and its flags → a tree of [`Node`]s.

use regex_syntax::hir::{Class, HirKind};

use super::node::Node;
use super::sets::{Set, any_case, lines, minus, points, spaces, tidy, word};
use crate::Error;

/// Deepest nesting of groups.
const MAX_DEPTH: usize = 100;
/// The most repetitions in a count.
const MAX_COUNT: u32 = 10_000;

#[derive(Debug, Clone, Copy)]
struct Flags {
    ignore_case: bool,
    multiline: bool,
    dot_all: bool,
}

/// The tree of `source`, and whether `flags` make characters of it (`u`, `v`) or units of UTF-16.
pub(super) fn parse(source: &str, flags: &str) -> Result<(Node, bool), Error> {
    let mut unicode = false;
    let mut set = Flags { ignore_case: false, multiline: false, dot_all: false };
    for flag in flags.chars() {
        match flag {
            'i' => set.ignore_case = true,
            'm' => set.multiline = true,
            's' => set.dot_all = true,
            'u' | 'v' => unicode = true,
            // `d` asks for indices, `g` and `y` say where a search goes on. A match of the whole text knows neither.
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
        return Err(refused("pairs of brackets", format!("{c:?} at {} without an opening bracket", parser.at)));
    }
    Ok((node, unicode))
}

/// Something that is no pattern, or none that is supported.
pub(super) fn refused(expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::new("regular expression", expected, found)
}

/// Something that would have to look back or ahead, which a text that is written token by token does not allow.
pub(super) fn around(what: &str) -> Error {
    refused(
        "a pattern that can be checked from front to back, without lookaround, word boundary or backreference",
        what,
    )
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
                '*' | '+' | '?' => {
                    return Err(refused("something before a repetition", format!("{c:?} at {}", self.at)));
                }
                '{' if self.unicode || self.count()?.is_some() => {
                    return Err(refused("something before a repetition", format!("a count at {}", self.at)));
                }
                '}' | ']' if self.unicode => {
                    return Err(refused("a backslash before a bracket", format!("{c:?} at {}", self.at)));
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
                self.at += name.ok_or_else(|| refused("a name and > after (?<", format!("neither at {start}")))? + 1;
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
                        _ => {
                            return Err(refused(
                                "one of (?:, (?< and (? with flags",
                                format!("something else at {start}"),
                            ));
                        }
                    }
                }
            }
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(refused(format!("at most {MAX_DEPTH} groups inside each other"), "more"));
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
                None if self.unicode => return Err(refused("a count such as {2,5}", format!("another {{ at {at}"))),
                None => return Ok(item),
            },
            _ => return Ok(item),
        };
        if self.at == at {
            self.at += 1;
        }
        // `?` makes a repetition lazy. Greedy and lazy ones match the same texts as a whole.
        self.take("?");
        match item {
            Node::Start(_) | Node::End(_) => {
                Err(refused("something other than an anchor before a repetition", format!("^ or $ before {at}")))
            }
            Node::Pair(_) => {
                Err(refused("the flag u for a character beyond U+FFFF", format!("none, and a repetition at {at}")))
            }
            item => Ok(Node::Repeat(Box::new(item), least, most)),
        }
    }

    /// Takes `{n}`, `{n,}` or `{n,m}`, if one of them is next.
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
            return Err(refused("a count whose first number is not above the second", format!("{{{inside}}}")));
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

    /// The value of so many hexadecimal digits, if they are next.
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
                (Some(from), Some(to)) => {
                    return Err(refused("a range that goes up", format!("U+{from:04X} to U+{to:04X}")));
                }
                _ if self.unicode => {
                    return Err(refused(
                        "a character on either side of a range's dash",
                        format!("a class such as \\d in [ at {start}"),
                    ));
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
            return Err(refused("classes without the set notation of the flag v", format!("it at {at}")));
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
            true => {
                Err(refused("the flag u for a character beyond U+FFFF", format!("none, and U+{point:X} in a class")))
            }
            false => Ok((vec![(point, point)], Some(point))),
        }
    }

    fn negated(&mut self, set: &Set) -> Set {
        let closed = self.cased(tidy(set.clone()));
        minus(&vec![(0, self.last())], &closed)
    }

    /// If case is ignored, adds everything that differs from a member only by its case.
    fn cased(&mut self, set: Set) -> Set {
        if self.flags.ignore_case { any_case(set, self.unicode) } else { set }
    }
}
