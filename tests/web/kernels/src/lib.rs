//! The kernel table and the assembled shaders, for a browser to run and to compile. Empty natively.
#![cfg(target_arch = "wasm32")]

use fanlight as engine;
use fanlight::gpu::shader::assemble;
use fanlight::gpu::{Gpu, GpuOptions, WeightFormat};
use js_sys::{Array, Promise};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, future_to_promise};

#[path = "../../../kernel_table/mod.rs"]
#[allow(missing_docs, dead_code, reason = "a table for tests")]
mod kernel_table;

/// Runs the table on the browser's device; gives `[{name, ok, detail}]` as JSON.
///
/// # Errors
/// What went wrong, where there is no device or a case could not run.
#[wasm_bindgen]
pub async fn kernel_tests() -> Result<String, JsError> {
    let gpu = Gpu::open(&GpuOptions::default()).await?;
    // Side by side: Firefox looks for finished readbacks every 100 ms, and the cases read back thousands of times.
    let cases = kernel_table::TABLE.iter().map(|case| {
        let gpu = gpu.clone();
        future_to_promise(async move { Ok(run(case, &gpu).await.to_string().into()) })
    });
    let reports = JsFuture::from(Promise::all(&cases.collect::<Array>())).await;
    let reports: Array = reports.map_err(|e| JsError::new(&format!("{e:?}")))?.unchecked_into();
    Ok(format!("[{}]", reports.join(",")))
}

/// One case: what it compared, or why it could not run.
async fn run(case: &kernel_table::Case, gpu: &Gpu) -> Value {
    let (ok, detail) = match case.run(gpu).await {
        Ok(report) => (
            report.failures.is_empty() && report.values > 0,
            format!("{} values, worst {:.3}; {}", report.values, report.worst, report.failures.join("; ")),
        ),
        Err(error) => (false, error.to_string()),
    };
    json!({ "name": case.name, "ok": ok, "detail": detail })
}

/// Every module as a device gets it, with every format and every set of constants: `[{name, entry, source, constants, f16}]` as JSON.
#[wasm_bindgen]
pub fn shader_sources() -> String {
    let mut modules = Vec::new();
    for kernel in engine::ops::KERNELS {
        let formats = if kernel.weight { WeightFormat::all().map(Some).collect() } else { vec![None] };
        for (n, format) in formats.into_iter().enumerate() {
            // The constants have nothing to do with the format: all of them with the first, one with the others.
            for variant in if n == 0 { kernel.variants } else { &kernel.variants[..1] } {
                let constants: serde_json::Map<String, Value> =
                    variant.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
                modules.push(json!({
                    "name": format!("{} {format:?} {variant:?}", kernel.name),
                    "entry": kernel.entry,
                    "source": assemble(kernel, format),
                    "constants": constants,
                    "f16": format == Some(WeightFormat::NativeF16),
                }));
            }
        }
    }
    Value::from(modules).to_string()
}
