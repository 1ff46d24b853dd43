//! What an answer may be, decided by the module of `fanlight-grammar`: a second wasm module, reached through JavaScript.

use js_sys::Uint32Array;
use wasm_bindgen::prelude::*;

use super::convert::text_of;
use crate::error::{Error, Result};
use crate::generate::constraint::Constraint;

#[wasm_bindgen]
extern "C" {
    /// What an answer may be: made by the module of `fanlight-grammar`.
    pub type Grammatical;
    #[wasm_bindgen(method, catch)]
    fn mask(this: &Grammatical) -> Result<Uint32Array, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn allows(this: &Grammatical, id: u32) -> Result<bool, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn commit(this: &Grammatical, id: u32) -> Result<(), JsValue>;
    #[wasm_bindgen(method, catch)]
    fn complete(this: &Grammatical) -> Result<bool, JsValue>;
}

impl Constraint for Grammatical {
    fn mask(&mut self, bits: &mut Vec<u32>) -> Result<()> {
        let mask = Grammatical::mask(self).map_err(refused)?;
        bits.resize(mask.length() as usize, 0);
        mask.copy_to(bits);
        Ok(())
    }

    fn allows(&mut self, id: u32) -> Result<bool> {
        Grammatical::allows(self, id).map_err(refused)
    }

    fn commit(&mut self, id: u32) -> Result<()> {
        Grammatical::commit(self, id).map_err(refused)
    }

    fn complete(&mut self) -> Result<bool> {
        Grammatical::complete(self).map_err(refused)
    }
}

/// What the grammar's module threw: an error of its own, which is passed on, or anything else, after which it cannot go on.
fn refused(error: JsValue) -> Error {
    match (text_of(&error, "what"), text_of(&error, "expected"), text_of(&error, "found")) {
        (Some(what), Some(expected), Some(found)) => Error::Invalid { what, expected, found },
        _ => {
            let found = text_of(&error, "message").unwrap_or_else(|| format!("{error:?}"));
            Error::invalid("responseConstraint", "a constraint that can be followed to the answer's end", found)
        }
    }
}
