//! Messages read from JSON in Hugging Face's form:
//! `[{"role": "user", "content": [{"type": "image", "image": PATH, "max_pixels": N}, {"type": "text", "text": "…"}]}]`.
//! A video is a file, `{"type": "video", "video": PATH, "fps": 2.0, …}`, or a list of pictures with the times at which they are shown:
//! `{"type": "video", "video": [PATH, …], "sample_fps": 2.0}` or `"timestamps": [0.0, 0.5, …]`.
//!
//! Beside `role` and `content` a message may have `reasoning` (or `reasoning_content`), `tool_calls`, `tool_call_id` and `prefix`; names
//! may also be in camel case. A call is `{"id", "name", "arguments": {…}}` or OpenAI's
//! `{"id", "type": "function", "function": {"name", "arguments": "JSON"}}`.

use serde_json::Value;

use super::surrogates::mended;
use super::tools::{ToolCall, arguments};
use crate::error::{Error, Result};
use crate::image::ImageOptions;
use crate::video::{MOST_FRAMES, Times, VideoOptions};

/// A message in which pictures and videos are only named: by path, or by the index (as text) of one that the caller has at hand.
#[derive(Debug, Clone, PartialEq)]
pub struct RawMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The content if it is a string; `None` if it is a list of parts.
    pub text: Option<String>,
    /// The parts of a content that is a list.
    pub parts: Vec<RawPart>,
    /// What the assistant thought before it wrote this.
    pub reasoning: Option<String>,
    /// The tool calls that the assistant made.
    pub tool_calls: Vec<ToolCall>,
    /// The id of the call whose result this is.
    pub tool_call_id: Option<String>,
    /// Whether the model continues this message.
    pub prefix: bool,
}

/// A part in which a picture or video is only named.
#[derive(Debug, Clone, PartialEq)]
pub enum RawPart {
    /// Text.
    Text(String),
    /// A picture's name and options.
    Image(String, ImageOptions),
    /// A video's name and options.
    Video(RawVideo, VideoOptions),
}

/// A video that is only named: by one name, or by one for each of its pictures.
#[derive(Debug, Clone, PartialEq)]
pub enum RawVideo {
    /// One file.
    File(String),
    /// Pictures, and when each is shown.
    Pictures(Vec<String>, Times),
}

/// Parses messages. Options may be written as in qwen-vl-utils (`max_pixels`) or in camel case (`maxPixels`).
///
/// # Errors
/// [`Error::Invalid`] naming the message and the field that is wrong.
pub fn parse(json: &[u8]) -> Result<Vec<RawMessage>> {
    let refuse = |e: &dyn std::fmt::Display| Error::invalid("messages", "a JSON list", e.to_string());
    let json = std::str::from_utf8(json).map_err(|e| refuse(&e))?;
    let value: Value = serde_json::from_str(&mended(json)).map_err(|e| refuse(&e))?;
    let list = value.as_array().ok_or_else(|| Error::invalid("messages", "a JSON list", kind(&value)))?;
    list.iter().enumerate().map(|(i, message)| parse_message(&format!("messages[{i}]"), message)).collect()
}

fn parse_message(at: &str, message: &Value) -> Result<RawMessage> {
    let role = message.get("role").and_then(Value::as_str);
    let role = role.ok_or_else(|| Error::invalid(format!("{at}.role"), "a string", found(message, "role")))?.to_owned();
    let string = |names: [&str; 2]| {
        let value = names.iter().find_map(|name| message.get(name)).filter(|value| !value.is_null());
        let text = |value: &Value| value.as_str().map(str::to_owned);
        value
            .map(|v| text(v).ok_or_else(|| Error::invalid(format!("{at}.{}", names[0]), "a string", kind(v))))
            .transpose()
    };
    let reasoning = string(["reasoning", "reasoning_content"])?;
    let tool_call_id = string(["tool_call_id", "toolCallId"])?;
    let tool_calls = match message.get("tool_calls").or_else(|| message.get("toolCalls")) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(calls)) => {
            let parse = |(i, call)| parse_call(&format!("{at}.tool_calls[{i}]"), call);
            calls.iter().enumerate().map(parse).collect::<Result<_>>()?
        }
        Some(other) => return Err(Error::invalid(format!("{at}.tool_calls"), "a list of calls", kind(other))),
    };
    let prefix = match message.get("prefix") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(prefix)) => *prefix,
        Some(other) => return Err(Error::invalid(format!("{at}.prefix"), "true or false", kind(other))),
    };
    for (field, has, of) in [
        ("tool_calls", !tool_calls.is_empty(), "assistant"),
        ("prefix", prefix, "assistant"),
        ("tool_call_id", tool_call_id.is_some(), "tool"),
    ] {
        if has && role != of {
            let expected = format!("this field only in messages of role {of:?}");
            return Err(Error::invalid(format!("{at}.{field}"), expected, format!("it in one of role {role:?}")));
        }
    }
    let (text, parts) = match message.get("content") {
        Some(Value::String(text)) => (Some(text.clone()), Vec::new()),
        Some(Value::Array(parts)) => {
            let parse = |(i, part)| parse_part(&format!("{at}.content[{i}]"), part);
            (None, parts.iter().enumerate().map(parse).collect::<Result<_>>()?)
        }
        // In OpenAI's form, a message with calls and no text has the content null.
        None | Some(Value::Null) if !tool_calls.is_empty() => (Some(String::new()), Vec::new()),
        other => {
            let found = other.map_or("nothing", kind);
            return Err(Error::invalid(format!("{at}.content"), "a string or a list of parts", found));
        }
    };
    Ok(RawMessage { role, text, parts, reasoning, tool_calls, tool_call_id, prefix })
}

