//! The tokenizer of a checkpoint: byte-level BPE as `tokenizer.json` describes it.
//!
//! Merging and Unicode normalisation are done by the crate `tokenizers`. The file is read here and not by that crate, for two
//! reasons: the crate's reader panics on some malformed files, and it must not know the added tokens, so that no user's text can ever
//! become one.

mod added;

use super::prompt::{RenderedPrompt, Span};
use crate::error::{Error, Result};
use added::Added;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::{byte_level::ByteLevel, split::Split};
use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Text ↔ ids.
#[derive(Debug)]
pub struct Tokenizer {
    nfc: bool,
    splits: Vec<Split>,
    byte_level: ByteLevel,
    model: BPE,
    added: HashMap<String, Added>,
    /// The bytes of all tokens, end to end, and where those of each id lie (nowhere: an id without a token).
    bytes: Vec<u8>,
    places: Vec<(u32, u32)>,
    classes: Vec<Class>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// A token of the vocabulary, or an id without a token.
    Ordinary,
    /// An added token that is shown when special tokens are left out.
    Added,
    /// An added token that the file calls special.
    Special,
}

/// All ids are below this, about three times the largest vocabulary in use. Keeps a hostile file from asking for gigabytes.
const MAX_IDS: u32 = 1 << 20;

/// Longest patterns of the pre-tokenizer, in bytes, all of them together. The longest in use have 500.
const MAX_PATTERNS: usize = 2048;
/// Most patterns.
const MAX_SPLITS: usize = 16;
/// Most repetitions in the patterns: the product of all their counts such as `{1,3}`. Each repetition of a class such as `\w` takes
/// about 60 KB.
const MAX_REPEATS: u64 = 64;

/// The fields of `tokenizer.json` that are used. Truncation, padding and the post-processor are not: the last one adds only special
/// tokens, which the chat template writes here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    decoder: Option<Value>,
    model: BpeFile,
}

#[derive(Deserialize)]
struct BpeFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: Vocab,
    merges: Vec<Merge>,
}

/// `"a b"` in older files, `["a", "b"]` in newer ones.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

const NAME: &str = "tokenizer.json";

fn malformed(expected: impl Into<String>, found: impl ToString) -> Error {
    Error::malformed(NAME, expected, found.to_string())
}

