//! The checkpoint's folder as JavaScript gives it: [`Reader`] is the object that the worker hands over, [`JsSource`] makes
//! a [`Folder`] of it.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use js_sys::Uint8Array;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use super::convert::{text_of, to_js};
use crate::error::Error;
use crate::weights::Checkpoint;
use crate::weights::folder::Folder;
use crate::weights::prepared::{self, Prepared};
use crate::weights::source::{Expected, Pending, Source};

#[wasm_bindgen]
extern "C" {
    /// Gives byte ranges of the checkpoint's files.
    pub type Reader;
    #[wasm_bindgen(method, catch)]
    async fn size(this: &Reader, file: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn read(this: &Reader, file: &str, start: f64, end: f64) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn expect(this: &Reader, reads: JsValue) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method)]
    fn sequential(this: &Reader) -> bool;
    #[wasm_bindgen(method)]
    fn prepared(this: &Reader) -> Option<String>;
    #[wasm_bindgen(method)]
    fn keeps(this: &Reader, size: f64) -> bool;
    #[wasm_bindgen(method)]
    fn keep(this: &Reader, offset: f64, bytes: &[u8]);
}

/// A [`Folder`] that asks JavaScript. What JavaScript throws is kept, so that the caller gets the very same error object.
pub(super) struct JsSource {
    reader: Reader,
    thrown: Rc<Cell<Option<JsValue>>>,
    prepared: Option<Prepared>,
}

impl JsSource {
    /// Opens prepared weights if the reader has some. A file that an older version has written is passed over.
    pub(super) async fn new(reader: Reader, thrown: &Rc<Cell<Option<JsValue>>>) -> Self {
        let file = reader.prepared();
        let mut source = JsSource { reader, thrown: thrown.clone(), prepared: None };
        if let Some(file) = file {
            source.prepared = prepared::open(&source, &file).await.ok();
        }
        source
    }

    fn failed(&self, file: &str, error: JsValue) -> Error {
        let message = text_of(&error, "message").unwrap_or_else(|| format!("{error:?}"));
        self.thrown.set(Some(error));
        Error::Io { path: file.to_owned(), message }
    }
}

impl Source for JsSource {
    fn size<'a>(&'a self, file: &'a str) -> Pending<'a, Option<u64>> {
        Box::pin(async move {
            match self.reader.size(file).await {
                Ok(size) => Ok(size.as_f64().map(|n| n as u64)),
                Err(error) => Err(self.failed(file, error)),
            }
        })
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> Pending<'a, Vec<u8>> {
        Box::pin(async move {
            // Exact: files are far below 2^53 bytes.
            match self.reader.read(file, range.start as f64, range.end as f64).await {
                Ok(bytes) => Ok(Uint8Array::new(&bytes).to_vec()),
                Err(error) => Err(self.failed(file, error)),
            }
        })
    }

    fn expect<'a>(&'a self, reads: &'a [Expected]) -> Pending<'a, ()> {
        let read = |r: &Expected| json!({"file": r.file, "start": r.range.start, "end": r.range.end});
        Box::pin(async move {
            let reads = to_js(&Value::Array(reads.iter().map(read).collect()));
            self.reader.expect(reads).await.map(|_| ()).map_err(|error| self.failed("the checkpoint", error))
        })
    }

    fn sequential(&self) -> bool {
        self.reader.sequential()
    }
}

impl Folder for JsSource {
    fn tensors(&self) -> Option<&Checkpoint> {
        self.prepared.as_ref().map(|prepared| &prepared.checkpoint)
    }

    fn prepared(&self) -> Option<&Prepared> {
        self.prepared.as_ref()
    }

    fn keeps(&self, size: u64) -> bool {
        self.reader.keeps(size as f64)
    }

    fn keep(&self, offset: u64, bytes: &[u8]) {
        self.reader.keep(offset as f64, bytes);
    }
}
