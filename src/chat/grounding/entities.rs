//! HTML's entities, such as `&amp;` and `&#233;`, as the characters that they stand for.

/// Named entities that models write.
const ENTITIES: [(&str, &str); 24] = [
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("ndash", "–"),
    ("mdash", "—"),
    ("hellip", "…"),
    ("lsquo", "‘"),
    ("rsquo", "’"),
    ("ldquo", "“"),
    ("rdquo", "”"),
    ("laquo", "«"),
    ("raquo", "»"),
    ("bull", "•"),
    ("middot", "·"),
    ("times", "×"),
    ("divide", "÷"),
    ("plusmn", "±"),
    ("deg", "°"),
    ("copy", "©"),
    ("reg", "®"),
    ("euro", "€"),
];

/// A text with its entities decoded. An `&` that begins no known entity stays as it is.
pub(super) fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // The longest entity is a number of eight digits.
        let end = rest.bytes().take(12).position(|byte| byte == b';');
        let name = end.map_or("", |end| &rest[1..end]);
        let number = name.strip_prefix('#').and_then(|number| match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => number.parse().ok(),
        });
        let by_name = || ENTITIES.iter().find(|(entity, _)| *entity == name).map(|(_, text)| *text);
        match (number.and_then(char::from_u32), by_name()) {
            (Some(c), _) => out.push(c),
            (None, Some(text)) => out.push_str(text),
            (None, None) => {
                out.push('&');
                rest = &rest[1..];
                continue;
            }
        }
        rest = &rest[name.len() + 2..];
    }
    out.push_str(rest);
    out
}
