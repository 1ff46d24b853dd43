//! A JSON schema before llguidance sees it: words that say nothing are left out, and some others are said differently. The schema never
//! gets weaker by this, with one exception that JSON Schema itself makes: an unknown `format` is an annotation.

use serde_json::{Map, Value, json};

use crate::Error;

/// The formats that llguidance turns into text; by JSON Schema 2020-12 (Validation, 7) all others only annotate.
const FORMATS: [&str; 9] = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];
/// And this one.
const URI: &str = "uri";
/// Keys whose value is a schema.
const ONE: [&str; 10] = [
    "additionalProperties",
    "items",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
];
/// Keys whose value is a list of schemas.
const SEVERAL: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keys whose value is an object of schemas.
const NAMED: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
/// Numbers beyond this are written in digits all the same, so it does as a bound for numbers that are larger than any of use.
const FAR: f64 = 999_999_999_999_999.0;
/// Most properties of an object that need not be there. Compiling takes a time that grows with their square: 5,000 took 13 seconds.
const MAX_OPTIONAL: usize = 1000;

/// The pattern that Zod writes for an emoji, which looks ahead, and what says the same without.
const EMOJI: [&str; 2] = [
    r"^(?=[\s\S]*[\p{Extended_Pictographic}\p{Regional_Indicator}\u20E3])[\p{Extended_Pictographic}\p{Emoji_Component}]+$",
    r"^[\p{Extended_Pictographic}\p{Emoji_Component}]*[\p{Extended_Pictographic}\p{Regional_Indicator}\u{20E3}][\p{Extended_Pictographic}\p{Emoji_Component}]*$",
];

/// Mends a schema and the schemas in it. Its depth is bounded.
pub(crate) fn mend(schema: &mut Value) -> Result<(), Error> {
    let Value::Object(fields) = schema else { return Ok(()) };
    for key in ONE {
        fields.get_mut(key).map_or(Ok(()), mend)?;
    }
    for key in SEVERAL {
        fields.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().try_for_each(mend)?;
    }
    for key in NAMED {
        let all = fields.get_mut(key).and_then(Value::as_object_mut);
        all.into_iter().flat_map(|all| all.values_mut()).try_for_each(mend)?;
    }
    text(fields);
    numbers(fields);
    names(fields);
    let count = |key: &str| fields.get(key).map_or(0, |all| all.as_object().map_or(0, Map::len));
    let required = fields.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    let optional = count("properties").saturating_sub(required);
    if optional > MAX_OPTIONAL {
        let expected = format!("at most {MAX_OPTIONAL} properties of an object that are not required");
        return Err(Error::new("JSON schema", expected, optional.to_string()));
    }
    Ok(())
}

/// Formats and patterns of strings.
fn text(fields: &mut Map<String, Value>) {
    let known = fields.get("format").map(|format| FORMATS.iter().chain([&URI]).any(|name| format == name));
    if known == Some(false) {
        fields.remove("format");
    }
    let Some(pattern) = fields.get_mut("pattern") else { return };
    if pattern == EMOJI[0] {
        *pattern = EMOJI[1].into();
    } else if known == Some(true) && pattern.as_str().is_some_and(|p| p.contains("(?=") || p.contains("(?!")) {
        // A pattern that looks around cannot be followed. The format that it spells out can.
        fields.remove("pattern");
    }
}

/// Bounds of numbers that are too far away to be of use, such as those of 32-bit floats.
fn numbers(fields: &mut Map<String, Value>) {
    for (names, far) in [(["minimum", "exclusiveMinimum"], -FAR), (["maximum", "exclusiveMaximum"], FAR)] {
        for name in names {
            if let Some(bound) = fields.get_mut(name)
                && bound.as_f64().is_some_and(|bound| bound.abs() > 1e18 && (bound < 0.0) == (far < 0.0))
            {
                *bound = json!(far);
            }
        }
    }
}

/// `propertyNames`, which llguidance does not know: dropped if it says no more than that names are strings, and else said by
/// properties and patterns.
fn names(fields: &mut Map<String, Value>) {
    let Some(rule) = fields.get("propertyNames").cloned() else { return };
    let others = fields.get("additionalProperties").cloned().unwrap_or(json!({}));
    let empty = Map::new();
    let words = match &rule {
        Value::Object(words) => words,
        Value::Bool(true) => &empty,
        _ => return,
    };
    let says =
        |known: &[&str]| words.keys().all(|key| key == "type" || key == "$schema" || known.contains(&key.as_str()));
    if words.get("type").is_some_and(|kind| kind != "string") {
        return;
    }
    if says(&[]) {
        fields.remove("propertyNames");
    } else if says(&["enum"])
        && let Some(names) = words.get("enum").and_then(Value::as_array)
        && fields.get("patternProperties").is_none()
        && let Some(names) = names.iter().map(Value::as_str).collect::<Option<Vec<_>>>()
    {
        let properties = fields.entry("properties").or_insert_with(|| json!({}));
        let Some(properties) = properties.as_object_mut() else { return };
        properties.retain(|name, _| names.contains(&name.as_str()));
        for name in &names {
            properties.entry(*name).or_insert_with(|| others.clone());
        }
        fields.insert("additionalProperties".into(), false.into());
        fields.remove("propertyNames");
    } else if says(&["pattern"])
        && let Some(pattern) = words.get("pattern").and_then(Value::as_str)
        && fields.get("properties").is_none()
        && fields.get("patternProperties").is_none()
    {
        let pattern = pattern.to_owned();
        fields.insert("patternProperties".into(), json!({pattern: others}));
        fields.insert("additionalProperties".into(), false.into());
        fields.remove("propertyNames");
    }
}
