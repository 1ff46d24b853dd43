//! Tools: what a caller offers, whether the model has to call one, and a call that it has made.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::surrogates::mended;
use crate::error::{Error, Result};

/// A tool that the model may call: `{"type": "function", "function": {"name", "description", "parameters"}}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    json: Value,
}

impl Tool {
    /// Reads OpenAI's form. The model is shown all of it, with its keys in their order.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field under `at`.
    pub fn new(json: Value, at: &str) -> Result<Self> {
        let function = &json["function"];
        if json["type"] != "function" || !function.is_object() {
            let expected = "{\"type\": \"function\", \"function\": {\"name\": …, \"parameters\": …}}";
            return Err(Error::invalid(at, expected, shortened(&json)));
        }
        if function["name"].as_str().is_none_or(str::is_empty) {
            return Err(Error::invalid(
                format!("{at}.function.name"),
                "a string that is not empty",
                shortened(&function["name"]),
            ));
        }
        if !function["parameters"].is_object() && !function["parameters"].is_null() {
            let found = shortened(&function["parameters"]);
            return Err(Error::invalid(
                format!("{at}.function.parameters"),
                "a JSON schema, which is an object",
                found,
            ));
        }
        Ok(Tool { json })
    }

    /// Reads a list of tools, of which no two have the same name. `null` is an empty list.
    ///
    /// # Errors
    /// As [`Tool::new`].
    pub fn list(json: &Value) -> Result<Vec<Self>> {
        let list = match json {
            Value::Null => return Ok(Vec::new()),
            Value::Array(list) => list,
            other => return Err(Error::invalid("tools", "a list", shortened(other))),
        };
        let read = |(i, tool): (usize, &Value)| Tool::new(tool.clone(), &format!("tools[{i}]"));
        let tools = list.iter().enumerate().map(read).collect::<Result<Vec<_>>>()?;
        let mut names = HashSet::new();
        match tools.iter().find(|tool| !names.insert(tool.name())) {
            Some(twice) => {
                Err(Error::invalid("tools", "tools with different names", format!("{:?} twice", twice.name())))
            }
            None => Ok(tools),
        }
    }

    /// The name that a call uses.
    pub fn name(&self) -> &str {
        self.json["function"]["name"].as_str().unwrap_or_default()
    }

    /// The schema of its arguments.
    pub fn parameters(&self) -> Option<&Value> {
        Some(&self.json["function"]["parameters"]).filter(|schema| schema.is_object())
    }

    /// Whether the arguments of a call have to follow the schema.
    pub fn strict(&self) -> bool {
        self.json["function"]["strict"] == true
    }

    /// The tool's JSON as it was given.
    pub fn json(&self) -> &Value {
        &self.json
    }
}

/// Whether the model may, must or must not call a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// It must not: it is told of no tools, and nothing in its answer is taken for a call.
    None,
    /// It must call at least one.
    Required,
    /// It must call this one.
    Named(String),
}

impl ToolChoice {
    /// Reads `"auto"`, `"none"`, `"required"` or `{"type": "function", "function": {"name": …}}`; `null` is `auto`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    pub fn from_json(json: &Value) -> Result<Self> {
        let name = || json["function"]["name"].as_str().filter(|_| json["type"] == "function");
        match json.as_str() {
            None if json.is_null() => Ok(ToolChoice::Auto),
            Some("auto") => Ok(ToolChoice::Auto),
            Some("none") => Ok(ToolChoice::None),
            Some("required") => Ok(ToolChoice::Required),
            _ => name().map(|name| ToolChoice::Named(name.to_owned())).ok_or_else(|| {
                let expected =
                    "\"auto\", \"none\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": …}}";
                Error::invalid("toolChoice", expected, shortened(json))
            }),
        }
    }

    /// The tools that the model is told of.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the model has to call a tool that is not among them.
    pub fn offered<'a>(&self, tools: &'a [Tool]) -> Result<&'a [Tool]> {
        let missing = |expected: &str| {
            let names: Vec<&str> = tools.iter().map(Tool::name).collect();
            let found = if names.is_empty() { "no tools".to_owned() } else { format!("tools named {names:?}") };
            Err(Error::invalid("toolChoice", expected, found))
        };
        match self {
            ToolChoice::None => Ok(&[]),
            ToolChoice::Required if tools.is_empty() => missing("at least one tool to call"),
            ToolChoice::Named(name) if tools.iter().all(|tool| tool.name() != name) => {
                missing(&format!("a tool named {name:?} to call"))
            }
            _ => Ok(tools),
        }
    }
}

