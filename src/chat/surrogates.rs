//! Halves of characters in JSON. JavaScript cuts strings between UTF-16 units, so half an emoji may be left, which
//! `JSON.stringify` writes as `\ud83d`. `serde_json` refuses that, as it has no place in a Rust string.

use std::borrow::Cow;

/// The same JSON with U+FFFD in place of halves without their other half, as `TextEncoder` and Python's `errors="replace"` have it.
pub fn mended(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?, 16)
            .ok()
    };
    let mut out = String::new();
    let (mut at, mut done) = (0, 0);
    while let Some(found) = json[at..].find('\\') {
        at += found;
        match (unit(at), unit(at + 6)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => at += 12,
            (Some(0xD800..0xE000), _) => {
                out.push_str(&json[done..at]);
                out.push_str("\\ufffd");
                at += 6;
                done = at;
            }
            // An escape has another ASCII character, or is the end of broken JSON.
            _ => at += 1 + usize::from(bytes.get(at + 1).is_some_and(u8::is_ascii)),
        }
    }
    match done {
        0 => Cow::Borrowed(json),
        _ => Cow::Owned(out + &json[done..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of `json.loads(…).encode("utf-16", "surrogatepass").decode("utf-16", "replace")` in Python.
    #[test]
    fn halves_are_replaced_and_pairs_are_not() {
        let read = |json: &str| serde_json::from_str::<String>(&mended(json));
        for (json, text) in [
            (r#""a\ud83d""#, "a\u{FFFD}"),
            (r#""\udc00b""#, "\u{FFFD}b"),
            (r#""\ud83d\ude00""#, "\u{1F600}"),
            (r#""\ud83d\ud83d\ude00\ude00""#, "\u{FFFD}\u{1F600}\u{FFFD}"),
            (r#""\\ud83d \u00e9\n""#, "\\ud83d é\n"),
            (r#""\\\ud83dé""#, "\\\u{FFFD}é"),
        ] {
            assert_eq!(read(json).unwrap(), text, "{json}");
        }
        for broken in ["\"\\", "\\é", "\\ud8", "\"\\ud83d\\u12"] {
            assert!(read(broken).is_err());
        }
    }
}
