//! Reads `generation_config.json`, a checkpoint's own defaults for sampling and stopping.

use serde_json::Value;

use super::sampler::SamplingParams;
use crate::error::{Error, Result};

/// The name of the file.
pub const FILE: &str = "generation_config.json";

/// The contents of the file. Absent and `null` fields have the defaults of transformers 5.23
/// (`GenerationConfig._get_default_generation_params`). Note that its `top_k` is 50.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationConfig {
    /// Whether to draw at random instead of taking the likeliest token.
    pub do_sample: bool,
    /// The number that the logits are divided by.
    pub temperature: f64,
    /// How many of the likeliest tokens are kept; 0 keeps all.
    pub top_k: usize,
    /// How much probability the kept tokens have together.
    pub top_p: f64,
    /// The least probability of a kept token, as a share of the likeliest token's.
    pub min_p: Option<f64>,
    /// The penalty for ids that already occurred.
    pub repetition_penalty: f64,
    /// Ids that end a reply. Empty if the file names none.
    pub eos_token_ids: Vec<u32>,
    /// The id that pads the sequences of a batch.
    pub pad_token_id: Option<u32>,
    /// The most tokens of a reply, if the file says.
    pub max_new_tokens: Option<usize>,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        GenerationConfig {
            do_sample: false,
            temperature: 1.0,
            top_k: 50,
            top_p: 1.0,
            min_p: None,
            repetition_penalty: 1.0,
            eos_token_ids: Vec::new(),
            pad_token_id: None,
            max_new_tokens: None,
        }
    }
}

impl GenerationConfig {
    /// Parses the bytes of the file.
    ///
    /// # Errors
    /// [`Error::Malformed`], which names the invalid field.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let json: Value =
            serde_json::from_slice(bytes).map_err(|e| Error::malformed(FILE, "a JSON object", e.to_string()))?;
        if !json.is_object() {
            return Err(Error::malformed(FILE, "a JSON object", kind(&json)));
        }
        let default = GenerationConfig::default();
        let number = |name: &str, least: f64| {
            read(&json, name, "a number in range", |v| v.as_f64().filter(|n| n.is_finite() && *n >= least))
        };
        // Tools write 50.0 for 50, -1 for "none" and 1 for true; nothing of this should keep a model from loading.
        let count = |name: &str| read(&json, name, "a whole number", whole);
        Ok(GenerationConfig {
            do_sample: read(&json, "do_sample", "true or false", flag)?.unwrap_or(default.do_sample),
            temperature: number("temperature", 0.0)?.unwrap_or(default.temperature),
            top_k: count("top_k")?.unwrap_or(default.top_k),
            top_p: number("top_p", 0.0)?.filter(|&p| p < 1.0).unwrap_or(default.top_p),
            min_p: number("min_p", 0.0)?.map(|p| p.min(1.0)),
            repetition_penalty: number("repetition_penalty", f64::MIN_POSITIVE)?.unwrap_or(default.repetition_penalty),
            eos_token_ids: read(&json, "eos_token_id", "an id or a list of ids", ids)?.unwrap_or_default(),
            // Nothing here uses it, so one that cannot be read counts as none.
            pad_token_id: id(&json["pad_token_id"]),
            max_new_tokens: count("max_new_tokens")?.filter(|most| *most > 0),
        })
    }

    /// These defaults as sampling parameters, with the given seed.
    pub fn sampling(&self, seed: u64) -> SamplingParams {
        SamplingParams {
            do_sample: self.do_sample,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed,
            ..SamplingParams::default()
        }
    }
}

/// A field of `json`, unless it is absent or `null`.
fn read<T>(json: &Value, name: &str, expected: &str, convert: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
    match json.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(Error::malformed(format!("{FILE}: {name}"), expected, kind(value))),
        },
    }
}

/// A whole number, also one that is written as a float. Minus one stands for none, which is 0.
fn whole(value: &Value) -> Option<usize> {
    let number = value.as_f64().filter(|n| n.fract() == 0.0 && (-1.0..9e15).contains(n))?;
    usize::try_from(number.max(0.0) as u64).ok()
}

/// A boolean, also one that is written as a number.
fn flag(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| match value.as_f64() {
        Some(0.0) => Some(false),
        Some(1.0) => Some(true),
        _ => None,
    })
}

fn id(value: &Value) -> Option<u32> {
    whole(value).filter(|_| value.as_f64() != Some(-1.0)).and_then(|n| u32::try_from(n).ok())
}

fn ids(value: &Value) -> Option<Vec<u32>> {
    match value {
        Value::Array(list) => list.iter().map(id).collect(),
        one => id(one).map(|n| vec![n]),
    }
}

/// Describes a value for an error: the number itself, or only the kind of any other value.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_on_the_hub() {
        let text = br#"{"bos_token_id": 151643, "pad_token_id": 151643, "do_sample": true,
            "eos_token_id": [151645, 151643], "repetition_penalty": 1.05, "temperature": 0.000001,
            "transformers_version": "4.49.0"}"#;
        let config = GenerationConfig::parse(text).unwrap();
        let expected = GenerationConfig {
            do_sample: true,
            temperature: 1e-6,
            repetition_penalty: 1.05,
            eos_token_ids: vec![151645, 151643],
            pad_token_id: Some(151643),
            ..GenerationConfig::default()
        };
        assert_eq!(config, expected);
        assert_eq!(config.sampling(7).seed, 7);
    }

    #[test]
    fn forms_and_faults() {
        let parse = |text: &str| GenerationConfig::parse(text.as_bytes());
        assert_eq!(parse("{}").unwrap(), GenerationConfig::default());
        assert_eq!(parse(r#"{"eos_token_id": 2, "top_k": null, "top_p": 1}"#).unwrap().eos_token_ids, [2]);
        assert_eq!(parse(r#"{"top_k": 0}"#).unwrap().top_k, 0);
        // Numbers as other tools write them, with which transformers loads and answers.
        let odd =
            r#"{"top_k": 50.0, "do_sample": 1, "pad_token_id": -1, "max_new_tokens": 512.0, "eos_token_id": 7.0}"#;
        let odd = parse(odd).unwrap();
        assert_eq!((odd.top_k, odd.do_sample, odd.pad_token_id), (50, true, None));
        assert_eq!((odd.max_new_tokens, &odd.eos_token_ids[..]), (Some(512), &[7][..]));
        let none = parse(r#"{"top_k": -1, "max_new_tokens": -1}"#).unwrap();
        assert_eq!((none.top_k, none.max_new_tokens), (0, None));
        for bad in [
            "",
            "[]",
            "nul",
            r#"{"top_k": -2}"#,
            r#"{"top_k": 1.5}"#,
            r#"{"temperature": "hot"}"#,
            r#"{"temperature": -1}"#,
            r#"{"repetition_penalty": 0}"#,
            r#"{"eos_token_id": [1, null]}"#,
            r#"{"eos_token_id": 4294967296}"#,
            r#"{"do_sample": 2}"#,
            r#"{"eos_token_id": -1}"#,
            r#"{"top_p": 1e999}"#,
        ] {
            assert!(matches!(parse(bad), Err(Error::Malformed { .. })), "{bad}");
        }
    }
}
