//! The files that one model is split into.

use crate::error::{Error, Result};
use crate::weights::gguf::Gguf;

/// Most files that one model may be split into.
const MAX_SPLITS: u64 = 1024;

/// The names of the second and further parts (`…-00001-of-00003.gguf`).
pub(super) fn parts(gguf: &Gguf, file: &str) -> Result<Vec<String>> {
    let count = if gguf.metadata.contains_key("split.count") { gguf.count("split.count")? } else { 1 };
    if count <= 1 {
        return Ok(Vec::new());
    }
    let first = format!("-00001-of-{count:05}.gguf");
    match file.strip_suffix(&first) {
        Some(base) if count <= MAX_SPLITS => {
            Ok((2..=count).map(|n| format!("{base}-{n:05}-of-{count:05}.gguf")).collect())
        }
        _ => Err(Error::malformed(file, format!("the first of at most {MAX_SPLITS} parts, …{first}"), "another name")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::weights::gguf::Value;

    #[test]
    fn parts_of_a_split_file() {
        let gguf = |count| Gguf {
            metadata: BTreeMap::from([("split.count".to_owned(), Value::Int(count))]),
            ..Gguf::default()
        };
        let names = parts(&gguf(3), "m-00001-of-00003.gguf").unwrap();
        assert_eq!(names, ["m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]);
        assert!(parts(&gguf(1), "m.gguf").unwrap().is_empty());
        assert!(parts(&gguf(3), "m-00002-of-00003.gguf").is_err());
        assert!(parts(&gguf(-1), "m.gguf").is_err());
        assert!(parts(&gguf(99_999), "m-00001-of-99999.gguf").is_err());
    }
}
