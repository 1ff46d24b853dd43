//! Added tokens that are not in `tokenizer.json`.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use tokenizers::models::bpe::Vocab;

use crate::error::{Error, Result};

/// An added token, as the files describe it.
#[derive(Deserialize, Debug, Clone)]
pub(super) struct Added {
    /// In `tokenizer_config.json` the key says it.
    #[serde(default)]
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub normalized: bool,
    #[serde(default)]
    pub special: bool,
}

/// The fields of `tokenizer_config.json` that name tokens.
#[derive(Deserialize, Default)]
struct Config {
    added_tokens_decoder: Option<BTreeMap<String, Added>>,
    bos_token: Option<Named>,
    eos_token: Option<Named>,
    unk_token: Option<Named>,
    pad_token: Option<Named>,
    additional_special_tokens: Option<Vec<Named>>,
}

/// A token by its text, or by an object that has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Text(String),
    Object {
        content: String,
    },
    /// Anything else, such as `false`.
    Other(serde::de::IgnoredAny),
}

/// Tokens that are added when a tokenizer is loaded, in the order of transformers (`PreTrainedTokenizerFast.__init__`): those with
/// an id, sorted by it, and then special tokens that are only named.
pub(super) fn later(config: Option<&[u8]>, added_tokens: Option<&[u8]>) -> Result<Vec<(Option<u32>, Added)>> {
    let config: Config = match config {
        None => Config::default(),
        Some(bytes) => serde_json::from_slice(bytes)
            .map_err(|e| Error::malformed("tokenizer_config.json", "tokens in their usual form", e.to_string()))?,
    };
    let named = [config.bos_token, config.eos_token, config.unk_token, config.pad_token].into_iter().flatten();
    let named = named.chain(config.additional_special_tokens.into_iter().flatten());
    let special: Vec<String> = named
        .filter_map(|token| match token {
            Named::Text(content) | Named::Object { content } => Some(content),
            Named::Other(_) => None,
        })
        .filter(|content| !content.is_empty())
        .collect();
    let plain = |content: &str, special: bool| Added {
        id: 0,
        content: content.to_owned(),
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: !special,
        special,
    };
    let mut tokens: Vec<(u32, Added)> = match (config.added_tokens_decoder, added_tokens) {
        (Some(decoder), _) => {
            let id = |key: &str| {
                let refused =
                    |_| Error::malformed("tokenizer_config.json: added_tokens_decoder", "ids", format!("{key:?}"));
                key.parse::<u32>().map_err(refused)
            };
            decoder.into_iter().map(|(key, token)| Ok((id(&key)?, token))).collect::<Result<_>>()?
        }
        // The form before 2023: texts and ids alone.
        (None, Some(bytes)) => {
            let map: BTreeMap<String, u32> = serde_json::from_slice(bytes)
                .map_err(|e| Error::malformed("added_tokens.json", "ids by token", e.to_string()))?;
            map.into_iter().map(|(content, id)| (id, plain(&content, special.contains(&content)))).collect()
        }
        (None, None) => Vec::new(),
    };
    tokens.sort_by_key(|(id, _)| *id);
    let mut all: Vec<(Option<u32>, Added)> = tokens.into_iter().map(|(id, token)| (Some(id), token)).collect();
    all.extend(special.iter().map(|content| (None, plain(content, true))));
    Ok(all)
}

/// Adds those tokens whose id or text is not known. As in the crate `tokenizers`, a token has the id of its text in the vocabulary, or
/// else the next one.
pub(super) fn join(known: &mut Vec<Added>, more: Vec<(Option<u32>, Added)>, vocab: &Vocab) {
    let mut ids: HashSet<u32> = known.iter().map(|token| token.id).collect();
    let mut texts: HashSet<String> = known.iter().map(|token| token.content.clone()).collect();
    let size = vocab.len() as u32; // fits: a vocabulary is a part of a file of 64 MiB
    let mut highest = ids.iter().copied().max();
    for (id, token) in more {
        if id.is_some_and(|id| ids.contains(&id)) || !texts.insert(token.content.clone()) {
            continue;
        }
        let next = highest.map_or(size, |highest| if highest >= size { highest.saturating_add(1) } else { size });
        let id = vocab.get(&token.content).copied().unwrap_or(next);
        ids.insert(id);
        highest = highest.max(Some(id));
        known.push(Added { id, ..token });
    }
}