fn unsupported(expected: &str, found: impl ToString) -> Error {
    Error::UnsupportedModel {
        found: format!("{NAME} with {}", found.to_string()),
        expected: format!("a tokenizer with {expected}"),
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// [`Error::Malformed`]: JSON of another shape, a merge of unknown tokens, ids that are too high or used twice.
    /// [`Error::UnsupportedModel`]: anything but byte-level BPE with NFC or no normalisation, or added tokens that
    /// match by other rules than their exact text (`lstrip`, `rstrip`, `single_word`, or `normalized` with text that
    /// normalisation could change), or split patterns that could take more than some tens of megabytes.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        Self::from_files(bytes, None, None)
    }

    /// The same with the tokens that only `tokenizer_config.json` has, or `added_tokens.json` if the former lists none: as
    /// transformers, which adds them when it loads the tokenizer. The official Qwen2-VL-2B has `<|image_pad|>` there alone.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), and [`Error::Malformed`] for the other two files.
    pub fn from_files(bytes: &[u8], config: Option<&[u8]>, added_tokens: Option<&[u8]>) -> Result<Self> {
        let mut file: File = serde_json::from_slice(bytes).map_err(|e| malformed("the keys of a BPE tokenizer", e))?;
        let more = added::later(config, added_tokens)?;
        added::join(&mut file.added_tokens, more, &file.model.vocab);
        let nfc = normalizer(file.normalizer.as_ref())?;
        let (splits, byte_level) = pre_tokenizer(file.pre_tokenizer)?;
        if kind(file.decoder.as_ref()) != "ByteLevel" {
            return Err(unsupported("a ByteLevel decoder", format!("decoder {}", kind(file.decoder.as_ref()))));
        }
        for token in &file.added_tokens {
            check_added(token, &file.model.vocab)?;
        }
        let mut tokens: Vec<(u32, &str)> = file.model.vocab.iter().map(|(text, &id)| (id, text.as_str())).collect();
        let added = file.added_tokens.iter().filter(|token| !file.model.vocab.contains_key(&token.content));
        tokens.extend(added.map(|token| (token.id, token.content.as_str())));
        tokens.sort_unstable();
        if let Some(pair) = tokens.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(malformed(
                "one token for each id",
                format!("{:?} and {:?} for {}", pair[0].1, pair[1].1, pair[0].0),
            ));
        }
        let count = match tokens.last() {
            Some(&(id, _)) if id < MAX_IDS => id as usize + 1,
            Some(&(id, _)) => return Err(malformed(format!("ids below {MAX_IDS}"), id)),
            None => return Err(malformed("at least one token", "none")),
        };

        let control: HashMap<String, Added> =
            file.added_tokens.iter().map(|token| (token.content.clone(), token.clone())).collect();
        if control.len() < file.added_tokens.len() {
            return Err(malformed("added tokens with different texts", "two with the same text"));
        }
        let mut classes = vec![Class::Ordinary; count];
        for token in control.values() {
            classes[token.id as usize] = if token.special { Class::Special } else { Class::Added };
        }
        let alphabet = alphabet();
        let (mut bytes, mut places) = (Vec::new(), vec![(0, 0); count]);
        for (id, text) in tokens {
            let start = bytes.len() as u32; // fits, since the bytes are no longer than the file
            match text.chars().map(|c| alphabet.get(&c).copied()).collect::<Option<Vec<u8>>>() {
                Some(decoded) if !control.contains_key(text) => bytes.extend(decoded),
                _ => bytes.extend(text.as_bytes()), // as transformers' ByteLevel decoder does with foreign characters
            }
            places[id as usize] = (start, bytes.len() as u32);
        }
        Ok(Self { nfc, splits, byte_level, model: model(file.model)?, added: control, bytes, places, classes })
    }

    /// The ids of a text in which nothing becomes a control token, whatever it says. That includes `<tool_call>` and other added tokens
    /// that the file does not call special.
    ///
    /// [`Error::Malformed`] if the merges of the file themselves produce a control token.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        let failed = |e: tokenizers::Error| malformed("merges that apply to any text", e);
        let mut pieces = PreTokenizedString::from(text);
        if self.nfc {
            pieces
                .normalize(|piece| {
                    piece.nfc();
                    Ok(())
                })
                .map_err(failed)?;
        }
        for split in &self.splits {
            split.pre_tokenize(&mut pieces).map_err(failed)?;
        }
        self.byte_level.pre_tokenize(&mut pieces).map_err(failed)?;
        pieces.tokenize(|piece| self.model.tokenize(piece.get())).map_err(failed)?;
        let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
        let tokens = splits.iter().filter_map(|(_, _, tokens)| tokens.as_ref()).flatten();
        let ids: Vec<u32> = tokens.map(|token| token.id).collect();
        match ids.iter().find(|&&id| self.classes[id as usize] != Class::Ordinary) {
            Some(id) => Err(malformed("merges that produce no control token", format!("token {id} from plain text"))),
            None => Ok(ids),
        }
    }

    /// The ids of a prompt: one for each control span, and the ids of [`encode_plain`](Self::encode_plain) for each text.
    /// Equals transformers' `apply_chat_template(tokenize=True)` where no text contains a control token.
    ///
    /// [`Error::Invalid`] for a control span that is no added token of this tokenizer, and the errors of `encode_plain`.
    pub fn encode(&self, prompt: &RenderedPrompt) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for span in &prompt.spans {
            match span {
                Span::Text(text) => ids.extend(self.encode_plain(text)?),
                Span::Control(text) => match self.added.get(text) {
                    Some(token) => ids.push(token.id),
                    None => return Err(Error::invalid("control span", "an added token of the tokenizer", text)),
                },
            }
        }
        Ok(ids)
    }

    /// The text of `ids`: transformers' `decode`. Bytes that are no UTF-8 become U+FFFD. `skip_special` leaves out the
    /// tokens of [`is_special`](Self::is_special), and no other added ones.
    ///
    /// [`Error::Invalid`] for an id without a token, which transformers skips.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let mut bytes = Vec::new();
        for &id in ids {
            let token = self.bytes_of(id).ok_or_else(|| {
                Error::invalid("token id", format!("the id of a token, below {}", self.len()), id.to_string())
            })?;
            if !(skip_special && self.is_special(id)) {
                bytes.extend_from_slice(token);
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes that `id` stands for: one token may be a part of a character. Added tokens: their text.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.bytes_of(id).map(<[u8]>::to_vec)
    }

    pub(super) fn bytes_of(&self, id: u32) -> Option<&[u8]> {
        let &(start, end) = self.places.get(id as usize)?;
        (start < end).then(|| &self.bytes[start as usize..end as usize])
    }

    /// The id of a token by its text in the file: an added token's own text, or a vocabulary entry in its byte-level
    /// spelling (`Ġ` for a space).
    pub fn id(&self, token: &str) -> Option<u32> {
        self.added.get(token).map(|token| token.id).or_else(|| self.model.token_to_id(token))
    }

    /// Whether `id` is an added token that the file calls special: left out by `skip_special`.
    pub fn is_special(&self, id: u32) -> bool {
        self.classes.get(id as usize) == Some(&Class::Special)
    }

    /// Whether `id` is an added token, special or not.
    pub fn is_added(&self, id: u32) -> bool {
        self.classes.get(id as usize).is_some_and(|class| *class != Class::Ordinary)
    }

    /// The text of every added token, special or not. No text that somebody wrote may become one of these.
    pub fn control_tokens(&self) -> Vec<String> {
        let mut tokens: Vec<&Added> = self.added.values().collect();
        tokens.sort_unstable_by_key(|token| token.id);
        tokens.into_iter().map(|token| token.content.clone()).collect()
    }

    /// The highest id + 1. A model may have more logits than that; the rest are padding and must be masked.
    #[expect(clippy::len_without_is_empty, reason = "an empty tokenizer cannot be made")]
    pub fn len(&self) -> usize {
        self.places.len()
    }
}

