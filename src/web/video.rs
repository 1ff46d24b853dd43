//! A video as JavaScript hands it over, frame by frame.

use wasm_bindgen::prelude::*;

use super::convert::{plain, to_js_error};
use crate::image::{Picture, decode};
use crate::video::{VideoBuilder, VideoPlan};

/// A video of which the frames come one by one, as `planVideo` wants them.
#[wasm_bindgen]
pub struct VideoInput(pub(super) VideoBuilder);

#[wasm_bindgen]
impl VideoInput {
    /// Waits for the frames of what `planVideo` gave.
    ///
    /// # Errors
    /// As [`Engine::load`].
    #[wasm_bindgen(constructor)]
    pub fn new(plan: JsValue) -> Result<VideoInput, JsValue> {
        let plan = plain(&plan).and_then(VideoPlan::from_json);
        plan.map(|plan| VideoInput(VideoBuilder::new(plan))).map_err(|e| to_js_error(&e))
    }

    /// Takes the next frame: upright pixels of four bytes, of which the fourth is not looked at.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub fn push(&mut self, rgba: &[u8], width: u32, height: u32, timestamp: f64) -> Result<(), JsValue> {
        let rgb = rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        let frame = Picture::new(width, height, rgb);
        frame.and_then(|frame| self.0.push(&frame, timestamp)).map_err(|e| to_js_error(&e))
    }

    /// Takes the next frame as the file of a picture.
    ///
    /// # Errors
    /// As [`Engine::load`].
    #[wasm_bindgen(js_name = pushEncoded)]
    pub fn push_encoded(&mut self, bytes: &[u8], timestamp: f64) -> Result<(), JsValue> {
        decode(bytes).and_then(|frame| self.0.push(&frame, timestamp)).map_err(|e| to_js_error(&e))
    }
}
