//! Values on their way between JavaScript and Rust: options as JSON, results as objects, errors with their fields.

use js_sys::{Object, Reflect};
use serde_json::Value;
use wasm_bindgen::prelude::*;

use crate::error::{Error, Result};

/// An options object as JSON; `undefined` becomes null.
pub(super) fn plain(value: &JsValue) -> Result<Value> {
    let text = js_sys::JSON::stringify(value).ok().and_then(|text| text.as_string());
    let json = text.map_or(Ok(Value::Null), |text| serde_json::from_str(&text));
    json.map_err(|e| Error::invalid("options", "an object of plain values", e.to_string()))
}

pub(super) fn parsed(json: &str, what: &str) -> Result<Value> {
    serde_json::from_str(json).map_err(|e| Error::invalid(what, "JSON", e.to_string()))
}

pub(super) fn text<'a>(options: &'a Value, name: &str) -> Result<Option<&'a str>> {
    match &options[name] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        other => Err(Error::invalid(name, "a string", other.to_string())),
    }
}

pub(super) fn natural(options: &Value, name: &str) -> Result<Option<u64>> {
    match &options[name] {
        Value::Null => Ok(None),
        value => match value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0 && *n < 9e15) {
            Some(n) => Ok(Some(n as u64)),
            None => Err(Error::invalid(name, "a whole number that is not negative", value.to_string())),
        },
    }
}

/// A number for the engine. One that does not fit means as much as there is.
pub(super) fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn to_js(value: &Value) -> JsValue {
    js_sys::JSON::parse(&value.to_string()).unwrap_or(JsValue::NULL)
}

/// A JavaScript `Error` with the fields of `www/src/errors.ts`.
pub(super) fn to_js_error(error: &Error) -> JsValue {
    let object: Object = js_sys::Error::new(&error.to_string()).into();
    let fields = [
        ("code", JsValue::from_str(error.code())),
        ("hint", JsValue::from_str(error.hint())),
        ("retryable", JsValue::from_bool(error.retryable())),
    ];
    for (name, value) in fields {
        // Setting a field of a fresh object cannot fail.
        let _ = Reflect::set(&object, &JsValue::from_str(name), &value);
    }
    object.into()
}

pub(super) fn text_of(object: &JsValue, field: &str) -> Option<String> {
    Reflect::get(object, &JsValue::from_str(field)).ok()?.as_string()
}
