//! The header of a safetensors file, read and turned into a table of tensors.
#![no_main]

use fanlight::weights::Checkpoint;
use fanlight::weights::index::SINGLE;
use fanlight::weights::safetensors::read_header;
use fanlight_fuzz::{Beginnings, finish, within};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((source, size)) = Beginnings::default().input(SINGLE, input) else { return };
    // The header is held as bytes, as entries and as tensors.
    within(24 * input.len() + size as usize + (64 << 10), || {
        let Ok(tensors) = finish(read_header(&source, SINGLE)) else { return };
        let mut at = None;
        for tensor in &tensors {
            assert!(tensor.range.start <= tensor.range.end && tensor.range.end <= size);
            assert!(at.is_none_or(|at| at == tensor.range.start), "a hole before {}", tensor.name);
            at = Some(tensor.range.end);
        }
        assert!(at.is_none_or(|at| at == size));
    });
    within(48 * input.len() + size as usize + (64 << 10), || drop(finish(Checkpoint::open(&source))));
});