fn parse_call(at: &str, call: &Value) -> Result<ToolCall> {
    let function = call.get("function").unwrap_or(call);
    let name = function.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name =
        name.ok_or_else(|| Error::invalid(format!("{at}.name"), "the name of a tool", found(function, "name")))?;
    let id = match call.get("id") {
        None | Some(Value::Null) => String::new(),
        Some(id) => id.as_str().ok_or_else(|| Error::invalid(format!("{at}.id"), "a string", kind(id)))?.to_owned(),
    };
    // What the model wrote, if a page has handed back a call of an answer, and else what the caller gives or has changed.
    let kept = function.get("argumentsText").filter(|text| {
        let read = text.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        read.is_some_and(|read| function.get("arguments").is_none_or(|given| alike(&read, given)))
    });
    let given = kept.or_else(|| function.get("arguments")).unwrap_or(&Value::Null);
    let (arguments, written) = arguments(&given.to_string()).ok_or_else(|| {
        Error::invalid(format!("{at}.arguments"), "an object, or a string with the JSON of one", kind(given))
    })?;
    Ok(ToolCall { id, name: name.to_owned(), arguments, written })
}

/// Whether two values are the same as far as JavaScript can tell, whose numbers are floats.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        _ => a == b,
    }
}

fn parse_part(at: &str, part: &Value) -> Result<RawPart> {
    if let Value::String(text) = part {
        return Ok(RawPart::Text(text.clone()));
    }
    let string = |name: &str| part.get(name).and_then(Value::as_str).map(str::to_owned);
    // The type may be left out if a field says it, as in Qwen's chat templates.
    let kind_of = string("type").unwrap_or_else(|| {
        let has = |name: &&str| part.get(*name).is_some();
        ["text", "image", "image_url", "video", "video_url"].into_iter().find(has).unwrap_or("nothing").to_owned()
    });
    match kind_of.as_str() {
        "text" => string("text")
            .map(RawPart::Text)
            .ok_or_else(|| Error::invalid(format!("{at}.text"), "a string", found(part, "text"))),
        "image" | "image_url" => {
            // OpenAI's form is `{"image_url": {"url": …}}`; many copies of it have the address as a string.
            let address = part.get("image_url").map(|value| value.get("url").unwrap_or(value));
            let address = address.and_then(Value::as_str).map(str::to_owned);
            // A number is the index of a picture that the caller has at hand.
            let index = part.get("image").and_then(Value::as_u64).map(|i| i.to_string());
            let name = string("image").or_else(|| string("path")).or_else(|| string("url")).or(index).or(address);
            let name = name.ok_or_else(|| Error::invalid(format!("{at}.image"), "a path", found(part, "image")))?;
            let number = |snake: &str, camel: &str| match part.get(snake).or_else(|| part.get(camel)) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => match value.as_f64().filter(|n| *n >= 0.0 && *n <= 1e15) {
                    // Python snippets compute such numbers, 1280 * 28 * 28, and sometimes get a float.
                    Some(n) => Ok(Some(n as u64)),
                    None => Err(Error::invalid(format!("{at}.{snake}"), "a number of pixels", value.to_string())),
                },
            };
            let side = |snake: &str, camel: &str| {
                number(snake, camel)?
                    .map(|n| {
                        u32::try_from(n)
                            .map_err(|_| Error::invalid(format!("{at}.{snake}"), "a length in pixels", n.to_string()))
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
        "video" | "video_url" => {
            let options = VideoOptions::from_json(part, at)?;
            let named = ["video", "path", "url"].into_iter().find_map(|name| Some((name, part.get(name)?)));
            let address = || part.get("video_url").map(|value| ("video_url", value.get("url").unwrap_or(value)));
            let (field, value) = named.or_else(address).unwrap_or(("video", &Value::Null));
            let at_field = format!("{at}.{field}");
            if let Value::Array(list) = value {
                if list.is_empty() || list.len() > MOST_FRAMES {
                    let expected = format!("a list of 1 to {MOST_FRAMES} pictures");
                    return Err(Error::invalid(at_field, expected, format!("a list of {}", list.len())));
                }
                let pictures = list.iter().enumerate().map(|(i, picture)| {
                    named_by(picture).ok_or_else(|| Error::invalid(format!("{at_field}[{i}]"), "a path", kind(picture)))
                });
                let pictures = pictures.collect::<Result<Vec<_>>>()?;
                let times = Times::of_list(part, at, pictures.len())?;
                let options = VideoOptions { every_frame: true, ..options };
                return Ok(RawPart::Video(RawVideo::Pictures(pictures, times), options));
            }
            let name = named_by(value);
            let name =
                name.ok_or_else(|| Error::invalid(at_field, "a path or a list of pictures", found(part, field)))?;
            Ok(RawPart::Video(RawVideo::File(name), options))
        }
        other => {
            let expected = "a part of type text, image, image_url, video or video_url";
            Err(Error::invalid(at, expected, format!("type {other:?}")))
        }
    }
}

/// A path, or the index of something that the caller has at hand.
fn named_by(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|i| i.to_string()))
}

/// What a field of a JSON object is, for an error message.
fn found(object: &Value, field: &str) -> &'static str {
    match object {
        Value::Object(fields) => fields.get(field).map_or("nothing", kind),
        other => kind(other),
    }
}

