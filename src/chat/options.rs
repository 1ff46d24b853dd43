//! How an answer is asked for, and the same read from JavaScript's names.

use serde_json::Value;

use super::tools::{Tool, ToolChoice};
use crate::error::{Error, Result};
use crate::generate::config::GenerationConfig;
use crate::generate::constraint::Constrained;
use crate::generate::sampler::SamplingParams;

/// Most alternatives to each token that [`AskOptions::logprobs`] may ask for: OpenAI's limit.
pub const MOST_LOGPROBS: usize = 20;
/// Most new tokens unless the caller or the checkpoint says otherwise.
pub const DEFAULT_MAX_TOKENS: usize = 1024;

/// How to answer.
#[derive(Debug, Clone, Default)]
pub struct AskOptions {
    /// How tokens are chosen; `None` for the checkpoint's own defaults.
    pub sampling: Option<SamplingParams>,
    /// Most new tokens.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Prefix pictures with "Picture N: ".
    pub add_vision_id: bool,
    /// The tools that the model may call. Without any, nothing in its answer is taken for a call.
    pub tools: Vec<Tool>,
    /// Whether the model may, must or must not call a tool.
    pub tool_choice: ToolChoice,
    /// Report the log-probability of every token of the answer, and of this many of the likeliest tokens at each place.
    pub logprobs: Option<usize>,
    /// End an answer that only repeats itself.
    pub loop_guard: bool,
    /// The prompt ends after the last message, without the opening of an answer, because more messages will follow.
    pub unanswered: bool,
    /// What the answer may be; reasoning before the answer is not constrained. It follows the answer token by token, so each answer needs
    /// a fresh one.
    pub constraint: Option<Constrained>,
    /// The user's clock, for templates that write the date: seconds since 1970 plus the offset of the time zone.
    pub now: Option<u64>,
}

/// Every known name. Any other is an error, because a misspelt option that is ignored in silence is hard to find.
const NAMES: &[&str] = &[
    "maxTokens",
    "temperature",
    "topK",
    "topP",
    "minP",
    "repetitionPenalty",
    "presencePenalty",
    "frequencyPenalty",
    "logitBias",
    "logprobs",
    "seed",
    "stop",
    "tools",
    "toolChoice",
    "loopGuard",
];

impl AskOptions {
    /// The checkpoint's sampling defaults, changed by the fields of an object. A field that is `null` counts as left out. What depends on
    /// the model, such as how many token ids there are, is checked when it answers.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the option, for an unknown name and for a value out of range.
    pub fn from_json(o: &Value, checkpoint: &GenerationConfig) -> Result<Self> {
        let known = |name: &&String| !NAMES.contains(&name.as_str());
        if let Some(name) = o.as_object().and_then(|fields| fields.keys().find(known)) {
            return Err(Error::invalid("options", format!("only the names {}", NAMES.join(", ")), format!("{name:?}")));
        }
        let number = |name: &str, least: f64, most: f64| match &o[name] {
            Value::Null => Ok(None),
            value => value.as_f64().filter(|n| (least..=most).contains(n)).map(Some).ok_or_else(|| {
                let expected = match (least, most.is_finite()) {
                    (0.0, false) => "a number that is not negative".to_owned(),
                    _ => format!("a number from {least} to {most}"),
                };
                Error::invalid(name, expected, value.to_string())
            }),
        };
        let natural = |name: &str, most: u64| match &o[name] {
            Value::Null => Ok(None),
            value => match value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0 && *n <= most as f64) {
                Some(n) => Ok(Some(n as u64)),
                None => Err(Error::invalid(name, format!("a whole number from 0 to {most}"), value.to_string())),
            },
        };
        // The largest whole number that JavaScript's numbers count up to without gaps.
        const MOST: u64 = (1 << 53) - 1;
        let mut sampling = checkpoint.sampling(natural("seed", MOST)?.unwrap_or(0));
        if let Some(temperature) = number("temperature", 0.0, f64::from(f32::MAX))? {
            sampling.temperature = temperature;
            sampling.do_sample = temperature != 0.0;
        }
        sampling.top_k = natural("topK", u64::from(u32::MAX))?.map_or(sampling.top_k, |n| n as usize);
        sampling.top_p = number("topP", 0.0, 1.0)?.unwrap_or(sampling.top_p);
        sampling.min_p = number("minP", 0.0, 1.0)?.or(sampling.min_p);
        let penalty = number("repetitionPenalty", 0.0, f64::from(f32::MAX))?;
        if penalty.is_some_and(|penalty| penalty as f32 <= 0.0) {
            return Err(Error::invalid("repetitionPenalty", "a number above 0", o["repetitionPenalty"].to_string()));
        }
        sampling.repetition_penalty = penalty.unwrap_or(sampling.repetition_penalty);
        sampling.presence_penalty = number("presencePenalty", -2.0, 2.0)?.unwrap_or(0.0);
        sampling.frequency_penalty = number("frequencyPenalty", -2.0, 2.0)?.unwrap_or(0.0);
        sampling.logit_bias = logit_bias(&o["logitBias"])?;
        let stop = match &o["stop"] {
            Value::Null => Ok(Vec::new()),
            Value::Array(list) => list.iter().map(|stop| stop.as_str().map(str::to_owned).ok_or(stop)).collect(),
            other => Err(other),
        };
        let stop = stop.map_err(|found: &Value| Error::invalid("stop", "a list of strings", found.to_string()))?;
        let loop_guard = match &o["loopGuard"] {
            Value::Null => false,
            Value::Bool(guard) => *guard,
            other => return Err(Error::invalid("loopGuard", "true or false", other.to_string())),
        };
        let tools = Tool::list(&o["tools"])?;
        let tool_choice = ToolChoice::from_json(&o["toolChoice"])?;
        tool_choice.offered(&tools)?;
        Ok(AskOptions {
            sampling: Some(sampling),
            max_tokens: natural("maxTokens", MOST)?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            stop,
            tools,
            tool_choice,
            logprobs: natural("logprobs", MOST_LOGPROBS as u64)?.map(|n| n as usize),
            loop_guard,
            ..AskOptions::default()
        })
    }
}

