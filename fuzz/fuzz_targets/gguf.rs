//! The header of a GGUF file, and such a file as a model: with a vision tower, or as one.
#![no_main]

use fanlight::model::gguf::GgufModel;
use fanlight::model::registry::describe;
use fanlight::weights::Limits;
use fanlight::weights::gguf::parse;
use fanlight::weights::quantize::Formats;
use fanlight_fuzz::{Beginnings, finish, within};
use libfuzzer_sys::fuzz_target;

/// Decoders and towers that belong together.
const PAIRS: [(&[u8], &[u8]); 2] = [
    (include_bytes!("../../tests/golden/gguf/base.gguf"), include_bytes!("../../tests/golden/gguf/base-mmproj.gguf")),
    (
        include_bytes!("../../tests/golden/gguf/qwen3_vl.gguf"),
        include_bytes!("../../tests/golden/gguf/qwen3_vl-mmproj.gguf"),
    ),
];
const LIMITS: Limits = Limits { max_binding: 128 << 20, max_buffer: 256 << 20 };

fuzz_target!(|input: &[u8]| {
    let named = || Beginnings::default().input("input.gguf", input);
    let Some((alone, size)) = named() else { return };
    within(24 * input.len() + (64 << 10), || {
        if let Ok(Some(gguf)) = parse("input.gguf", &input[4..], size) {
            assert!(gguf.tensors.iter().all(|t| t.range.start <= t.range.end && t.range.end <= size));
        }
    });
    // A vocabulary is held as strings, as JSON and as text; the other file takes about a megabyte.
    let budget = 64 * input.len() + 4 * size as usize + (8 << 20);
    let open = |source: &Beginnings, file: &str, mmproj: Option<&str>| {
        within(budget, || {
            if let Ok(model) = finish(GgufModel::open(source, file, mmproj)) {
                drop(finish(describe(&model, LIMITS, &Formats::default())));
            }
        });
    };
    open(&alone, "input.gguf", None);
    for (model, tower) in PAIRS {
        let Some((source, _)) = named() else { return };
        let source = source.whole("model.gguf", model).whole("mmproj.gguf", tower);
        if input[3] & 1 == 0 {
            open(&source, "input.gguf", Some("mmproj.gguf"));
        } else {
            open(&source, "model.gguf", Some("input.gguf"));
        }
    }
});
