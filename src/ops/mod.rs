//! One file per kernel, with its shape check, its `Params`, the choice of a variant and the dispatch size.
//!
//! An op takes a [`Recorder`] and tensors, records its launches and returns the result's tensor. Ops know shapes,
//! never a model's configuration. Every op has a plain reference implementation of the same name in
//! `tests/reference/`.

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

use crate::error::{Error, Result};
use crate::gpu::{Kernel, Recorder, Tensor, WeightFormat};

/// All kernels of the crate, for tests and for compiling them in advance.
pub static KERNELS: [&Kernel; 18] = [
    &attention::KERNEL,
    &attention::KERNEL_Q8,
    &attention_decode::KERNEL,
    &attention_decode::KERNEL_Q8,
    &attention_merge::KERNEL,
    &blend_rows::KERNEL,
    &cache_store::KERNEL,
    &columns::KERNEL,
    &embed::KERNEL,
    &gather_rows::KERNEL,
    &layer_norm::KERNEL,
    &matmul::KERNEL,
    &matvec::KERNEL,
    &rms_norm::KERNEL,
    &rope::KERNEL,
    &swiglu::KERNEL,
    &top::KERNEL,
    &top_merge::KERNEL,
];

/// A weight matrix `[rows, cols]` (out features, in features) on the device. It is cut by rows into shards; each shard fits
/// one storage binding and has one format.
#[derive(Clone)]
pub struct Weight {
    /// The pieces in row order.
    pub shards: Vec<WeightShard>,
    /// Out features.
    pub rows: usize,
    /// In features.
    pub cols: usize,
}

/// Rows `row_start .. row_start + rows` of a [`Weight`].
#[derive(Clone)]
pub struct WeightShard {
    /// The device memory: `rows` rows of `stride` words.
    pub tensor: Tensor,
    /// First row.
    pub row_start: usize,
    /// Number of rows.
    pub rows: usize,
    /// Words from one row to the next: a multiple of 4.
    pub stride: usize,
    /// Groups of 16 elements in a row, including groups of padding.
    pub groups: usize,
    /// How the elements are stored.
    pub format: WeightFormat,
}

impl WeightShard {
    /// `4 << per` elements share a scale, for the formats whose group size varies (by powers of two).
    fn per(&self) -> u32 {
        (self.format.layout().group() / 4).ilog2()
    }
}

/// An activation that may follow a linear layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activation {
    /// No activation.
    #[default]
    None,
    /// GELU with the exact erf: `torch.nn.GELU()`.
    Gelu,
    /// GELU by way of tanh: transformers' `gelu_pytorch_tanh`.
    GeluTanh,
    /// x · sigmoid(1.702 x): transformers' `quick_gelu`.
    QuickGelu,
}

/// What a linear layer does besides multiplying.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinearOptions {
    /// The activation to apply.
    pub act: Activation,
    /// Whether to add to the content of `y` (a residual stream) instead of replacing it.
    pub add: bool,
}

/// Which rows a linear layer reads and writes: `n` rows of x from `x_row` on, into rows of y from `y_row` on.
#[derive(Clone, Copy)]
pub struct Rows {
    /// How many rows.
    pub n: usize,
    /// First row read.
    pub x_row: usize,
    /// First row written.
    pub y_row: usize,
}

impl Rows {
    /// The first `n` rows of both.
    pub fn first(n: usize) -> Self {
        Rows { n, x_row: 0, y_row: 0 }
    }
}

/// Up to this many rows, the matrix-vector kernel is used, which reads the weights once per row. For more rows the tiled
/// kernel is faster.
const MATVEC_ROWS: usize = 4;

/// `y = act(x Wᵀ + bias) (+ y)`: x `[.., cols]`, W `[rows, cols]`, bias `[rows]`, y `[.., rows]`.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not match.
pub fn linear(
    rec: &mut Recorder,
    x: &Tensor,
    weight: &Weight,
    bias: Option<&Tensor>,
    y: &Tensor,
    rows: Rows,
    options: LinearOptions,
) -> Result<()> {
    // A width that is no multiple of 4 is padded with zeros on both sides.
    let cols = weight.cols.next_multiple_of(4);
    check("linear x", &[rows.x_row + rows.n, cols], &[x.rows, x.cols], x.cols == cols)?;
    check("linear y", &[rows.y_row + rows.n, weight.rows], &[y.rows, y.cols], y.cols == weight.rows)?;
    if let Some(bias) = bias {
        check("linear bias", &[weight.rows], &[bias.len()], bias.len() >= weight.rows)?;
    }
    check(
        "linear rows",
        &[rows.x_row + rows.n, rows.y_row + rows.n],
        &[x.rows, y.rows],
        rows.x_row + rows.n <= x.rows && rows.y_row + rows.n <= y.rows,
    )?;
    let small = rows.n <= MATVEC_ROWS;
    for shard in &weight.shards {
        if small {
            matvec::record(rec, x, weight, shard, bias, y, rows, options);
        } else {
            matmul::record(rec, x, weight, shard, bias, y, rows, options);
        }
    }
    Ok(())
}

/// The `Params` of matmul and matvec.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct LinearParams {
    n: u32,
    m: u32,
    k4: u32,
    stride: u32,
    groups: u32,
    row_start: u32,
    rows: u32,
    x_row: u32,
    y_row: u32,
    per: u32,
    flags: u32,
    pad: u32,
}

impl LinearParams {
    fn new(weight: &Weight, shard: &WeightShard, rows: Rows, bias: bool, options: LinearOptions) -> Self {
        LinearParams {
            n: rows.n as u32,
            m: weight.rows as u32,
            k4: weight.cols.div_ceil(4) as u32,
            stride: shard.stride as u32,
            groups: shard.groups as u32,
            row_start: shard.row_start as u32,
            rows: shard.rows as u32,
            x_row: rows.x_row as u32,
            y_row: rows.y_row as u32,
            per: shard.per(),
            flags: u32::from(bias) | u32::from(options.add) << 1 | (options.act as u32) << 2,
            pad: 0,
        }
    }
}

fn check(what: &str, expected: &[usize], found: &[usize], ok: bool) -> Result<()> {
    if ok {
        return Ok(());
    }
    Err(Error::Shape { what: what.into(), expected: expected.to_vec(), found: found.to_vec() })
}
