//! JSON as models write it: in the middle of prose, with or without a code fence, cut off, with Python's quotes and words, with
//! brackets missing.
//!
//! It is read in one pass that never goes back, so the time for any text grows only in proportion to its length.

use super::escapes::literal;

/// Deepest nesting of objects and lists. No real answer goes deeper; if one does, everything that is open ends there.
const MAX_DEPTH: usize = 32;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Keys and values in the order of the text; a value without a key has an empty one.
    Object(Vec<(String, Node)>),
    /// `[…]` or Python's `(…)`. It is not `closed` if the text ends inside it; then its last number may be cut off.
    List { items: Vec<Node>, closed: bool },
    /// A string, or words without quotes.
    Text(String),
    /// A finite number.
    Number(f64),
    /// `null`, `true` and the like, which nothing here has to tell apart.
    Other,
}

impl Node {
    /// The value of the first of these keys that the object has. The names are in the form that [`plain`] makes.
    pub(super) fn get(&self, names: &[&str]) -> Option<&Node> {
        let Node::Object(entries) = self else { return None };
        let value = |name: &&str| entries.iter().find(|(key, _)| plain(key).eq(name.chars())).map(|(_, node)| node);
        names.iter().find_map(value)
    }
}

/// A key reduced to lower-case letters and digits, so that `bbox_2d`, `BBox-2D` and `bbox 2d` are the same.
pub(super) fn plain(key: &str) -> impl Iterator<Item = char> {
    key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
}

/// Every outermost object and list of a text, in order.
pub(super) fn values(text: &str) -> Vec<Node> {
    let mut reader = Reader { text, at: 0, open: Vec::new(), roots: Vec::new() };
    reader.run();
    reader.roots
}

/// A container that is not closed yet.
struct Open {
    /// What closes it.
    closer: u8,
    entries: Vec<(String, Node)>,
    /// The key whose value comes next.
    key: Option<String>,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    open: Vec<Open>,
    roots: Vec<Node>,
}

