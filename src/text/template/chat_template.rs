//! The chat template of a checkpoint: which of the checkpoint's files holds it, and whether it compiles.

use serde::Deserialize;
use serde_json::Value as Json;

use super::environment::{NAME, environment};
use super::guard::Guard;
use super::limits::{MAX_SOURCE, failed};
use super::source::prepared;
use crate::error::{Error, Result};

/// A chat template in transformers' dialect of Jinja (`utils/chat_template_utils.py`): trimmed blocks, loop controls,
/// methods of Python's str, dict and list, `tojson` as `json.dumps`, `raise_exception`, `strftime_now`.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    pub(super) default: String,
    /// The template named `tool_use`, if there is one: transformers takes it when tools are given.
    pub(super) tool_use: Option<String>,
    /// `bos_token` and the like, which transformers passes to every template.
    pub(super) variables: Vec<(String, String)>,
    /// The clock of `strftime_now`, in seconds since 1970.
    pub(super) now: Option<u64>,
}

impl ChatTemplate {
    /// Compiles a template. [`Error::Template`] if it uses syntax that is not supported here, or is longer than 256 KiB.
    pub fn new(source: &str) -> Result<Self> {
        let template = Self { default: source.into(), tool_use: None, variables: Vec::new(), now: None };
        template.compiled()
    }

    /// Finds the template of a checkpoint in the contents of three of its files.
    ///
    /// The order is that of transformers' `ProcessorMixin`: `chat_template.json` (older checkpoints), then
    /// `chat_template.jinja` (newer ones), then `chat_template` in `tokenizer_config.json`. Each may hold one template
    /// or several with names; `default` is taken, or `tool_use` when tools are given. From `tokenizer_config.json`
    /// templates also get `bos_token`, `eos_token`, `pad_token` and `unk_token`.
    ///
    /// [`Error::Missing`] if none of the files has a template, [`Error::Malformed`] for files of another shape, and the errors of
    /// [`new`](Self::new) for the template itself.
    pub fn find(
        tokenizer_config_json: Option<&[u8]>,
        chat_template_json: Option<&[u8]>,
        chat_template_jinja: Option<&[u8]>,
    ) -> Result<Self> {
        /// The fields that are read; others are skipped without being held.
        #[derive(Default, Deserialize)]
        struct Config {
            chat_template: Option<Json>,
            bos_token: Option<Json>,
            eos_token: Option<Json>,
            pad_token: Option<Json>,
            unk_token: Option<Json>,
        }
        const CONFIG: &str = "tokenizer_config.json";
        let object = |name: &str, bytes: Option<&[u8]>| match bytes.map(serde_json::from_slice::<Json>) {
            None => Ok(Json::Null),
            Some(Ok(json)) if json.is_object() => Ok(json),
            Some(Ok(_)) => Err(Error::malformed(name, "a JSON object", "other JSON")),
            Some(Err(e)) => Err(Error::malformed(name, "JSON", e.to_string())),
        };
        let config = match tokenizer_config_json.map(serde_json::from_slice::<Config>) {
            None => Config::default(),
            Some(config) => config.map_err(|e| Error::malformed(CONFIG, "a JSON object", e.to_string()))?,
        };
        let legacy = object("chat_template.json", chat_template_json)?;
        let mut found = if legacy["chat_template"] != Json::Null {
            Self::named(&legacy["chat_template"], "chat_template.json")?
        } else if let Some(bytes) = chat_template_jinja {
            let source = std::str::from_utf8(bytes)
                .map_err(|e| Error::malformed("chat_template.jinja", "UTF-8", e.to_string()))?;
            Self { default: source.into(), tool_use: None, variables: Vec::new(), now: None }
        } else if let Some(template) = &config.chat_template {
            Self::named(template, CONFIG)?
        } else {
            let place = format!("chat_template.json, chat_template.jinja and {CONFIG}");
            return Err(Error::missing("the chat template", place));
        };
        let Config { bos_token, eos_token, pad_token, unk_token, .. } = config;
        let tokens = [("bos", bos_token), ("eos", eos_token), ("pad", pad_token), ("unk", unk_token)];
        for (name, token) in tokens {
            let key = format!("{name}_token");
            let token = token.as_ref().and_then(|token| token.as_str().or_else(|| token["content"].as_str()));
            found.variables.extend(token.map(|token| (key, token.to_owned())));
        }
        found.compiled()
    }

    /// Whether the template treats an assistant's reasoning apart from the text of its message.
    pub fn reasons(&self) -> bool {
        self.default.contains("reasoning_content")
    }

    /// Whether the template writes tools, calls and results in a form of its own.
    pub fn calls(&self) -> bool {
        self.tool_use.is_some() || ["tools", "tool_calls"].iter().any(|name| self.default.contains(name))
    }

    /// The source of the template, and of the one named `tool_use` if there is one.
    pub fn sources(&self) -> (&str, Option<&str>) {
        (&self.default, self.tool_use.as_deref())
    }

    /// Reads the field `chat_template`: one template, a list of `{name, template}`, or an object of templates by name.
    fn named(json: &Json, file: &str) -> Result<Self> {
        let pairs: Vec<(Option<&str>, Option<&str>)> = match json {
            Json::String(source) => vec![(Some("default"), Some(source))],
            Json::Array(list) => {
                list.iter().map(|entry| (entry["name"].as_str(), entry["template"].as_str())).collect()
            }
            Json::Object(map) => map.iter().map(|(name, source)| (Some(name.as_str()), source.as_str())).collect(),
            _ => Vec::new(),
        };
        let named = |name| pairs.iter().find(|pair| pair.0 == Some(name)).and_then(|pair| pair.1).map(str::to_owned);
        let Some(default) = named("default") else {
            let names: Vec<&str> = pairs.iter().filter_map(|pair| pair.0).collect();
            return Err(Error::malformed(
                format!("chat_template in {file}"),
                "a template named default",
                format!("{names:?}"),
            ));
        };
        Ok(Self { default, tool_use: named("tool_use"), variables: Vec::new(), now: None })
    }

    /// Sets the clock of `strftime_now`: seconds since 1970 in the user's time zone. Without it, a template that asks for the date
    /// fails, since nothing here may read a clock.
    pub fn set_now(&mut self, seconds: u64) {
        self.now = Some(seconds);
    }

    /// Refuses templates that do not compile.
    fn compiled(self) -> Result<Self> {
        for source in [Some(&self.default), self.tool_use.as_ref()].into_iter().flatten() {
            if source.len() > MAX_SOURCE {
                return Err(failed(format!(
                    "expected a template of at most {MAX_SOURCE} bytes, found {}",
                    source.len()
                )));
            }
            let environment = environment(self.now, &Guard::default(), 0)?;
            environment.template_from_named_str(NAME, &prepared(source)?).map_err(|e| failed(e.to_string()))?;
        }
        Ok(self)
    }
}
