//! Sizes of pictures, for which no model has to be loaded.

use serde_json::json;
use wasm_bindgen::prelude::*;

use super::convert::{natural, plain, to_js, to_js_error};
use crate::error::Error;
use crate::image::{decode, smart_resize};

/// Width and height of an encoded picture (PNG, JPEG, …), once it stands upright.
///
/// # Errors
/// As [`Engine::load`].
#[wasm_bindgen(js_name = imageSize)]
pub fn image_size(bytes: &[u8]) -> Result<JsValue, JsValue> {
    let picture = decode(bytes).map_err(|e| to_js_error(&e))?;
    Ok(to_js(&json!({"width": picture.width, "height": picture.height})))
}

/// How large a model on a server sees a picture of `width` × `height`: `{original, resized, tokens}`. The rule is that of the
/// family of `model_type`. The limits are those of the server, or if they are not given, those of the family's checkpoints.
///
/// # Errors
/// As [`Engine::load`].
#[wasm_bindgen(js_name = sizesFor)]
pub fn sizes_for(model_type: &str, width: u32, height: u32, limits: JsValue) -> Result<JsValue, JsValue> {
    let sizes = || {
        let limits = plain(&limits)?;
        // As in the checkpoints on the Hub: a token sees a square of 28 × 28 pixels, from Qwen3-VL on 32 × 32.
        let (factor, least, most) =
            if model_type.starts_with("qwen3") { (32, 65_536, 16_777_216) } else { (28, 3136, 12_845_056) };
        let most = natural(&limits, "maxPixels")?.unwrap_or(most);
        let least = natural(&limits, "minPixels")?.unwrap_or(least).min(most);
        let (h, w) = smart_resize(height, width, factor, least, most)?;
        let size = |width: u32, height: u32| json!({"width": width, "height": height});
        let tokens = u64::from(w / factor) * u64::from(h / factor);
        Ok(to_js(&json!({"original": size(width, height), "resized": size(w, h), "tokens": tokens})))
    };
    sizes().map_err(|e: Error| to_js_error(&e))
}
