//! `config.json` of every family up to the plan of device buffers, and the small files beside it.
#![no_main]

use fanlight::dtype::CacheFormat;
use fanlight::generate::config::GenerationConfig;
use fanlight::image::PreprocessorConfig;
use fanlight::model::config;
use fanlight::model::registry::{describe, parse_config};
use fanlight::weights::Limits;
use fanlight::weights::index::SINGLE;
use fanlight::weights::quantize::Formats;
use fanlight_fuzz::{Beginnings, finish, within};
use libfuzzer_sys::fuzz_target;

const WEIGHTS: &[u8] = include_bytes!("../../tests/golden/models/base/model.safetensors");

fuzz_target!(|input: &[u8]| {
    within(64 * input.len() + (64 << 10), || {
        drop(parse_config(input));
        drop(config::quantization(input));
        drop(GenerationConfig::parse(input).map(|config| config.sampling(0)));
        drop(PreprocessorConfig::from_json(input).map(|config| config.factor()));
    });
    // The names of all tensors of as many layers as there may be.
    within(64 * input.len() + (8 << 20), || {
        let source = Beginnings::default().whole("config.json", input).whole(SINGLE, WEIGHTS);
        let limits = Limits { max_binding: 128 << 20, max_buffer: 256 << 20 };
        for formats in ["keep", "q8", "text=q4"] {
            let formats: Formats = formats.parse().unwrap_or_default();
            if let Ok(found) = finish(describe(&source, limits, &formats)) {
                drop((
                    found.cache_bytes(1 << 20, CacheFormat::Q8),
                    found.max_patches(128 << 20),
                    found.plan.device_bytes(),
                ));
            }
        }
    });
});