/// Reads `{"ID": BIAS}` into pairs in ascending order of ids.
fn logit_bias(json: &Value) -> Result<Vec<(u32, f32)>> {
    let map = match json {
        Value::Null => return Ok(Vec::new()),
        Value::Object(map) => map,
        other => {
            return Err(Error::invalid(
                "logitBias",
                "an object with a number for each token id, such as {\"11\": -100}",
                other.to_string(),
            ));
        }
    };
    let read = |(id, bias): (&String, &Value)| {
        let id = id.parse().map_err(|_| Error::invalid("logitBias", "token ids as keys", format!("{id:?}")))?;
        let value = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        let expected = "a number from -100 to 100";
        let value = value.ok_or_else(|| Error::invalid(format!("logitBias[{id}]"), expected, bias.to_string()))?;
        Ok((id, value as f32))
    };
    let mut bias = map.iter().map(read).collect::<Result<Vec<(u32, f32)>>>()?;
    bias.sort_by_key(|(id, _)| *id);
    Ok(bias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(o: Value) -> Result<AskOptions> {
        AskOptions::from_json(&o, &GenerationConfig { top_p: 0.8, do_sample: true, ..GenerationConfig::default() })
    }

    #[test]
    fn what_is_named_is_changed() {
        let look = json!({"type": "function", "function": {"name": "look"}});
        let options = read(json!({
            "maxTokens": 9, "temperature": 0, "topK": 3, "minP": null, "repetitionPenalty": 1.1, "presencePenalty": -2,
            "frequencyPenalty": 0.5, "logitBias": {"12": -100, "3": 1.5}, "logprobs": 20, "seed": 7, "stop": ["a", "b"],
            "tools": [look], "toolChoice": "required", "loopGuard": true,
        }))
        .unwrap();
        let sampling = options.sampling.unwrap();
        assert_eq!((sampling.do_sample, sampling.top_k, sampling.top_p, sampling.seed), (false, 3, 0.8, 7));
        assert_eq!(
            (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty),
            (1.1, -2.0, 0.5)
        );
        assert_eq!(sampling.logit_bias, [(3, 1.5), (12, -100.0)]);
        assert_eq!((options.max_tokens, options.logprobs, options.loop_guard), (Some(9), Some(20), true));
        assert_eq!((options.stop.len(), options.tools.len()), (2, 1));
        assert_eq!(options.tool_choice, ToolChoice::Required);
        let plain = read(Value::Null).unwrap();
        assert_eq!((plain.sampling.map(|s| s.do_sample), plain.logprobs, plain.loop_guard), (Some(true), None, false));
    }

    #[test]
    fn what_is_off_is_named() {
        for (options, what) in [
            (json!({"max_tokens": 1}), "options"),
            (json!({"maxtokens": 1}), "options"),
            (json!({"maxTokens": -1}), "maxTokens"),
            (json!({"maxTokens": 1.5}), "maxTokens"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"temperature": -0.1}), "temperature"),
            (json!({"temperature": 1e39}), "temperature"),
            (json!({"topK": -1}), "topK"),
            (json!({"topP": 1.1}), "topP"),
            (json!({"minP": -0.1}), "minP"),
            (json!({"repetitionPenalty": 0}), "repetitionPenalty"),
            (json!({"presencePenalty": 2.1}), "presencePenalty"),
            (json!({"frequencyPenalty": -2.1}), "frequencyPenalty"),
            (json!({"logitBias": [1]}), "logitBias"),
            (json!({"logitBias": {"a": 1}}), "logitBias"),
            (json!({"logitBias": {"1": 101}}), "logitBias[1]"),
            (json!({"logprobs": 21}), "logprobs"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"seed": 1e300}), "seed"),
            (json!({"stop": "END"}), "stop"),
            (json!({"stop": [1]}), "stop"),
            (json!({"loopGuard": 1}), "loopGuard"),
            (json!({"tools": {}}), "tools"),
            (json!({"toolChoice": "any"}), "toolChoice"),
            (json!({"toolChoice": "required"}), "toolChoice"),
        ] {
            match read(options.clone()) {
                Err(Error::Invalid { what: found, .. }) => assert_eq!(found, what, "{options}"),
                other => panic!("{options}: {other:?}"),
            }
        }
    }
}
