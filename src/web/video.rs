//! A video as JavaScript hands it over, frame by frame.

use wasm_bindgen::prelude::*;

use super::convert::{plain, to_js_error};
use crate::image::{Picture, decode};
use crate::video::{VideoBuilder, VideoPlan};

/// A video whose frames are handed over one by one, as `planVideo` chose them.
#[wasm_bindgen]
pub struct VideoInput(pub(super) VideoBuilder);

#[wasm_bindgen]
impl VideoInput {
    /// A video without frames yet, for a plan of `planVideo`.
    ///
    /// # Errors
    /// As [`Engine::load`].
    #[wasm_bindgen(constructor)]
    pub fn new(plan: JsValue) -> Result<VideoInput, JsValue> {
        let plan = plain(&plan).and_then(VideoPlan::from_json);
        plan.map(|plan| VideoInput(VideoBuilder::new(plan))).map_err(|e| to_js_error(&e))
    }

    /// Takes the next frame: upright pixels of four bytes each. The fourth, alpha, is ignored.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn push(&mut self, rgba: &[u8], width: u32, height: u32, timestamp: f64) -> Result<(), JsValue> {
        let rgb = rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        let frame = Picture::new(width, height, rgb);
        frame.and_then(|frame| self.0.push(&frame, timestamp)).map_err(|e| to_js_error(&e))
    }

    /// Takes the next frame as an encoded picture (PNG, JPEG, …).
    ///
    /// # Errors
    /// As [`Engine::load`].
    #[wasm_bindgen(js_name = pushEncoded)]
    pub fn push_encoded(&mut self, bytes: &[u8], timestamp: f64) -> Result<(), JsValue> {
        decode(bytes).and_then(|frame| self.0.push(&frame, timestamp)).map_err(|e| to_js_error(&e))
    }
}
