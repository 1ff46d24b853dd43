//! Hashes for JavaScript.

use wasm_bindgen::prelude::*;

/// A running sha256, for JavaScript: browsers can only hash a file as a whole, not piece by piece.
#[wasm_bindgen]
#[derive(Default)]
pub struct Sha256(sha2::Sha256);

#[wasm_bindgen]
impl Sha256 {
    /// Nothing hashed yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    /// The hash in hexadecimal digits. After that it starts anew.
    pub fn finish(&mut self) -> String {
        let digest = sha2::Digest::finalize_reset(&mut self.0);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
