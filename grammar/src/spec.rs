//! The specification of a constraint.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};

use crate::regexp::translate;
use crate::schema::mend;
use crate::{Error, brief};

/// The most bytes of a schema as JSON.
const MAX_SCHEMA: usize = 1 << 20;
/// The most bytes of a grammar.
const MAX_LARK: usize = 64 << 10;
/// The deepest nesting of brackets in a grammar, and of values in a schema.
const MAX_DEPTH: usize = 100;
/// White space between the tokens of JSON: one space, or a line break and an indentation. If any amount were allowed, some models
/// would write white space until they are cut off.
const JSON_SPACE: &str = r" |\n[ \t]{0,40}";

/// The specification of what an answer may be.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// JSON that matches a schema.
    JsonSchema(Value),
    /// A text that a JavaScript regular expression matches as a whole.
    Regex {
        /// The pattern, without slashes.
        source: String,
        /// The flags, letters of `dgimsuvy`.
        flags: String,
    },
    /// A grammar in llguidance's Lark syntax.
    Lark {
        /// The rules, of which `start` is the first to apply.
        grammar: String,
        /// The specifications that `@name` in the rules refers to.
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
    /// The JSON has none of these forms.
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
            return Err(wrong("parts that are nested too deeply".into()));
        }
        let parts = parts.into_iter().flatten().map(|(name, part)| Ok((name.clone(), Self::read(part, depth + 1)?)));
        Ok(Spec::Lark { grammar: grammar.into(), parts: parts.collect::<Result<_, Error>>()? })
    }

    /// An error about this specification as a whole.
    pub(crate) fn refused(&self, message: &str) -> Error {
        if message.contains("oneOf constraints are not supported") {
            let expected = "oneOf with alternatives that exclude each other, or anyOf";
            return Error::new("JSON schema", expected, "oneOf with alternatives that may overlap");
        }
        match self {
            Spec::JsonSchema(_) => Error::new("JSON schema", "one that can be followed token by token", message),
            Spec::Regex { .. } => Error::new("regular expression", "one that can be followed token by token", message),
            Spec::Lark { .. } => Error::new("grammar", "rules in llguidance's Lark syntax", message),
        }
    }

    pub(crate) fn compile(&self) -> Result<TopLevelGrammar, Error> {
        let mut grammars = Vec::new();
        self.collect("start", &mut grammars)?;
        Ok(TopLevelGrammar { grammars, max_tokens: None })
    }

    /// Adds the grammar of this specification, and then those of its parts.
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
        return Err(wrong(format!("values nested at most {MAX_DEPTH} deep"), "deeper nesting".into()));
    }
    let mut schema = match schema {
        Value::Object(_) => schema.clone(),
        Value::Bool(true) => json!({}),
        other => return Err(wrong("an object".into(), brief(&other.to_string()))),
    };
    mend(&mut schema)?;
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

/// Limits the size and the nesting of a grammar, since llguidance parses it by recursion.
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
                // Skip to its end or to the end of the line. The parser refuses a string that is not closed.
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
            return Err(wrong(format!("brackets nested at most {MAX_DEPTH} deep"), "deeper nesting".into()));
        }
    }
    Ok(())
}
