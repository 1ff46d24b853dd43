//! Messages in Hugging Face's form:
//! `[{"role": "user", "content": [{"type": "image", "image": PATH, "max_pixels": N}, {"type": "text", "text": "…"}]}]`.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::image::ImageOptions;

/// A message whose pictures are still names: paths, or the indices of what the caller hands over, as text.
#[derive(Debug, Clone, PartialEq)]
pub struct RawMessage {
    /// Who speaks.
    pub role: String,
    /// A string content, or `None` if the parts count.
    pub text: Option<String>,
    /// Parts of a list content.
    pub parts: Vec<RawPart>,
}

/// A part whose picture is still a name.
#[derive(Debug, Clone, PartialEq)]
pub enum RawPart {
    /// Text.
    Text(String),
    /// A picture's name and options.
    Image(String, ImageOptions),
}

/// Parses messages. Pixel options may be written as in qwen-vl-utils (`max_pixels`) or in camel case (`maxPixels`).
///
/// # Errors
/// [`Error::Invalid`] naming the message and what is off.
pub fn parse(json: &[u8]) -> Result<Vec<RawMessage>> {
    let value: Value =
        serde_json::from_slice(json).map_err(|e| Error::invalid("messages", "a JSON list", e.to_string()))?;
    let list = value.as_array().ok_or_else(|| Error::invalid("messages", "a JSON list", kind(&value)))?;
    list.iter().enumerate().map(|(i, message)| parse_message(&format!("messages[{i}]"), message)).collect()
}

fn parse_message(at: &str, message: &Value) -> Result<RawMessage> {
    let role = message.get("role").and_then(Value::as_str);
    let role = role.ok_or_else(|| Error::invalid(format!("{at}.role"), "a string", kind(message)))?.to_owned();
    let raw = |text, parts| RawMessage { role: role.clone(), text, parts };
    match message.get("content") {
        Some(Value::String(text)) => Ok(raw(Some(text.clone()), Vec::new())),
        Some(Value::Array(parts)) => {
            let parts = parts
                .iter()
                .enumerate()
                .map(|(i, part)| parse_part(&format!("{at}.content[{i}]"), part))
                .collect::<Result<_>>()?;
            Ok(raw(None, parts))
        }
        other => {
            let found = other.map_or("nothing", kind);
            Err(Error::invalid(format!("{at}.content"), "a string or a list of parts", found))
        }
    }
}

fn parse_part(at: &str, part: &Value) -> Result<RawPart> {
    if let Value::String(text) = part {
        return Ok(RawPart::Text(text.clone()));
    }
    let string = |name: &str| part.get(name).and_then(Value::as_str).map(str::to_owned);
    // A part may leave its type to be seen from its fields, as the official chat template does.
    let kind_of = string("type").unwrap_or_else(|| {
        let has = |name: &&str| part.get(*name).is_some();
        ["text", "image", "video"].into_iter().find(has).unwrap_or("nothing").to_owned()
    });
    match kind_of.as_str() {
        "text" => string("text")
            .map(RawPart::Text)
            .ok_or_else(|| Error::invalid(format!("{at}.text"), "a string", kind(part))),
        "image" => {
            // A number is the index of a picture that the caller hands over beside the messages.
            let index = part.get("image").and_then(Value::as_u64).map(|i| i.to_string());
            let name = string("image").or_else(|| string("path")).or_else(|| string("url")).or(index);
            let name = name.ok_or_else(|| Error::invalid(format!("{at}.image"), "a path", kind(part)))?;
            let number = |snake: &str, camel: &str| match part.get(snake).or_else(|| part.get(camel)) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => match value.as_f64().filter(|n| *n >= 0.0 && *n <= 1e15) {
                    // Python snippets write 1280 * 28 * 28 and sometimes a float; pixels are whole.
                    Some(n) => Ok(Some(n as u64)),
                    None => Err(Error::invalid(format!("{at}.{snake}"), "a number of pixels", value.to_string())),
                },
            };
            let side = |snake: &str, camel: &str| {
                number(snake, camel)?
                    .map(|n| {
                        u32::try_from(n)
                            .map_err(|_| Error::invalid(format!("{at}.{snake}"), "a side in pixels", n.to_string()))
                    })
                    .transpose()
            };
            let options = ImageOptions {
                min_pixels: number("min_pixels", "minPixels")?,
                max_pixels: number("max_pixels", "maxPixels")?,
                resized_height: side("resized_height", "resizedHeight")?,
                resized_width: side("resized_width", "resizedWidth")?,
            };
            Ok(RawPart::Image(name, options))
        }
        other => {
            let expected = "a part of type text or image";
            Err(Error::invalid(at, expected, format!("type {other:?}")))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object without it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hugging_face_form() {
        let json = br#"[{"role":"system","content":"Be brief."},{"role":"user","content":[
            {"type":"image","image":"a.png","max_pixels":1003520,"resizedHeight":280,"resized_width":420},
            {"type":"text","text":"What?"}]}]"#;
        let messages = parse(json).unwrap();
        assert_eq!(messages[0].text.as_deref(), Some("Be brief."));
        let options = ImageOptions {
            min_pixels: None,
            max_pixels: Some(1_003_520),
            resized_height: Some(280),
            resized_width: Some(420),
        };
        assert_eq!(messages[1].parts, [RawPart::Image("a.png".into(), options), RawPart::Text("What?".into())]);
        let messages = parse(br#"[{"role":"user","content":[{"type":"image","image":3}]}]"#).unwrap();
        assert_eq!(messages[0].parts, [RawPart::Image("3".into(), ImageOptions::default())]);
    }

    #[test]
    fn what_is_off_is_named() {
        for (json, place) in [
            (r#"{}"#, "messages"),
            (r#"[{"content":"x"}]"#, "messages[0].role"),
            (r#"[{"role":"user"}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":[{"type":"audio"}]}]"#, "messages[0].content[0]"),
            (r#"[{"role":"user","content":[{"type":"image"}]}]"#, "messages[0].content[0].image"),
            (r#"[{"role":"user","content":[{"image":"a","max_pixels":"many"}]}]"#, "messages[0].content[0].max_pixels"),
        ] {
            match parse(json.as_bytes()) {
                Err(Error::Invalid { what, .. }) => assert_eq!(what, place, "{json}"),
                other => panic!("{json}: {other:?}"),
            }
        }
    }
}