impl Reader<'_> {
    fn run(&mut self) {
        while let Some(byte) = self.byte(self.at) {
            match byte {
                b'{' | b'[' | b'(' if self.opens(byte) => self.push(byte),
                _ if self.open.is_empty() => self.at += 1,
                b'}' | b']' => self.close(byte),
                b')' if self.open.iter().any(|open| open.closer == b')') => self.close(byte),
                b':' => self.colon(),
                b',' => {
                    self.at += 1;
                    self.top(|top| top.key = None);
                }
                b'"' | b'\'' => {
                    let value = self.string(byte);
                    self.value(value.map(Node::Text));
                }
                _ if byte.is_ascii_whitespace() => self.at += 1,
                _ => {
                    let value = self.word();
                    self.value(value);
                }
            }
        }
        self.end();
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// The first byte from here on that is no white space.
    fn after_space(&self, mut at: usize) -> (Option<u8>, usize) {
        while self.byte(at).is_some_and(|byte| byte.is_ascii_whitespace()) {
            at += 1;
        }
        (self.byte(at), at)
    }

    /// Whether a bracket begins a container, and is not prose such as `[see below]` or `f(x)`.
    fn opens(&self, byte: u8) -> bool {
        let next = self.after_space(self.at + 1).0;
        let number = next.is_some_and(|next| next.is_ascii_digit() || b"+-.".contains(&next));
        match byte {
            b'(' => !self.open.is_empty() && (number || next == Some(b'(')),
            _ if !self.open.is_empty() => true,
            b'[' => number || next.is_some_and(|next| b"{[(\"'".contains(&next)),
            _ => next.is_some_and(|next| next.is_ascii_alphanumeric() || b"_{[\"'".contains(&next)),
        }
    }

    /// Opens a container.
    fn push(&mut self, byte: u8) {
        if self.open.len() == MAX_DEPTH {
            self.end();
        }
        let closer = match byte {
            b'{' => b'}',
            b'[' => b']',
            _ => b')',
        };
        self.open.push(Open { closer, entries: Vec::new(), key: None });
        self.at += 1;
    }

    fn top(&mut self, change: impl FnOnce(&mut Open)) {
        if let Some(top) = self.open.last_mut() {
            change(top);
        }
    }

    /// Puts a value into the innermost container under the key before it. Without a value, the key is dropped.
    fn value(&mut self, value: Option<Node>) {
        self.top(|top| {
            let key = top.key.take().unwrap_or_default();
            top.entries.extend(value.map(|value| (key, value)));
        });
    }

    /// Closes the nearest container of this kind, and whatever was left open in it.
    fn close(&mut self, closer: u8) {
        self.at += 1;
        if let Some(depth) = self.open.iter().rposition(|open| open.closer == closer) {
            while self.open.len() > depth {
                self.pop(true);
            }
        }
    }

    /// Ends the innermost container and puts it where it belongs.
    fn pop(&mut self, closed: bool) {
        let Some(Open { closer, entries, .. }) = self.open.pop() else { return };
        let node = match closer {
            b'}' => Node::Object(entries),
            _ => Node::List { items: entries.into_iter().map(|(_, node)| node).collect(), closed },
        };
        match self.open.last() {
            Some(_) => self.value(Some(node)),
            None => self.roots.push(node),
        }
    }

    /// Ends everything that is open.
    fn end(&mut self) {
        while !self.open.is_empty() {
            self.pop(false);
        }
    }

    /// A colon: the value before it was a key. If the innermost container is a list, its closing bracket was forgotten, as in
    /// `[1, 2, "label": "x"}`.
    fn colon(&mut self) {
        self.at += 1;
        let Some(top) = self.open.last_mut() else { return };
        let name = match top.entries.last() {
            Some((key, Node::Text(text))) if key.is_empty() => text.clone(),
            Some((key, Node::Number(number))) if key.is_empty() => number.to_string(),
            _ => return,
        };
        if top.closer != b'}' {
            let object_below = self.open.len() > 1 && self.open[self.open.len() - 2].closer == b'}';
            if !object_below {
                return;
            }
            self.top(|top| drop(top.entries.pop()));
            self.pop(true);
        } else {
            top.entries.pop();
        }
        self.top(|top| top.key = Some(name));
    }

    /// A string in these quotes; `None` if it does not end. A quote ends the string only where a value may end, so `"the "big" one"`
    /// and `'the cat's tail'` are read as they were meant.
    fn string(&mut self, quote: u8) -> Option<String> {
        let mut out = String::new();
        let mut from = self.at + 1;
        let mut at = from;
        loop {
            match self.byte(at) {
                None => {
                    self.at = at;
                    return None;
                }
                Some(b'\\') => {
                    out.push_str(&self.text[from..at]);
                    at += 1 + self.escape(at + 1, &mut out);
                    from = at;
                }
                Some(byte) if byte == quote => {
                    let (next, after) = self.after_space(at + 1);
                    let line_ends = self.text.as_bytes()[at + 1..after].contains(&b'\n');
                    if line_ends || next.is_none_or(|next| b",:}])".contains(&next)) {
                        out.push_str(&self.text[from..at]);
                        self.at = at + 1;
                        return Some(out);
                    }
                    at += 1;
                }
                Some(_) => at += 1,
            }
        }
    }

    /// Adds the character of an escape whose backslash is before `at`, and returns how many bytes the escape has from there.
    fn escape(&self, at: usize, out: &mut String) -> usize {
        let Some(c) = self.text[at..].chars().next() else { return 0 };
        if literal(out, &self.text[at..]) {
            out.push('\\');
            return 0;
        }
        let unit = |at: usize| {
            let digits = self.text.get(at..at + 4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u32::from_str_radix(digits, 16).ok()
        };
        match (c, unit(at + 1)) {
            ('n', _) => out.push('\n'),
            ('t', _) => out.push('\t'),
            ('r' | 'f', _) => out.push(' '),
            ('u', Some(high @ 0xD800..0xDC00)) => {
                let low = self.text.get(at + 5..at + 7).filter(|u| *u == "\\u").and_then(|_| unit(at + 7));
                if let Some(low @ 0xDC00..0xE000) = low {
                    out.extend(char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)));
                    return 11;
                }
                out.push(char::REPLACEMENT_CHARACTER);
                return 5;
            }
            ('u', Some(unit)) => {
                out.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
                return 5;
            }
            (c, _) => out.push(c),
        }
        c.len_utf8()
    }

    /// A number, or words without quotes up to a byte that may end them. `None` if the text ends first, since they may be cut off.
    fn word(&mut self) -> Option<Node> {
        let start = self.at;
        let paren = self.open.iter().any(|open| open.closer == b')');
        let rest = &self.text[start..];
        let ends = |byte: u8| b",:{}[]\"\n".contains(&byte) || paren && byte == b')';
        // At least one character is taken, so that the reader always advances.
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let length = rest.bytes().skip(first).position(ends).map(|length| first + length);
        self.at = start + length.unwrap_or(rest.len());
        let word = rest[..length?].trim();
        Some(match word {
            "" | "null" | "None" | "true" | "True" | "false" | "False" => Node::Other,
            _ => number(word).map_or_else(|| Node::Text(word.to_owned()), Node::Number),
        })
    }
}

