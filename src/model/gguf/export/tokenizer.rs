//! The tokenizer's metadata: tokens, merges, special ids and the template.

use serde_json::{Value as Json, json};

use super::metadata::{count, entry};
use crate::error::{Error, Result};
use crate::model::gguf::tokenizer::{CONTROL, QWEN2_SPLIT, UNUSED, USER_DEFINED};
use crate::model::section;
use crate::model::sizes::TextConfig;
use crate::weights::gguf_write::Entry;
use crate::weights::source::{MAX_SMALL_FILE, MAX_TOKENIZER_CONFIG, Source};

fn object(file: &str, bytes: &[u8]) -> Result<Json> {
    serde_json::from_slice(bytes).map_err(|e| Error::malformed(file, "JSON", e.to_string()))
}

/// One id or a list of them.
pub(super) fn ids_of(json: &Json) -> Vec<u64> {
    match json {
        Json::Array(list) => list.iter().filter_map(Json::as_u64).collect(),
        one => one.as_u64().into_iter().collect(),
    }
}

const TOKENIZER: &str = "tokenizer.json";

/// Adds the tokens that only `tokenizer_config.json` has, as loading the tokenizer does (`text::tokenizer::added`).
fn add_later(tokenizer: &mut Json, config: &Json) {
    let Some(more) = config["added_tokens_decoder"].as_object() else { return };
    let Some(known) = tokenizer["added_tokens"].as_array_mut() else { return };
    for (key, token) in more {
        let Ok(id) = key.parse::<u64>() else { continue };
        if known.iter().all(|known| known["id"] != id && known["content"] != token["content"]) {
            let mut token = token.clone();
            token["id"] = id.into();
            known.push(token);
        }
    }
}

/// Tokens, merges, special ids and the template.
pub(super) async fn tokenizer_entries(
    source: &dyn Source,
    config: &[u8],
    text: &TextConfig,
    template: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Entry)>> {
    let mut json = object(TOKENIZER, &source.read_all(TOKENIZER, MAX_SMALL_FILE).await?)?;
    check_tokenizer(&json)?;
    let own = match source.read_optional("tokenizer_config.json", MAX_TOKENIZER_CONFIG).await? {
        Some(bytes) => object("tokenizer_config.json", &bytes)?,
        None => Json::Null,
    };
    add_later(&mut json, &own);
    let (tokens, kinds) = vocabulary(&json, text.vocab_size)?;
    let id_of = |token: &str| tokens.iter().position(|t| t == token).map(|id| id as u64);
    let merges: Vec<String> = merges(&json)?;

    let generation = match source.read_optional("generation_config.json", MAX_SMALL_FILE).await? {
        Some(bytes) => object("generation_config.json", &bytes)?,
        None => Json::Null,
    };
    let config = object(section::FILE, config)?;
    let mut ids = Vec::new();
    for (from, to) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")] {
        let token = &own[format!("{from}_token")];
        let id = token.as_str().or_else(|| token["content"].as_str()).and_then(id_of);
        let places = [&config["text_config"], &config];
        let id =
            id.or_else(|| places.iter().find_map(|place| ids_of(&place[format!("{from}_token_id")]).first().copied()));
        if let Some(id) = id.filter(|id| *id < tokens.len() as u64) {
            ids.push((format!("tokenizer.ggml.{to}_token_id"), id));
        }
    }
    // Ids that end a reply and that no reader finds by itself.
    let known: Vec<u64> = ["<|im_end|>", "<|endoftext|>"].into_iter().filter_map(id_of).collect();
    let eos = ids.iter().find(|(key, _)| key.contains(".eos_")).map(|(_, id)| *id);
    let mut stops = ids_of(&generation["eos_token_id"]);
    stops.retain(|id| Some(*id) != eos && !known.contains(id) && *id < tokens.len() as u64);
    let places = ["eot", "eom"].map(|name| format!("tokenizer.ggml.{name}_token_id"));
    ids.extend(places.into_iter().zip(stops));

    if generation["do_sample"].as_bool() == Some(true) {
        notes
            .push("generation_config.json's sampling is not kept: the new file is greedy unless told otherwise".into());
    }
    let mut entries = vec![
        entry("tokenizer.ggml.model", Entry::Text("gpt2".to_owned())),
        entry("tokenizer.ggml.pre", Entry::Text("qwen2".to_owned())),
        entry("tokenizer.ggml.tokens", Entry::Texts(tokens)),
        entry("tokenizer.ggml.token_type", Entry::Ints(kinds)),
        entry("tokenizer.ggml.merges", Entry::Texts(merges)),
    ];
    for (key, id) in ids {
        entries.push(entry(&key, count(&key, id)?));
    }
    let add_bos = own["add_bos_token"].as_bool().unwrap_or(false);
    entries.push(entry("tokenizer.ggml.add_bos_token", Entry::Flag(add_bos)));
    match template {
        Some(template) => entries.push(entry("tokenizer.chat_template", Entry::Text(template.to_owned()))),
        None => notes.push("the checkpoint has no chat template".to_owned()),
    }
    Ok(entries)
}

