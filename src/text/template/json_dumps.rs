//! The filter `tojson`, which writes what Python's `json.dumps` writes.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{ErrorKind, Value};

use super::guard::Guard;
use super::limits::MAX_DEPTH;

/// Python's `json.dumps`, as transformers sets it up for templates.
pub(super) struct Dump<'a> {
    guard: &'a Guard,
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    separator: String,
    colon: String,
    pub out: String,
    /// Longest result in bytes. A list may hold another list twice, that one a third twice, and so on, so a small value may be long.
    limit: usize,
}

impl<'a> Dump<'a> {
    /// Takes the keyword arguments of the filter.
    pub(super) fn new(guard: &'a Guard, options: &Kwargs, limit: usize) -> Result<Self, minijinja::Error> {
        let refuse =
            |what: &str| minijinja::Error::new(ErrorKind::InvalidOperation, format!("tojson: expected {what}"));
        let indent = match options.get::<Option<Value>>("indent")?.filter(|value| !value.is_none()) {
            None => None,
            Some(value) => match (value.as_str(), value.as_i64()) {
                (Some(text), _) if text.len() <= MAX_DEPTH => Some(text.to_owned()),
                (_, Some(spaces)) => Some(" ".repeat(spaces.clamp(0, 16) as usize)),
                _ => return Err(refuse("a number or a short string as indent")),
            },
        };
        let (separator, colon) = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
            None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
            Some([separator, colon]) => (separator.clone(), colon.clone()),
            Some(_) => return Err(refuse("two separators")),
        };
        let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
        let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
        options.assert_all_used()?;
        Ok(Self { guard, ensure_ascii, sort_keys, indent, separator, colon, out: String::new(), limit })
    }

    /// Takes no keyword arguments.
    pub(super) fn plain(guard: &'a Guard, limit: usize) -> Self {
        let (separator, colon) = (", ".to_owned(), ": ".to_owned());
        Self { guard, ensure_ascii: false, sort_keys: false, indent: None, separator, colon, out: String::new(), limit }
    }

    /// Adds a value that lies `depth` levels deep.
    pub(super) fn value(&mut self, value: &Value, depth: usize) -> Result<(), minijinja::Error> {
        let refuse = |what: String| Err(minijinja::Error::new(ErrorKind::BadSerialization, what));
        if depth > MAX_DEPTH {
            return refuse(format!("tojson: expected at most {MAX_DEPTH} levels"));
        }
        // Each item takes at least a byte, so a container with more items than bytes are left is refused before it is read.
        let long = match value.kind() {
            ValueKind::String => value.as_str().map_or(0, str::len),
            _ => value.len().unwrap_or(0),
        };
        if long > self.limit.saturating_sub(self.out.len()) {
            return refuse(format!("tojson: expected at most {} bytes, found more", self.limit));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.take(self.limit + 1).collect();
                self.list('[', ']', items.len(), depth, |dump, i| dump.value(&items[i], depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.list('{', '}', keys.len(), depth, |dump, i| {
                    match keys[i].kind() {
                        ValueKind::String => dump.string(keys[i].as_str().unwrap_or_default()),
                        ValueKind::None => dump.out.push_str("\"null\""),
                        ValueKind::Bool => dump.out.push_str(if keys[i].is_true() { "\"true\"" } else { "\"false\"" }),
                        ValueKind::Number => dump.string(&number(&keys[i])),
                        other => return refuse(format!("tojson: expected simple keys, found {other}")),
                    }
                    dump.out += &dump.colon;
                    dump.value(&value.get_item(&keys[i])?, depth + 1)
                })?;
            }
            other => return refuse(format!("tojson: expected plain values, found {other}")),
        }
        Ok(())
    }

    /// Adds a list or an object of `count` items.
    fn list(
        &mut self,
        open: char,
        close: char,
        count: usize,
        depth: usize,
        mut item: impl FnMut(&mut Self, usize) -> Result<(), minijinja::Error>,
    ) -> Result<(), minijinja::Error> {
        self.out.push(open);
        for i in 0..count {
            if i > 0 {
                self.out += &self.separator;
            }
            self.new_line(depth + 1);
            item(self, i)?;
        }
        if count > 0 {
            self.new_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    pub(super) fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn string(&mut self, text: &str) {
        let mut quoted = String::with_capacity(text.len() + 2);
        for c in text.chars() {
            match c {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\r' => quoted.push_str("\\r"),
                '\t' => quoted.push_str("\\t"),
                '\u{8}' => quoted.push_str("\\b"),
                '\u{c}' => quoted.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !c.is_ascii() && c != self.guard.mark) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(quoted, "\\u{unit:04x}"); // writing to a String cannot fail
                    }
                }
                c => quoted.push(c),
            }
        }
        // Escapes are new text, which could spell a control token made of backslashes and letters, so the marks are set again.
        let quoted = self.guard.protect(&self.guard.remove(&quoted));
        self.out.push('"');
        self.out.push_str(&quoted);
        self.out.push('"');
    }
}

/// An integer in digits, or a float as Python's `repr` has it: the shortest digits that read back the same, with an
/// exponent below 1e-4 and from 1e16 on.
fn number(value: &Value) -> String {
    let float = match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float,
        _ => return value.to_string(),
    };
    if float.is_nan() {
        return "NaN".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let scientific = format!("{float:e}");
    match scientific.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?))) {
        Some((digits, exponent)) if !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{float:?}"), // like Python's: digits, a point, at least one decimal
    }
}