/// A finite number in decimal digits.
pub(super) fn number(word: &str) -> Option<f64> {
    let digits = word.trim().trim_end_matches("px").trim_end();
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let starts = digits.bytes().next().is_some_and(|b| b.is_ascii_digit() || b"+-.".contains(&b));
    digits.parse().ok().filter(|n: &f64| plain && starts && n.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: impl IntoIterator<Item = f64>) -> Node {
        Node::List { items: items.into_iter().map(Node::Number).collect(), closed: true }
    }

    fn object<const N: usize>(entries: [(&str, Node); N]) -> Node {
        Node::Object(entries.map(|(key, node)| (key.to_owned(), node)).into())
    }

    fn text(text: &str) -> Node {
        Node::Text(text.to_owned())
    }

    #[test]
    fn what_json_is_and_what_models_make_of_it() {
        let cat = || object([("box", list([1.0, -2.5])), ("label", text("cat"))]);
        for written in [
            r#"{"box": [1, -2.5], "label": "cat"}"#,
            "Sure [see below]: ```json\n{\n\t\"box\": [1, -2.5],\n\t\"label\": \"cat\",\n}\n``` (done)",
            "{'box': (1, -2.5), 'label': 'cat',}",
            "{box: [1, -2.5], label: cat}",
            r#"{"box": [1, -2.5, "label": "cat"}"#,
            "{\"box\": [1, -2.5]\n \"label\": \"cat\"\n}",
            r#"{"box": [1, -2.5], "label": "cat"} and {"#,
        ] {
            assert_eq!(values(written), [cat()], "{written}");
        }
    }

    #[test]
    fn strings() {
        let string = |written: &str| match values(&format!("[0, {written}]")).remove(0) {
            Node::List { mut items, .. } => items.remove(1),
            other => panic!("{other:?}"),
        };
        assert_eq!(string(r#""the "big" one""#), text("the \"big\" one"));
        assert_eq!(string("'the cat's tail'"), text("the cat's tail"));
        assert_eq!(string(r#""a\n\"b\" \u00e9\ud83d\ude00\ud83dx\u12""#), text("a\n\"b\" é😀\u{FFFD}x\\u12"));
        // What JSON has no escape for, and what nobody means by one, stands for itself.
        let formula = r#""\frac{1}{2} + \alpha \times \sum_i \neq \nabla \\beta\/""#;
        assert_eq!(string(formula), text(r"\frac{1}{2} + \alpha \times \sum_i \neq \nabla \beta/"));
        assert_eq!(string(r#""C:\Users\bob\new\file.txt""#), text(r"C:\Users\bob\new\file.txt"));
        assert_eq!(string(r#""\d+\.\w\b""#), text(r"\d+\.\w\b"));
        assert_eq!(string(r#""A:\nYes\tand\rno""#), text("A:\nYes\tand no"));
        assert_eq!(string("\"two\nlines, {and} [more]\""), text("two\nlines, {and} [more]"));
        assert_eq!(string("1e999"), text("1e999"), "numbers are finite");
        assert_eq!(string("None"), Node::Other);
        assert_eq!(string("12px"), Node::Number(12.0));
    }

    #[test]
    fn what_is_cut_is_known_to_be() {
        let cut = |items: Vec<Node>| Node::List { items, closed: false };
        assert_eq!(values("[1, 2, 3"), [cut(vec![Node::Number(1.0), Node::Number(2.0)])]);
        assert_eq!(values(r#"[{"a": [1], "b": "hal"#), [cut(vec![object([("a", list([1.0]))])])]);
        assert_eq!(values(r#"[{"a": [1], "b"#), [cut(vec![object([("a", list([1.0]))])])]);
        assert_eq!(values(r#"[{"a": [1]}, {"#), [cut(vec![object([("a", list([1.0]))]), object([])])]);
    }

    /// As Qwen3-VL has written it: a brace twice.
    #[test]
    fn brackets_that_do_not_match() {
        let found = values("[{\"a\": 1}, {\n{\"a\": 2}, {\"a\": 3}]");
        let a = |n| object([("a", Node::Number(n))]);
        let rest = object([("", a(2.0)), ("", a(3.0))]);
        assert_eq!(found, [Node::List { items: vec![a(1.0), rest], closed: true }]);
        assert_eq!(values("]}[1]}"), [list([1.0])]);
    }

    #[test]
    fn any_text_takes_time_in_proportion() {
        for piece in ["{", "[", "[[1,", "{\"", "\"{'", "[\"a\": ", "[(", "[{\"a\":\"b\" ", "[1 ", "[\\", "[\"\\u", "[ "]
        {
            let text = piece.repeat((1 << 20) / piece.len());
            assert!(values(&text).len() <= text.len(), "{piece}");
        }
    }
}