/// The `type` of a step of the file, such as its normalizer.
fn kind(part: Option<&Value>) -> &str {
    part.and_then(|part| part.get("type")).and_then(Value::as_str).unwrap_or("none")
}

/// The steps of a `Sequence`, which lists them under the key `list`, or the one step itself.
fn parts(part: Option<Value>, list: &str) -> Vec<Value> {
    match part {
        None | Some(Value::Null) => Vec::new(),
        Some(mut part) if kind(Some(&part)) == "Sequence" => match part.get_mut(list).map(Value::take) {
            Some(Value::Array(parts)) => parts,
            _ => Vec::new(),
        },
        Some(part) => vec![part],
    }
}

/// Whether text is normalised to NFC; if not, it is not normalised at all.
fn normalizer(part: Option<&Value>) -> Result<bool> {
    let steps = parts(part.cloned(), "normalizers");
    match steps.iter().find(|step| kind(Some(step)) != "NFC") {
        Some(other) => Err(unsupported("NFC or no normalizer", format!("normalizer {}", kind(Some(other))))),
        None => Ok(!steps.is_empty()),
    }
}

/// The pre-tokenizer: any number of `Split` steps and, as the last one, `ByteLevel`.
fn pre_tokenizer(part: Option<Value>) -> Result<(Vec<Split>, ByteLevel)> {
    let mut steps = parts(part, "pretokenizers");
    let byte_level = steps.pop().filter(|step| kind(Some(step)) == "ByteLevel");
    let Some(byte_level) = byte_level else {
        return Err(unsupported("Split and ByteLevel pre-tokenizers", "other pre-tokenizers"));
    };
    let byte_level: ByteLevel =
        serde_json::from_value(byte_level).map_err(|e| malformed("a ByteLevel pre-tokenizer", e))?;
    if byte_level.add_prefix_space {
        return Err(unsupported("no prefix space", "add_prefix_space"));
    }
    check_patterns(&steps)?;
    let split = |step: Value| serde_json::from_value(step).map_err(|e| malformed("a Split pre-tokenizer", e));
    Ok((steps.into_iter().map(split).collect::<Result<_>>()?, byte_level))
}

/// Refuses patterns that could take more than some tens of megabytes to compile. The regex crate limits each pattern, but not their
/// number.
fn check_patterns(steps: &[Value]) -> Result<()> {
    let (mut length, mut repeats) = (0, 1u64);
    for pattern in steps.iter().filter_map(|step| step["pattern"].as_object()).flat_map(|pattern| pattern.values()) {
        let pattern = pattern.as_str().unwrap_or_default();
        length += pattern.len();
        for count in pattern.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let most = count.split(',').filter_map(|digits| digits.trim().parse::<u64>().ok()).max();
            repeats = repeats.saturating_mul(most.unwrap_or(1).max(1));
        }
    }
    if length > MAX_PATTERNS || repeats > MAX_REPEATS || steps.len() > MAX_SPLITS {
        let expected =
            format!("at most {MAX_SPLITS} split patterns of {MAX_PATTERNS} bytes and {MAX_REPEATS} repetitions in all");
        let found = format!("{} of {length} bytes and {repeats} repetitions", steps.len());
        return Err(unsupported(&expected, found));
    }
    Ok(())
}