/// What a JSON value is, for an error message.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
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
    fn calls_and_what_they_gave() {
        let json = br#"[
            {"role":"assistant","content":null,"reasoning":"Hm","tool_calls":[
                {"id":"a","type":"function","function":{"name":"look","arguments":"{\"place\": \"door\", \"n\": [1, 2.5]}"}},
                {"id":"b","type":"function","function":{"name":"count","arguments":""}}]},
            {"role":"tool","tool_call_id":"a","content":"open"},
            {"role":"assistant","content":"So","toolCalls":[{"id":"c","name":"look","arguments":{"place":"door"}}]},
            {"role":"tool","toolCallId":"c","content":[{"type":"text","text":"shut"}]},
            {"role":"assistant","content":"It is","prefix":true,"tool_calls":null}]"#;
        let messages = parse(json).unwrap();
        let call = |id: &str, name: &str, written: &str| ToolCall {
            written: written.to_owned(),
            ..ToolCall::new(id, name, serde_json::from_str(written).unwrap())
        };
        let door = r#"{"place": "door", "n": [1, 2.5]}"#;
        assert_eq!(messages[0].tool_calls, [call("a", "look", door), call("b", "count", "{}")]);
        assert_eq!((messages[0].text.as_deref(), messages[0].reasoning.as_deref()), (Some(""), Some("Hm")));
        assert_eq!(messages[1].tool_call_id.as_deref(), Some("a"));
        assert_eq!(messages[2].tool_calls, [call("c", "look", r#"{"place":"door"}"#)]);
        assert_eq!((messages[3].tool_call_id.as_deref(), messages[3].parts.len()), (Some("c"), 1));
        assert!(messages[4].prefix && !messages[2].prefix);
        // A page hands back what it got: the model's own digits count, unless the page has changed the arguments.
        let back = |arguments: &str| {
            let call = format!(
                r#"{{"id":"a","name":"f","arguments":{arguments},"argumentsText":"{{\"n\": 2512292042121000001}}"}}"#
            );
            let json = format!(r#"[{{"role":"assistant","content":"","toolCalls":[{call}]}}]"#);
            parse(json.as_bytes()).unwrap()[0].tool_calls[0].arguments["n"].to_string()
        };
        assert_eq!(back(r#"{"n":2512292042121000000}"#), "2512292042121000001");
        assert_eq!(back(r#"{"n":7}"#), "7");
        // Half an emoji is no reason to refuse a conversation.
        let half = parse(br#"[{"role":"user","content":"a\ud83d"}]"#).unwrap();
        assert_eq!(half[0].text.as_deref(), Some("a\u{FFFD}"));
    }

    #[test]
    fn videos_are_files_or_lists() {
        let json = br#"[{"role":"user","content":[
            {"type":"video","video":"clip.mp4","fps":1.0,"maxPixels":151200,"video_start":2,"max_frames":null},
            {"type":"video","video":["a.png","b.png"],"sample_fps":4},
            {"video":["a.png",3],"timestamps":[0.5,2.5],"resized_height":56,"resizedWidth":84},
            {"type":"video","video":1}]}]"#;
        let parts = parse(json).unwrap().remove(0).parts;
        let file = |name: &str| RawVideo::File(name.into());
        let list = |names: [&str; 2], times| RawVideo::Pictures(names.map(str::to_owned).to_vec(), times);
        let options = VideoOptions {
            fps: Some(1.0),
            max_pixels: Some(151_200),
            video_start: Some(2.0),
            ..VideoOptions::default()
        };
        let every = VideoOptions { every_frame: true, ..VideoOptions::default() };
        let sized = VideoOptions { resized_height: Some(56), resized_width: Some(84), ..every.clone() };
        assert_eq!(
            parts,
            [
                RawPart::Video(file("clip.mp4"), options),
                RawPart::Video(list(["a.png", "b.png"], Times::Even { frames: 2, fps: 4.0 }), every),
                RawPart::Video(list(["a.png", "3"], Times::Each(vec![0.5, 2.5])), sized),
                RawPart::Video(file("1"), VideoOptions::default()),
            ]
        );
    }

    #[test]
    fn what_is_off_is_named() {
        for (json, place) in [
            (r#"{}"#, "messages"),
            (r#"[{"content":"x"}]"#, "messages[0].role"),
            (r#"[{"role":"user"}]"#, "messages[0].content"),
            (r#"[{"role":"assistant","content":null,"tool_calls":[]}]"#, "messages[0].content"),
            (r#"[{"role":"assistant","content":"","reasoning":1}]"#, "messages[0].reasoning"),
            (r#"[{"role":"assistant","content":"","tool_calls":{}}]"#, "messages[0].tool_calls"),
            (r#"[{"role":"assistant","tool_calls":[{"id":"a"}]}]"#, "messages[0].tool_calls[0].name"),
            (r#"[{"role":"assistant","tool_calls":[{"id":1,"name":"a"}]}]"#, "messages[0].tool_calls[0].id"),
            (
                r#"[{"role":"assistant","tool_calls":[{"name":"a","arguments":"[1"}]}]"#,
                "messages[0].tool_calls[0].arguments",
            ),
            (r#"[{"role":"user","content":"","tool_calls":[{"name":"a"}]}]"#, "messages[0].tool_calls"),
            (r#"[{"role":"user","content":"","prefix":true}]"#, "messages[0].prefix"),
            (r#"[{"role":"assistant","content":"","prefix":1}]"#, "messages[0].prefix"),
            (r#"[{"role":"user","content":"","tool_call_id":"a"}]"#, "messages[0].tool_call_id"),
            (r#"[{"role":"user","content":[{"type":"audio"}]}]"#, "messages[0].content[0]"),
            (r#"[{"role":"user","content":[{"type":"image"}]}]"#, "messages[0].content[0].image"),
            (r#"[{"role":"user","content":[{"image":"a","max_pixels":"many"}]}]"#, "messages[0].content[0].max_pixels"),
            (r#"[{"role":"user","content":[{"type":"video"}]}]"#, "messages[0].content[0].video"),
            (r#"[{"role":"user","content":[{"video":[]}]}]"#, "messages[0].content[0].video"),
            (r#"[{"role":"user","content":[{"video":["a",{}]}]}]"#, "messages[0].content[0].video[1]"),
            (r#"[{"role":"user","content":[{"video":"a","fps":-1}]}]"#, "messages[0].content[0].fps"),
            (r#"[{"role":"user","content":[{"video":["a"],"timestamps":[]}]}]"#, "messages[0].content[0].timestamps"),
        ] {
            match parse(json.as_bytes()) {
                Err(Error::Invalid { what, .. }) => assert_eq!(what, place, "{json}"),
                other => panic!("{json}: {other:?}"),
            }
        }
    }
}
