//! The wasm-bindgen interface of the grammar module, which the worker and the engine call. Its types are in `www/src/worker/wasm.ts`.

use js_sys::{Error as JsError, Reflect, Uint32Array};
use wasm_bindgen::prelude::*;

use crate::{Constraint, Error, Grammar, Kind, Spec, Vocabulary};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Makes panics, which are bugs, print their message. Without this the page would only see `unreachable`.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| console_error(&info.to_string())));
}

/// A [`Grammar`] for the tokens of a model.
#[wasm_bindgen(js_name = Grammar)]
pub struct JsGrammar(Grammar);

#[wasm_bindgen(js_class = Grammar)]
impl JsGrammar {
    /// Takes the bytes of all tokens, the position where the bytes of each id end, which ids are control tokens (not 0), and
    /// which ids end an answer.
    ///
    /// # Errors
    /// An `Error` with `code`, `hint` and `retryable`.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: &[u8], ends: &[u32], control: &[u8], stop: &[u32]) -> Result<JsGrammar, JsValue> {
        let mut vocabulary = Vocabulary::default();
        let mut start = 0;
        for (&end, &control) in ends.iter().zip(control) {
            let token = bytes.get(start..end as usize).unwrap_or_default();
            vocabulary.push(token, if control == 0 { Kind::Text } else { Kind::Control });
            start = end as usize;
        }
        Grammar::new(&vocabulary, stop).map(JsGrammar).map_err(|e| thrown(&e))
    }

    /// Makes a constraint for one answer, from JSON in the form of [`Spec::from_json`].
    ///
    /// # Errors
    /// An `Error` with `code`, `hint` and `retryable`.
    pub fn constraint(&self, spec: &str) -> Result<JsConstraint, JsValue> {
        let json = serde_json::from_str(spec);
        let json = json
            .map_err(|e| Error::new("responseConstraint", "JSON with values nested at most 128 deep", e.to_string()));
        let made = json.and_then(|json| Spec::from_json(&json)).and_then(|spec| self.0.constraint(&spec));
        made.map(JsConstraint).map_err(|e| thrown(&e))
    }
}

/// A [`Constraint`] for one answer.
#[wasm_bindgen(js_name = Constraint)]
pub struct JsConstraint(Constraint);

#[wasm_bindgen(js_class = Constraint)]
impl JsConstraint {
    /// Which ids may come next: bit `id % 32` of word `id / 32`.
    ///
    /// # Errors
    /// An `Error` with `code`, `hint` and `retryable`.
    pub fn mask(&mut self) -> Result<Uint32Array, JsValue> {
        self.0.mask().map(Uint32Array::from).map_err(|e| thrown(&e))
    }

    /// Whether `id` may come next.
    ///
    /// # Errors
    /// An `Error` with `code`, `hint` and `retryable`.
    pub fn allows(&mut self, id: u32) -> Result<bool, JsValue> {
        self.0.allows(id).map_err(|e| thrown(&e))
    }

    /// Appends a token to the answer.
    ///
    /// # Errors
    /// An `Error` with `code`, `hint` and `retryable`.
    pub fn commit(&mut self, id: u32) -> Result<(), JsValue> {
        self.0.commit(id).map_err(|e| thrown(&e))
    }

    /// Whether the answer is complete, so that nothing can follow.
    pub fn complete(&self) -> bool {
        self.0.complete()
    }
}

/// A JavaScript `Error` with the fields of `www/src/errors.ts`.
fn thrown(error: &Error) -> JsValue {
    let object: js_sys::Object = JsError::new(&error.to_string()).into();
    let fields = [
        ("code", JsValue::from_str("bad_request")),
        ("hint", JsValue::from_str("Correct the argument or message.")),
        ("retryable", JsValue::FALSE),
        // The engine passes these errors on as its own.
        ("what", JsValue::from_str(&error.what)),
        ("expected", JsValue::from_str(&error.expected)),
        ("found", JsValue::from_str(&error.found)),
    ];
    for (name, value) in fields {
        // Setting a field of a fresh object cannot fail.
        let _ = Reflect::set(&object, &JsValue::from_str(name), &value);
    }
    object.into()
}
