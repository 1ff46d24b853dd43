//! `model.safetensors.index.json`, and the checkpoint of the shards that it names.
#![no_main]

use fanlight::weights::Checkpoint;
use fanlight::weights::index::{INDEX, shards};
use fanlight::weights::source::check_name;
use fanlight_fuzz::{Beginnings, finish, within};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    within(32 * input.len() + (64 << 10), || {
        if let Ok(files) = shards(input) {
            assert!(files.iter().all(|file| check_name(file).is_ok()));
        }
    });
    let mut source = Beginnings::default().whole(INDEX, input);
    source = source.whole(
        "model-00001-of-00003.safetensors",
        include_bytes!("../../tests/golden/models/flat/model-00001-of-00003.safetensors"),
    );
    source = source.whole(
        "model-00002-of-00003.safetensors",
        include_bytes!("../../tests/golden/models/flat/model-00002-of-00003.safetensors"),
    );
    source = source.whole(
        "model-00003-of-00003.safetensors",
        include_bytes!("../../tests/golden/models/flat/model-00003-of-00003.safetensors"),
    );
    within(64 * input.len() + (1 << 20), || drop(finish(Checkpoint::open(&source))));
});
