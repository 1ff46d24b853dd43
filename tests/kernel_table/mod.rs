//! One table of cases for every kernel, run natively by `tests/kernels.rs` and in a browser by the wasm build.
//!
//! Whoever includes this file has `engine` in scope, which is the crate by whatever name it has there. Nothing here
//! knows a clock, a thread or the system's randomness. A case builds inputs, records kernels, runs their twins from
//! `tests/reference/` and compares at `abs + rel * size`: see `bench::Tolerance`.

use std::future::Future;
use std::pin::Pin;

use super::engine;

mod attention;
mod bench;
mod cache;
mod linear;
mod logits;
#[path = "../reference/mod.rs"]
mod reference;
mod rows;

pub use bench::{Bench, Report};

/// A row of the table.
pub struct Case {
    /// Unique: the kernel, a colon, what is special.
    pub name: &'static str,
    run: for<'a> fn(&'a mut Bench) -> Run<'a>,
}

type Run<'a> = Pin<Box<dyn Future<Output = engine::Result<()>> + 'a>>;

impl Case {
    /// Runs on a device. An error means that the case could not run; a wrong value is a failure in the report.
    pub async fn run(&self, gpu: &engine::gpu::Gpu) -> engine::Result<Report> {
        let mut bench = Bench::new(gpu);
        (self.run)(&mut bench).await?;
        Ok(bench.report)
    }
}

macro_rules! cases {
    ($($name:literal => $run:path,)*) => {
        &[$(Case { name: $name, run: |bench| Box::pin($run(bench)) },)*]
    };
}

/// Every case.
pub static TABLE: &[Case] = cases![
    "attention: head sizes, groups, causal" => attention::causal,
    "attention: windows and single keys" => attention::windows,
    "attention: large logits and outliers" => attention::hard,
    "attention_decode: parts" => attention::decode_parts,
    "attention_decode: with merge, long caches" => attention::decode,
    "attention_merge: parts of any size" => attention::merge,
    "blend_rows: sizes, many rows" => rows::blend_rows,
    "attention: several segments, f32 and q8" => attention::segments,
    "attention_decode: several segments, f32 and q8" => attention::decode_segments,
    "cache_store: heads, offsets, scales" => cache::store,
    "columns: sizes, shards, kept words" => rows::columns,
    "embed: formats and shards" => rows::embed,
    "embed: only the shard's rows, many rows" => rows::embed_partial,
    "gather_rows: repeats, kept rows, many rows" => rows::gather_rows,
    "layer_norm: sizes, workgroups, offsets" => rows::layer_norm,
    "layer_norm: outliers, far from zero, many rows" => rows::layer_norm_hard,
    "matmul: variants and formats" => linear::matmul_variants,
    "matvec: variants and formats" => linear::matvec_variants,
    "linear: sizes" => linear::sizes,
    "linear: every format" => linear::formats,
    "linear: outliers" => linear::outliers,
    "linear: shards" => linear::shards,
    "linear: more outputs than one grid row" => linear::many_outputs,
    "rms_norm: sizes, workgroups, offsets" => rows::rms_norm,
    "rms_norm: outliers, zeros, many rows" => rows::rms_norm_hard,
    "rope: heads, offsets, workgroups" => rows::rope,
    "rope: norms of heads, sizes, outliers" => rows::head_norm,
    "swiglu: sizes and saturation, many rows" => rows::swiglu,
    "top: parts of every width, ties and padding" => logits::top_widths,
    "top: infinities and numbers that are none" => logits::top_special,
    "top_merge: the list and what is known of the rest" => logits::top_merge,
    "top_merge: penalties and slots" => logits::top_penalty,
];
