//! Chooses the files of a repository that a model needs.

use std::collections::BTreeSet;

use crate::error::{Error, Result, brief};
use crate::weights::index::{INDEX, SINGLE};

/// Files that every checkpoint has.
const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];
/// Files that a checkpoint may have.
const USEFUL: [&str; 7] = [
    "generation_config.json",
    "processor_config.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "chat_template.json",
    "chat_template.jinja",
];

/// Files that the caller asks for by name. Those that are not given are found automatically.
#[derive(Debug, Clone, Default)]
pub struct Want {
    /// The name of the GGUF file.
    pub file: Option<String>,
    /// The name of the GGUF file with its vision tower.
    pub mmproj: Option<String>,
}

/// The files of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// The files to download. For sharded weights this has only the index, which names the shards.
    pub files: Vec<String>,
    /// Whether the weights are sharded.
    pub sharded: bool,
    /// The GGUF file (of a split model, the first one) and the file of its vision tower.
    pub gguf: Option<(String, Option<String>)>,
}

/// Chooses among `names`. `place` says in words where they are, for errors.
///
/// The choice is the file that is asked for, or else the safetensors checkpoint, or else the only GGUF file that is not a
/// vision tower. With a GGUF file goes the only vision tower or, if there are several, the only one in f16 or else in bf16.
pub(super) fn choose(names: &BTreeSet<String>, want: &Want, place: &str) -> Result<Choice> {
    let has = |name: &str| names.contains(name);
    if want.file.is_none() && (has(SINGLE) || has(INDEX)) {
        if let Some(name) = NEEDED.into_iter().find(|name| !has(name)) {
            return Err(Error::missing(name, place));
        }
        let sharded = !has(SINGLE);
        let weights = if sharded { INDEX } else { SINGLE };
        let small = NEEDED.into_iter().chain(USEFUL.into_iter().filter(|name| has(name)));
        return Ok(Choice { files: small.chain([weights]).map(str::to_owned).collect(), sharded, gguf: None });
    }
    let all = || names.iter().filter(|name| name.ends_with(".gguf") && part(name).is_none_or(|(_, n, _)| n == 1));
    let list = |names: &[&String]| brief(&names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "));
    // An importance matrix is what a quantizer has measured, and no model.
    let models = all().filter(|name| !name.to_lowercase().contains("imatrix"));
    let (towers, models): (Vec<_>, Vec<_>) = models.partition(|name| name.to_lowercase().contains("mmproj"));
    let named = |what: &str, name: &String| match all().find(|found| *found == name) {
        Some(name) => Ok(name.clone()),
        None if all().next().is_none() => Err(Error::missing(name, place)),
        None => Err(Error::invalid(what, format!("one of {}", list(&all().collect::<Vec<_>>())), brief(name))),
    };
    let model = match (&want.file, &models[..]) {
        (Some(name), _) => named("file", name)?,
        (None, []) => return Err(Error::missing(format!("{SINGLE}, {INDEX} or a .gguf file"), place)),
        (None, [only]) => (*only).clone(),
        (None, several) => {
            let expected = "the name of one GGUF file, as there are several".to_owned();
            return Err(Error::invalid("file", expected, format!("none; there are {}", list(several))));
        }
    };
    // Look for "bf16" first, since it contains "f16".
    let kind = |name: &str| {
        let name = name.to_lowercase();
        if name.contains("bf16") { 1 } else { if name.contains("f16") { 0 } else { 2 } }
    };
    let best = |wanted: u32| towers.iter().filter(|name| kind(name) == wanted).collect::<Vec<_>>();
    let mmproj = match (&want.mmproj, &towers[..]) {
        (Some(name), _) => Some(named("vision tower", name)?),
        (None, []) => None,
        (None, [only]) => Some((*only).clone()),
        (None, several) => match (&best(0)[..], &best(1)[..]) {
            ([only], _) | ([], [only]) => Some((**only).clone()),
            _ => {
                let expected = "the name of one vision tower, as there are several";
                return Err(Error::invalid("vision tower", expected, format!("none; there are {}", list(several))));
            }
        },
    };
    let mut files = match part(&model) {
        None => vec![model.clone()],
        Some((base, _, count)) => (1..=count).map(|n| format!("{base}-{n:05}-of-{count:05}.gguf")).collect(),
    };
    if let Some(file) = files.iter().find(|file| !has(file)) {
        return Err(Error::missing(file, place));
    }
    files.extend(mmproj.clone());
    Ok(Choice { files, sharded: false, gguf: Some((model, mmproj)) })
}

/// Splits `BASE-00002-of-00005.gguf` into the base, 2 and 5.
fn part(name: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (base, number) = rest.rsplit_once('-')?;
    let parse = |digits: &str| digits.parse().ok().filter(|n| digits.len() == 5 && (1..=1024).contains(n));
    Some((base, parse(number)?, parse(count)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], file: Option<&str>, mmproj: Option<&str>) -> Result<Choice> {
        let names = names.iter().map(|name| name.to_string()).collect();
        choose(&names, &Want { file: file.map(str::to_owned), mmproj: mmproj.map(str::to_owned) }, "here")
    }

    #[test]
    fn safetensors() {
        let one =
            ["config.json", "tokenizer.json", "README.md", "chat_template.jinja", SINGLE, "a.gguf", "pytorch.bin"];
        let choice = chosen(&one, None, None).unwrap();
        assert_eq!(choice.files, ["config.json", "tokenizer.json", "chat_template.jinja", SINGLE]);
        assert_eq!((choice.sharded, choice.gguf), (false, None));
        let choice = chosen(&["config.json", "tokenizer.json", INDEX], None, None).unwrap();
        assert!(choice.sharded && choice.files.last().unwrap() == INDEX);
        assert_eq!(chosen(&["tokenizer.json", SINGLE], None, None).unwrap_err().code(), "not_found");
        assert_eq!(chosen(&["config.json"], None, None).unwrap_err().code(), "not_found");
        // Asked for, a GGUF file comes first.
        assert_eq!(chosen(&one, Some("a.gguf"), None).unwrap().files, ["a.gguf"]);
    }

    #[test]
    fn gguf() {
        let pair = |model: &str, tower: Option<&str>| Some((model.to_owned(), tower.map(str::to_owned)));
        assert_eq!(chosen(&["x.gguf", "config.json"], None, None).unwrap().gguf, pair("x.gguf", None));
        let names = ["q4.gguf", "q8.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"];
        let several = chosen(&names, None, None).unwrap_err();
        assert!(several.code() == "bad_request" && several.to_string().contains("q4.gguf, q8.gguf"), "{several}");
        assert_eq!(chosen(&names, Some("q4.gguf"), None).unwrap().gguf, pair("q4.gguf", Some("mmproj-F16.gguf")));
        let named = chosen(&names, Some("q4.gguf"), Some("mmproj-F32.gguf")).unwrap();
        assert_eq!(named.files, ["q4.gguf", "mmproj-F32.gguf"]);
        let bf16 = chosen(&["x.gguf", "mmproj-bf16.gguf", "mmproj-q8.gguf"], None, None).unwrap();
        assert_eq!(bf16.gguf, pair("x.gguf", Some("mmproj-bf16.gguf")));
        assert!(chosen(&["x.gguf", "a-mmproj.gguf", "b-mmproj.gguf"], None, None).is_err());
        assert!(chosen(&names, Some("other.gguf"), None).unwrap_err().to_string().contains("q8.gguf"));
        let parts = ["q/x-00001-of-00002.gguf", "q/x-00002-of-00002.gguf"];
        assert_eq!(chosen(&parts, None, None).unwrap().files, parts);
        assert_eq!(chosen(&parts, None, None).unwrap().gguf, pair(parts[0], None));
        assert_eq!(chosen(&parts[..1], None, None).unwrap_err().code(), "not_found");
        assert!(chosen(&parts[1..], None, None).is_err());
    }
}
