//! What a constraint is made from.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};

use crate::regexp::translate;
use crate::{Error, brief};

/// Longest schema as JSON, in bytes.
const MAX_SCHEMA: usize = 1 << 20;
/// Longest grammar, in bytes.
const MAX_LARK: usize = 64 << 10;
/// Deepest nesting of brackets in a grammar, and of values in a schema.
const MAX_DEPTH: usize = 100;
/// White space between the tokens of JSON: one space, or a line's end and an indentation. Any amount would let a model that has
/// nothing to say write it until it is cut off.
const JSON_SPACE: &str = r" |\n[ \t]{0,40}";

/// What an answer may be.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// JSON that a schema describes.
    JsonSchema(Value),
    /// A text that a regular expression of JavaScript matches as a whole.
    Regex {
        /// What stands between the slashes.
        source: String,
        /// Letters of `dgimsuvy`.
        flags: String,
    },
    /// A grammar in llguidance's Lark.
    Lark {
        /// Its rules; `start` is the first.
        grammar: String,
        /// What `@name` in the rules means.
        parts: Vec<(String, Spec)>,
    },
}

impl Spec {
    /// A regular expression.
    pub fn regex(source: &str, flags: &str) -> Self {
        Spec::Regex { source: source.into(), flags: flags.into() }
    }

    /// A grammar without parts.
    pub fn lark(grammar: &str) -> Self {
        Spec::Lark { grammar: grammar.into(), parts: Vec::new() }
    }

    /// Reads `{"jsonSchema": …}`, `{"regex": "…", "flags": "…"}` or `{"lark": "…", "parts": {"name": …}}`.
    ///
    /// # Errors
    /// What is none of these.
    pub fn from_json(value: &Value) -> Result<Self, Error> {
        Self::read(value, 0)
    }

    fn read(value: &Value, depth: usize) -> Result<Self, Error> {
        let wrong =
            |found: String| Error::new("responseConstraint", "a JSON schema, a regular expression or {lark}", found);
        if let Some(schema) = value.get("jsonSchema") {
            return Ok(Spec::JsonSchema(schema.clone()));
        }
        if let Some(source) = value.get("regex").and_then(Value::as_str) {
            return Ok(Spec::regex(source, value.get("flags").and_then(Value::as_str).unwrap_or_default()));
        }
        let Some(grammar) = value.get("lark").and_then(Value::as_str) else {
            return Err(wrong(brief(&value.to_string())));
        };
        let parts = value.get("parts").and_then(Value::as_object);
        if depth > 1 && parts.is_some() {
            return Err(wrong("parts of parts of parts".into()));
        }
        let parts = parts.into_iter().flatten().map(|(name, part)| Ok((name.clone(), Self::read(part, depth + 1)?)));
        Ok(Spec::Lark { grammar: grammar.into(), parts: parts.collect::<Result<_, Error>>()? })
    }

    /// An error about this spec as a whole.
    pub(crate) fn refused(&self, message: &str) -> Error {
        if message.contains("oneOf constraints are not supported") {
            let expected = "oneOf alternatives of which no value can match two, or anyOf";
            return Error::new("JSON schema", expected, "oneOf alternatives that may overlap");
        }
        match self {
            Spec::JsonSchema(_) => Error::new("JSON schema", "one that can be followed token by token", message),
            Spec::Regex { .. } => Error::new("regular expression", "one that can be followed token by token", message),
            Spec::Lark { .. } => Error::new("grammar", "rules in llguidance's Lark", message),
        }
    }

    pub(crate) fn compile(&self) -> Result<TopLevelGrammar, Error> {
        let mut grammars = Vec::new();
        self.collect("start", &mut grammars)?;
        Ok(TopLevelGrammar { grammars, max_tokens: None })
    }

    /// Adds its own grammar, and then those of its parts.
    fn collect(&self, name: &str, all: &mut Vec<GrammarWithLexer>) -> Result<(), Error> {
        let mut grammar = match self {
            Spec::JsonSchema(schema) => GrammarWithLexer::from_json_schema(schema_with_space(schema)?),
            Spec::Regex { source, flags } => GrammarWithLexer::from_lark(match translate(source, flags)? {
                Some(pattern) => format!("start: /{pattern}/"),
                None => "start: \"\"".to_owned(),
            }),
            Spec::Lark { grammar, .. } => {
                check_lark(grammar)?;
                GrammarWithLexer::from_lark(grammar.clone())
            }
        };
        grammar.name = Some(name.to_owned());
        all.push(grammar);
        if let Spec::Lark { parts, .. } = self {
            for (name, part) in parts {
                part.collect(name, all)?;
            }
        }
        Ok(())
    }
}

fn schema_with_space(schema: &Value) -> Result<Value, Error> {
    let wrong = |expected: String, found: String| Error::new("JSON schema", expected, found);
    let length = schema.to_string().len();
    if length > MAX_SCHEMA {
        return Err(wrong(format!("at most {MAX_SCHEMA} bytes"), length.to_string()));
    }
    if deeper(schema, MAX_DEPTH) {
        return Err(wrong(format!("values at most {MAX_DEPTH} deep"), "deeper ones".into()));
    }
    let mut schema = match schema {
        Value::Object(_) => schema.clone(),
        Value::Bool(true) => json!({}),
        other => return Err(wrong("an object".into(), brief(&other.to_string()))),
    };
    if schema.get("x-guidance").is_none() {
        schema["x-guidance"] = json!({"whitespace_pattern": JSON_SPACE});
    }
    Ok(schema)
}

fn deeper(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(all) => left == 0 || all.iter().any(|value| deeper(value, left - 1)),
        Value::Object(all) => left == 0 || all.values().any(|value| deeper(value, left - 1)),
        _ => false,
    }
}

/// Bounds what its parser, which goes down by recursion, has to do.
fn check_lark(grammar: &str) -> Result<(), Error> {
    let wrong = |expected: String, found: String| Error::new("grammar", expected, found);
    if grammar.len() > MAX_LARK {
        return Err(wrong(format!("at most {MAX_LARK} bytes"), grammar.len().to_string()));
    }
    let (mut depth, mut tildes) = (0usize, 0);
    let mut rest = grammar.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '/' if rest.peek() == Some(&'/') => while rest.next().is_some_and(|c| c != '\n') {},
            '"' | '/' => {
                // To its end or that of the line, whichever is first: what is not closed is the parser's to refuse.
                while let Some(inner) = rest.next() {
                    match inner {
                        '\\' => drop(rest.next()),
                        inner if inner == c || inner == '\n' => break,
                        _ => {}
                    }
                }
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        tildes = if c == '~' { tildes + 1 } else { 0 };
        if depth.max(tildes) > MAX_DEPTH {
            return Err(wrong(format!("brackets at most {MAX_DEPTH} deep"), "deeper ones".into()));
        }
    }
    Ok(())
}
