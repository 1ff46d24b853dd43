//! `tokenizer.json`, and some text through what it describes.
#![no_main]

use fanlight::text::Tokenizer;
use fanlight_fuzz::within;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // Ids up to 2^20 have a place each; a regular expression is compiled within limits of its crate.
    within(64 * input.len() + (96 << 20), || {
        let Ok(tokenizer) = Tokenizer::from_json(input) else { return };
        let text = "Hello, wörld! <|im_start|>\u{0301}\u{1F600} 12345\r\n\t  don't <tool_call>\u{0}";
        if let Ok(ids) = tokenizer.encode_plain(text) {
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()));
            drop(tokenizer.decode(&ids, true));
        }
        for id in [0, 1, tokenizer.len() as u32 - 1, tokenizer.len() as u32, u32::MAX] {
            drop((tokenizer.token_bytes(id), tokenizer.is_special(id), tokenizer.decode(&[id], false)));
        }
    });
});