/// Refuses added tokens that would match text by other rules than equality.
fn check_added(token: &Added, vocab: &Vocab) -> Result<()> {
    let text = &token.content;
    if text.chars().count() < 2 {
        return Err(unsupported("added tokens of at least two characters", format!("the added token {text:?}")));
    }
    for (flag, set) in [("lstrip", token.lstrip), ("rstrip", token.rstrip), ("single_word", token.single_word)] {
        if set {
            return Err(unsupported("added tokens that match exactly", format!("{flag} on {text:?}")));
        }
    }
    if token.normalized && !text.is_ascii() {
        return Err(unsupported("added tokens that match exactly", format!("normalized on {text:?}")));
    }
    match vocab.get(text) {
        Some(&id) if id != token.id => Err(malformed(format!("id {id} for {text:?}, as in the vocabulary"), token.id)),
        _ => Ok(()),
    }
}

/// The merges, checked.
fn model(file: BpeFile) -> Result<BPE> {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or("").is_empty();
    let plain = empty(&file.continuing_subword_prefix) && empty(&file.end_of_word_suffix) && file.unk_token.is_none();
    if file.kind.as_deref().unwrap_or("BPE") != "BPE"
        || !plain
        || file.byte_fallback
        || file.dropout.unwrap_or(0.0) != 0.0
    {
        return Err(unsupported(
            "byte-level BPE",
            "another model, or with dropout, unknown token, byte fallback, prefix or suffix",
        ));
    }
    let mut merges = Vec::with_capacity(file.merges.len());
    for merge in file.merges {
        let (a, b) = match merge {
            Merge::Pair(a, b) => (a, b),
            Merge::Line(line) => match line.split_once(' ') {
                Some((a, b)) if !b.contains(' ') => (a.to_owned(), b.to_owned()),
                _ => return Err(malformed("merges of two tokens", format!("{line:?}"))),
            },
        };
        // The crate looks these up as well, but it panics if the result is longer than every token.
        if let Some(unknown) = [&a, &b, &format!("{a}{b}")].into_iter().find(|t| !file.vocab.contains_key(t.as_str())) {
            return Err(malformed("merges of tokens in the vocabulary", format!("{unknown:?}")));
        }
        merges.push((a, b));
    }
    let builder = BPE::builder().vocab_and_merges(file.vocab, merges).ignore_merges(file.ignore_merges);
    builder.build().map_err(|e| malformed("a BPE model", e))
}

