//! What a model's text locates in pictures: for a loaded model through [`Engine`](super::Engine), and here for one that runs
//! elsewhere, on a server.

use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use super::convert::{plain, to_js, to_js_error};
use crate::chat::grounding::Convention;
use crate::chat::{ImageInfo, grounding};
use crate::error::{Error, Result};

/// As [`Engine::locate`], for a text that a model of `model_type` has written elsewhere.
///
/// # Errors
/// As [`Engine::load`].
#[wasm_bindgen(js_name = locateFor)]
pub fn locate_for(model_type: &str, text: &str, pictures: JsValue) -> Result<JsValue, JsValue> {
    located(Convention::of(model_type), text, &pictures).map_err(|e| to_js_error(&e))
}

/// As [`Engine::document`], for a page that a model of `model_type` has written elsewhere.
///
/// # Errors
/// As [`Engine::load`].
#[wasm_bindgen(js_name = documentFor)]
pub fn document_for(model_type: &str, html: &str, picture: JsValue) -> Result<JsValue, JsValue> {
    blocks(Convention::of(model_type), html, &picture).map_err(|e| to_js_error(&e))
}

pub(super) fn located(convention: Option<Convention>, text: &str, pictures: &JsValue) -> Result<JsValue> {
    let list = plain(pictures)?;
    let pictures = list.as_array().into_iter().flatten().map(image_info).collect::<Result<Vec<_>>>()?;
    let located = convention.map(|convention| grounding::locate(text, convention, &pictures));
    Ok(to_js(&json!(located.unwrap_or_default())))
}

pub(super) fn blocks(convention: Option<Convention>, html: &str, picture: &JsValue) -> Result<JsValue> {
    let picture = image_info(&plain(picture)?)?;
    let blocks = convention.map(|convention| grounding::document(html, convention, &picture));
    Ok(to_js(&json!(blocks.unwrap_or_default())))
}

/// A picture's sizes: `{original: {width, height}, resized: {width, height}}`.
fn image_info(picture: &Value) -> Result<ImageInfo> {
    let size = |name: &str| {
        let side = |side: &str| picture[name][side].as_f64().filter(|n| *n >= 1.0 && *n <= f64::from(u32::MAX));
        match (side("width"), side("height")) {
            (Some(width), Some(height)) => Ok([width as u32, height as u32]),
            _ => Err(Error::invalid(name, "a size {width, height} in pixels", picture[name].to_string())),
        }
    };
    Ok(ImageInfo { original: size("original")?, resized: size("resized")?, tokens: 0 })
}