/// A tool call that the model has made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolCall {
    /// Its name in the conversation: `call_1`, `call_2` and so on.
    pub id: String,
    /// The tool's name. It may be one that nobody offered: models make up names.
    pub name: String,
    /// The arguments by name.
    pub arguments: Map<String, Value>,
    /// The arguments as the model wrote them, JSON of an object. Numbers have all their digits here: JavaScript's have 15, and those
    /// of `arguments` 19.
    #[serde(rename = "argumentsText")]
    pub written: String,
}

impl ToolCall {
    /// A call of these arguments.
    pub fn new(id: &str, name: &str, arguments: Map<String, Value>) -> Self {
        let written = Value::Object(arguments.clone()).to_string();
        ToolCall { id: id.to_owned(), name: name.to_owned(), arguments, written }
    }

    /// The call as Qwen's models write it, for whoever reads positions in it.
    pub(super) fn described(&self) -> String {
        json!({"name": self.name, "arguments": self.arguments}).to_string()
    }

    /// OpenAI's form, except that the arguments are an object, as templates want them.
    pub(super) fn for_template(&self) -> Value {
        json!({"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}})
    }

    /// Reads `{"name", "arguments"}`, or the same in OpenAI's `{"function": …}`. The arguments may be missing, if there is nothing else,
    /// or have one of the [names](ARGUMENTS) of other formats. `None` for JSON that is no call.
    pub(super) fn parse(json: &str) -> serde_json::Result<Option<Named>> {
        let json = &*mended(json);
        let mut fields: Fields<'_> = serde_json::from_str(json)?;
        if let (false, Some(inner)) = (fields.contains_key("name"), fields.get("function")) {
            let Ok(inner) = serde_json::from_str(inner.get()) else { return Ok(None) };
            fields = inner;
        }
        let name = fields.get("name").and_then(|name| serde_json::from_str::<String>(name.get()).ok());
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
        let given = ARGUMENTS.iter().find_map(|name| fields.get(*name));
        let others = fields.keys().any(|key| !matches!(&**key, "name" | "type"));
        match given {
            // What stands beside the name is not thrown away: the block is left to whoever reads the text.
            None if others => Ok(None),
            None => Ok(Some((name, Map::new(), "{}".to_owned()))),
            Some(given) => Ok(arguments(given.get()).map(|(arguments, written)| (name, arguments, written))),
        }
    }
}

/// The fields of a JSON object, not read yet.
type Fields<'a> = std::collections::BTreeMap<std::borrow::Cow<'a, str>, &'a RawValue>;

/// What the arguments of a call are called.
const ARGUMENTS: [&str; 4] = ["arguments", "parameters", "args", "input"];

/// Name, arguments, and the arguments as they were written.
pub(super) type Named = (String, Map<String, Value>, String);

/// Arguments as an object, and as they were written. OpenAI's form is a string that holds the JSON of an object.
pub(super) fn arguments(json: &str) -> Option<(Map<String, Value>, String)> {
    let empty = || Some((Map::new(), "{}".to_owned()));
    match serde_json::from_str(json).ok()? {
        Value::Object(map) => Some((map, json.trim().to_owned())),
        Value::Null => empty(),
        Value::String(text) if text.trim().is_empty() => empty(),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => Some((map, text.trim().to_owned())),
            _ => None,
        },
        _ => None,
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_choices_are_checked() {
        let look =
            json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": true}});
        let tools = Tool::list(&json!([look])).unwrap();
        assert_eq!((tools[0].name(), tools[0].strict(), tools[0].parameters().is_some()), ("look", true, true));
        assert!(Tool::list(&Value::Null).unwrap().is_empty());
        for bad in [
            json!("look"),
            json!([{"name": "look"}]),
            json!([{"type": "function", "function": {"name": ""}}]),
            json!([{"type": "function", "function": {"name": "a", "parameters": "none"}}]),
            json!([look, look]),
        ] {
            assert!(matches!(Tool::list(&bad), Err(Error::Invalid { .. })), "{bad}");
        }
        let choice = |json: Value| ToolChoice::from_json(&json);
        let named = choice(json!({"type": "function", "function": {"name": "look"}})).unwrap();
        assert_eq!(named, ToolChoice::Named("look".into()));
        assert_eq!(named.offered(&tools).unwrap().len(), 1);
        assert_eq!(choice(json!("none")).unwrap().offered(&tools).unwrap().len(), 0);
        assert!(choice(json!("required")).unwrap().offered(&[]).is_err());
        assert!(ToolChoice::Named("see".into()).offered(&tools).is_err());
        for bad in [json!("any"), json!({"function": {"name": "look"}}), json!(1)] {
            assert!(choice(bad).is_err());
        }
    }
}