/// Refuses a tokenizer that splits otherwise than the `qwen2` that the file will name.
fn check_tokenizer(json: &Json) -> Result<()> {
    let (pre, model) = (&json["pre_tokenizer"], &json["model"]);
    let off = |value: &Json| value.as_bool() != Some(true);
    let steps = pre["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice);
    let fits = match steps {
        [split, bytes] => {
            split["type"] == "Split"
                && split["pattern"]["Regex"] == QWEN2_SPLIT
                && split["behavior"] == "Isolated"
                && off(&split["invert"])
                && bytes["type"] == "ByteLevel"
                && off(&bytes["add_prefix_space"])
                && bytes["use_regex"] == json!(false)
        }
        _ => false,
    };
    let plain = off(&model["ignore_merges"]) && off(&model["byte_fallback"]);
    if fits && plain && pre["type"] == "Sequence" && json["normalizer"]["type"] == "NFC" && model["type"] == "BPE" {
        return Ok(());
    }
    Err(Error::UnsupportedModel {
        found: format!("{TOKENIZER} with other steps"),
        expected: "Qwen2's: NFC, its split, bytes, BPE".to_owned(),
    })
}

/// Texts and kinds of `rows` tokens; rows without a token get a name that says so.
fn vocabulary(json: &Json, rows: usize) -> Result<(Vec<String>, Vec<i32>)> {
    let vocab = json["model"]["vocab"].as_object();
    let vocab = vocab.ok_or_else(|| Error::malformed(TOKENIZER, "a vocabulary", "none"))?;
    let mut listed: Vec<(&Json, &str, i64)> = vocab.iter().map(|(text, id)| (id, text.as_str(), 1)).collect();
    for token in json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice) {
        let kind = if token["special"].as_bool() == Some(true) { CONTROL } else { USER_DEFINED };
        listed.push((&token["id"], token["content"].as_str().unwrap_or_default(), kind));
    }
    let mut found: Vec<Option<(&str, i64)>> = vec![None; rows];
    for (id, text, kind) in listed {
        let place = id.as_u64().and_then(|id| usize::try_from(id).ok()).and_then(|id| found.get_mut(id));
        match place {
            Some(place) if place.is_none_or(|(old, _)| old == text) => *place = Some((text, kind)),
            Some(_) => return Err(Error::malformed(TOKENIZER, "one token for each id", format!("two for {id}"))),
            None => {
                let expected = format!("ids below vocab_size {rows}");
                return Err(Error::malformed(TOKENIZER, expected, id.to_string()));
            }
        }
    }
    let named = found.into_iter().enumerate().map(|(id, token)| match token {
        Some((text, kind)) => (text.to_owned(), kind as i32),
        None => (format!("[PAD{id}]"), UNUSED as i32),
    });
    Ok(named.unzip())
}

/// Pairs as texts; newer files have them as lists of two.
fn merges(json: &Json) -> Result<Vec<String>> {
    let merge = |merge: &Json| match merge {
        Json::String(text) => Some(text.clone()),
        Json::Array(pair) => match &pair[..] {
            [a, b] => Some(format!("{} {}", a.as_str()?, b.as_str()?)),
            _ => None,
        },
        _ => None,
    };
    let list = json["model"]["merges"].as_array().map(|list| list.iter().map(merge).collect::<Option<Vec<_>>>());
    list.flatten().ok_or_else(|| Error::malformed(TOKENIZER, "merges of two tokens", "others"))
}
