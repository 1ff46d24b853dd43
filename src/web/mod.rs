//! The wasm-bindgen surface, nothing else: what `www/src/worker/worker.ts` calls. `www/src/worker/wasm.ts` has its types, written by hand.
//!
//! - `source`: the checkpoint's files, which JavaScript reads
//! - `current`: the engine on the present device, which a lost device replaces
//! - `engine`: a loaded checkpoint, and the estimate of what loading one would take
//! - `session`: a conversation with it
//! - `constraint`: what an answer may be, as the second wasm module says
//! - `video`: the frames of a video, handed over one by one
//! - `picture`: sizes of pictures
//! - `grounding`: boxes and blocks in a model's text, also in the text of a model that runs elsewhere
//! - `hash`: a running sha256
//! - `convert`: JavaScript values ↔ JSON, and errors as JavaScript sees them

mod constraint;
mod convert;
mod current;
mod engine;
mod grounding;
mod hash;
mod picture;
mod session;
mod source;
mod video;

use wasm_bindgen::prelude::*;

pub use constraint::Grammatical;
pub use engine::{Engine, estimate};
pub use grounding::{document_for, locate_for};
pub use hash::Sha256;
pub use picture::{image_size, sizes_for};
pub use session::Session;
pub use source::Reader;
pub use video::VideoInput;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn now() -> f64;
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Writes the text of a panic to the console. JavaScript itself only sees that the module has stopped, without a reason.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| console_error(&info.to_string())));
}