/// The byte that each character of the byte-level spelling stands for (`bytes_to_unicode` of GPT-2's `encoder.py`):
/// printable Latin-1 stands for itself, the other bytes have the characters from U+0100 on.
fn alphabet() -> HashMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..=255u8).filter(|byte| !printable(byte)).zip('\u{100}'..).map(|(byte, c)| (c, byte));
    (0..=255u8).filter(printable).map(|byte| (char::from(byte), byte)).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `AutoTokenizer` adds what the other files name; ids are those of the vocabulary, or the next ones.
    #[test]
    fn tokens_that_only_other_files_have() {
        let whole = file();
        let mut cut = whole.clone();
        let all = cut["added_tokens"].as_array_mut().unwrap();
        let last = all.pop().unwrap();
        let text = last["content"].as_str().unwrap().to_owned();
        let id = last["id"].as_u64().unwrap();
        let cut = serde_json::to_vec(&cut).unwrap();
        let complete = Tokenizer::from_json(&serde_json::to_vec(&whole).unwrap()).unwrap();
        assert!(Tokenizer::from_json(&cut).unwrap().id(&text).is_none());
        let entry = json!({"content": text, "special": last["special"], "normalized": false});
        let config =
            json!({"added_tokens_decoder": {(id.to_string()): entry}, "pad_token": null, "model_max_length": 1e30});
        let legacy = json!({(text.clone()): id}).to_string();
        let special = json!({"eos_token": {"content": text}, "bos_token": false}).to_string();
        for (config, added) in [(config.to_string(), None), ("{}".into(), Some(legacy)), (special, None)] {
            let tokenizer = Tokenizer::from_files(&cut, Some(config.as_bytes()), added.as_ref().map(String::as_bytes));
            let tokenizer = tokenizer.unwrap();
            assert_eq!(tokenizer.id(&text), complete.id(&text), "{config}");
            assert_eq!(tokenizer.control_tokens(), complete.control_tokens());
            assert_eq!(tokenizer.len(), complete.len());
        }
        for bad in ["[]", "{", r#"{"added_tokens_decoder": {"x": {"content": "<|x|>"}}}"#] {
            let error = Tokenizer::from_files(&cut, Some(bad.as_bytes()), None).unwrap_err();
            assert_eq!(error.code(), "bad_model", "{bad}");
        }
    }

    /// Written by hand for the fuzz target's budget: ten patterns `\w{80}` took 51 MB and 2.7 s there, thirty broke it.
    #[test]
    fn patterns_that_cost_too_much() {
        let with = |patterns: &[&str]| {
            let split =
                |p: &&str| json!({"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": false});
            let mut json = file();
            let byte_level = json["pre_tokenizer"]["pretokenizers"].as_array().unwrap().last().unwrap().clone();
            let steps: Vec<Value> = patterns.iter().map(split).chain([byte_level]).collect();
            json["pre_tokenizer"]["pretokenizers"] = json!(steps);
            Tokenizer::from_json(json.to_string().as_bytes()).map(drop)
        };
        with(&[r"\p{N}{1,3}", r"\p{L}+|[^a-z]{2}"]).unwrap();
        let long = "a".repeat(MAX_PATTERNS + 1);
        for bad in [&[r"\w{65}"][..], &[r"\w{9}", r"(?:a{1,8}){2}"], &[long.as_str()], &["a"; MAX_SPLITS + 1]] {
            assert_eq!(with(bad).unwrap_err().code(), "unsupported", "{bad:.1?}");
        }
    }

    /// A tokenizer of the 256 bytes, three merges and two added tokens, in the shape of Qwen2.5's file.
    fn file() -> Value {
        let mut letters: Vec<(u8, char)> = alphabet().into_iter().map(|(c, byte)| (byte, c)).collect();
        letters.sort_unstable();
        let mut vocab: serde_json::Map<String, Value> =
            letters.iter().map(|(byte, c)| (c.to_string(), json!(byte))).collect();
        for (i, text) in ["im", "he", "\u{120}he"].into_iter().enumerate() {
            vocab.insert(text.into(), json!(256 + i));
        }
        let added = |id: u32, content: &str, special: bool| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special})
        };
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [added(259, "<|im_end|>", true), added(260, "<tool_call>", false)],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "\\s?\\p{L}+|."}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]},
            "post_processor": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": [["i", "m"], ["h", "e"], ["\u{120}", "he"]]}
        })
    }

    fn read(file: &Value) -> Result<Tokenizer> {
        Tokenizer::from_json(&serde_json::to_vec(file).unwrap())
    }

    #[test]
    fn both_spellings_of_merges() {
        let mut older = file();
        older["model"]["merges"] = json!(["i m", "h e", "\u{120} he"]);
        for file in [file(), older] {
            let tokenizer = read(&file).unwrap();
            assert_eq!(tokenizer.encode_plain("im he").unwrap(), [256, 258]);
            assert_eq!(tokenizer.token_bytes(258).unwrap(), b" he");
            assert_eq!((tokenizer.len(), tokenizer.id("\u{120}he")), (261, Some(258)));
            assert_eq!(tokenizer.encode_plain("e\u{301}").unwrap(), [0xC3, 0xA9], "NFC");
            assert!(tokenizer.encode_plain("").unwrap().is_empty());
        }
    }

    #[test]
    fn added_tokens_come_from_control_spans_only() {
        let tokenizer = read(&file()).unwrap();
        assert_eq!(tokenizer.control_tokens(), ["<|im_end|>", "<tool_call>"]);
        for token in tokenizer.control_tokens() {
            let (id, spans) = (tokenizer.id(&token).unwrap(), |span| RenderedPrompt { spans: vec![span] });
            assert_eq!(tokenizer.encode(&spans(Span::Control(token.clone()))).unwrap(), [id]);
            let ids = tokenizer.encode(&spans(Span::Text(token.clone()))).unwrap();
            assert!(ids.len() > 5 && !ids.contains(&id));
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), token);
        }
        let unknown = RenderedPrompt { spans: vec![Span::Control("<|x|>".into())] };
        assert_eq!(tokenizer.encode(&unknown).unwrap_err().code(), "bad_request");
        assert_eq!(tokenizer.decode(&[256, 259, 260], true).unwrap(), "im<tool_call>");
        assert_eq!(tokenizer.decode(&[256, 259, 260], false).unwrap(), "im<|im_end|><tool_call>");
        assert!(tokenizer.is_special(259) && !tokenizer.is_special(260) && !tokenizer.is_special(u32::MAX));
    }

    /// A vocabulary whose own merges spell an added token: an error rather than a control token from plain text.
    #[test]
    fn merges_that_make_a_control_token() {
        let mut file = file();
        file["added_tokens"][0]["content"] = json!("he");
        file["added_tokens"][0]["id"] = json!(257);
        let tokenizer = read(&file).unwrap();
        assert_eq!(tokenizer.encode_plain("im").unwrap(), [256]);
        assert_eq!(tokenizer.encode_plain("he").unwrap_err().code(), "bad_model");
    }

    #[test]
    fn other_tokenizers_are_refused() {
        let changes: [(&str, Value); 21] = [
            ("/normalizer", json!({"type": "Lowercase"})),
            ("/normalizer", json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]})),
            ("/pre_tokenizer", json!(null)),
            ("/pre_tokenizer", json!({"type": "Whitespace"})),
            ("/pre_tokenizer/pretokenizers/0", json!({"type": "Digits", "individual_digits": true})),
            ("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("(")),
            ("/pre_tokenizer/pretokenizers/1/add_prefix_space", json!(true)),
            ("/decoder", json!({"type": "WordPiece"})),
            ("/decoder", json!(null)),
            ("/model/type", json!("WordPiece")),
            ("/model/unk_token", json!("<unk>")),
            ("/model/byte_fallback", json!(true)),
            ("/model/dropout", json!(0.5)),
            ("/model/continuing_subword_prefix", json!("##")),
            ("/added_tokens/0/lstrip", json!(true)),
            ("/added_tokens/0/rstrip", json!(true)),
            ("/added_tokens/0/single_word", json!(true)),
            ("/added_tokens/0/content", json!("")),
            ("/added_tokens/0/content", json!("x")),
            ("/model/merges/0", json!("im")),
            ("/model/merges/0", json!(["h", "i"])),
        ];
        for (place, value) in changes {
            let mut file = file();
            *file.pointer_mut(place).unwrap() = value.clone();
            let code = read(&file).unwrap_err().code();
            assert!(["unsupported", "bad_model"].contains(&code), "{place} = {value}: {code}");
        }
    }

    #[test]
    fn hostile_files_never_panic() {
        let changes: [(&str, Value); 14] = [
            ("/added_tokens/0/id", json!(u32::MAX)),
            ("/added_tokens/0/id", json!(1u64 << 40)),
            ("/added_tokens/0/id", json!(-1)),
            ("/added_tokens/0/id", json!(5)),
            ("/added_tokens/0/content", json!("<tool_call>")),
            ("/added_tokens/0/content", json!("he")),
            ("/model/vocab/he", json!(u32::MAX)),
            ("/model/vocab/he", json!(0)),
            ("/model/vocab", json!({})),
            ("/model/vocab", json!([])),
            ("/model/merges", json!([["h"]])),
            // Longer than every token: the crate's own reader panics on this one.
            ("/model/merges/2", json!(["\u{120}he", "\u{120}he"])),
            ("/model/merges/2", json!(["", "he"])),
            ("/model/merges/2", json!(3)),
        ];
        for (place, value) in changes {
            let mut file = file();
            *file.pointer_mut(place).unwrap() = value.clone();
            assert_eq!(read(&file).unwrap_err().code(), "bad_model", "{place} = {value}");
        }
        let good = serde_json::to_vec(&file()).unwrap();
        for bytes in [&b""[..], b"{}", b"[]", b"\xff", b"{\"model\": {}}", &good[..good.len() / 2]] {
            assert_eq!(Tokenizer::from_json(bytes).unwrap_err().code(), "bad_model");
        }
        let mut seed = 9u64;
        for _ in 0..300 {
            let mut bad = good.clone();
            for _ in 0..3 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (seed >> 33) as usize % bad.len();
                bad[at] = (seed >> 24) as u8;
            }
            if let Ok(tokenizer) = Tokenizer::from_json(&bad) {
                let _ = tokenizer.encode_plain("he said: im \u{1f600}\n<|im_end|>");
                let _ = tokenizer.decode(&[0, 1, 259, 300], false);
            }
        }
    }
}
