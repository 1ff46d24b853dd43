//! Plain-loop twins of the kernels: the definition that `shaders/` is held to.
//!
//! They import nothing from the crate, take every parameter that the kernel takes, sum in f64 and are written to be
//! read, not to be fast. Matrices are row-major slices; the axis order stands at each parameter.

pub mod attention;
pub mod attention_decode;
pub mod attention_merge;
pub mod blend_rows;
pub mod cache_store;
pub mod columns;
pub mod embed;
pub mod gather_rows;
pub mod layer_norm;
pub mod matmul;
pub mod matvec;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;
pub mod top;
pub mod top_merge;
pub mod weights;
