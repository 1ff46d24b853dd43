//! Cases of matmul and matvec, alone and through `linear`.

use super::bench::{Bench, Data, Shape, Tolerance, absolute, constant, variants, wide};
use super::engine::Result;
use super::engine::dtype::Layout;
use super::engine::gpu::{Kernel, Recorder, Variant, WeightFormat};
use super::engine::ops::{self, Activation, LinearOptions, Rows};
use super::reference::matmul::{Act, Linear};
use super::reference::{matmul::matmul, matvec::matvec};

/// A sum of a thousand products loses up to some 1e-6 of its absolute terms.
const SUM: Tolerance = Tolerance { abs: 1e-6, rel: 4e-6 };

/// One product: y rows `y_row ..` from x rows `x_row ..`.
#[derive(Debug, Clone, Copy)]
struct Product {
    n: usize,
    x_row: usize,
    y_row: usize,
    rows: usize,
    cols: usize,
    slack: usize,
    shard_rows: usize,
    bias: bool,
    options: LinearOptions,
    format: WeightFormat,
    data: Data,
}

impl Product {
    fn new(n: usize, rows: usize, cols: usize, format: WeightFormat) -> Self {
        let (shard_rows, options, data) = (usize::MAX, LinearOptions::default(), Data::Plain);
        Product { n, x_row: 0, y_row: 0, rows, cols, slack: 0, shard_rows, bias: false, options, format, data }
    }
}

/// How a product gets to the device.
#[derive(Clone, Copy)]
enum Route {
    /// Through `linear`, which chooses kernel and variant.
    Linear,
    /// A kernel with given constants, whatever the shape.
    Direct(&'static Kernel, &'static [(&'static str, f64)]),
}

impl Product {
    /// The same with other flags in each turn: all combinations in 16 turns.
    fn flagged(self, turn: usize) -> Product {
        let acts = [Activation::None, Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu];
        let options = LinearOptions { act: acts[turn / 4 % 4], add: turn / 2 % 2 == 1 };
        Product { bias: turn % 2 == 1, options, ..self }
    }

    /// The kernels' `flags`.
    fn flags(&self) -> usize {
        usize::from(self.bias) + 2 * usize::from(self.options.add) + 4 * self.options.act as usize
    }
}

async fn check(bench: &mut Bench, route: Route, p: Product) -> Result<()> {
    let mut rec = Recorder::new(&bench.gpu);
    let shape = Shape { rows: p.rows, cols: p.cols, slack: p.slack, shard_rows: p.shard_rows };
    let matrix = bench.weight(p.format, shape, p.data);
    let weight = matrix.upload(&mut rec)?;
    // Rows of x around those in use are NaN; rows of y around those written must stay.
    let width = p.cols.next_multiple_of(4);
    let mut x = vec![f32::NAN; (p.x_row + p.n + 2) * width];
    for row in x[p.x_row * width..][..p.n * width].chunks_mut(width) {
        row.fill(0.0);
        row[..p.cols].copy_from_slice(&bench.values(p.cols, p.data));
    }
    let y = bench.values((p.y_row + p.n + 2) * p.rows, p.data);
    let bias = bench.values(p.rows, p.data);
    let x_gpu = rec.upload_f32("x", p.x_row + p.n + 2, &x)?;
    let y_gpu = rec.upload_f32("y", p.y_row + p.n + 2, &y)?;
    let bias_gpu = rec.upload_f32("bias", 1, &bias)?;
    match route {
        Route::Linear => {
            let rows = Rows { n: p.n, x_row: p.x_row, y_row: p.y_row };
            let bias = p.bias.then_some(&bias_gpu);
            ops::linear(&mut rec, &x_gpu, &weight, bias, &y_gpu, rows, p.options)?;
        }
        Route::Direct(kernel, overrides) => {
            for shard in &weight.shards {
                let (k4, per) = (width / 4, (shard.format.layout().group() as usize / 4).ilog2() as usize);
                let [row_start, rows, x_row, y_row] = [shard.row_start, shard.rows, p.x_row, p.y_row];
                let sizes =
                    [p.n, p.rows, k4, shard.stride, shard.groups, row_start, rows, x_row, y_row, per, p.flags(), 0];
                let params = sizes.map(|size| size as u32);
                let bindings = [&shard.tensor, &x_gpu, &bias_gpu, &y_gpu];
                let groups = if kernel.name == "matvec" {
                    let [x, y, _] = rec.grid(shard.rows.div_ceil(ops::matvec::outputs(constant(overrides, "WG"))));
                    [x, y, p.n as u32]
                } else {
                    let tile = ops::matmul::tile_rows(constant(overrides, "WG"), constant(overrides, "FOUR") == 1);
                    [shard.rows.div_ceil(64) as u32, p.n.div_ceil(tile) as u32, 1]
                };
                rec.dispatch(kernel, Variant::weighted(p.format, overrides), &params, &bindings, groups);
            }
        }
    }
    bench.run(rec)?;

    let (direct, constants) = match route {
        Route::Linear => ("linear", &[][..]),
        Route::Direct(kernel, overrides) => (kernel.name, overrides),
    };
    let (x, bias) = (wide(&x), wide(&bias));
    let mut want = wide(&y);
    let mut size = absolute(&want);
    for (row_start, rows) in matrix.shards() {
        let linear = Linear {
            n: p.n,
            m: p.rows,
            k: width,
            stride: matrix.width(),
            row_start,
            rows,
            x_row: p.x_row,
            y_row: p.y_row,
            bias: p.bias,
            add: p.options.add,
            act: match p.options.act {
                Activation::None => Act::None,
                Activation::Gelu => Act::Gelu,
                Activation::GeluTanh => Act::GeluTanh,
                Activation::QuickGelu => Act::QuickGelu,
            },
        };
        let w = matrix.values(row_start, rows);
        if direct == "matvec" {
            matvec(w, &x, &bias, &mut want, &linear);
        } else {
            matmul(w, &x, &bias, &mut want, &linear);
        }
        matmul(matrix.sizes(row_start, rows), &absolute(&x), &absolute(&bias), &mut size, &linear);
    }
    bench.compare_sums(&(direct, constants, p), &y_gpu, &want, &size, SUM).await
}

/// Shapes on both sides of every tile edge: n, rows, cols.
const EDGES: [(usize, usize, usize); 8] =
    [(1, 1, 4), (2, 3, 12), (5, 61, 20), (17, 127, 36), (63, 64, 64), (64, 65, 132), (65, 130, 60), (130, 257, 100)];

async fn kernel_variants(bench: &mut Bench, kernel: &'static Kernel, max_n: usize) -> Result<()> {
    let mut turn = 0;
    for format in bench.formats() {
        for &overrides in kernel.variants {
            let route = Route::Direct(kernel, overrides);
            for (n, rows, cols) in EDGES {
                let product = Product::new(n.min(max_n), rows, cols, format);
                check(bench, route, product.flagged(turn)).await?;
                turn += 1;
            }
            // Offsets, wider padding and uneven shards at once.
            let product = Product::new(7, 67, 28, format);
            let product = Product { x_row: 3, y_row: 2, slack: 3, shard_rows: 29, ..product };
            check(bench, route, product.flagged(turn)).await?;
            turn += 1;
        }
    }
    assert_known(kernel, bench);
    Ok(())
}

/// The table must have run what the op declares.
fn assert_known(kernel: &'static Kernel, bench: &mut Bench) {
    for variant in variants(kernel, &bench.formats()) {
        if !bench.report.launched.contains(&(kernel.name, variant.clone())) {
            bench.report.failures.push(format!("{} {variant:?} did not run", kernel.name));
        }
    }
}

pub async fn matmul_variants(bench: &mut Bench) -> Result<()> {
    kernel_variants(bench, &ops::matmul::KERNEL, usize::MAX).await
}

pub async fn matvec_variants(bench: &mut Bench) -> Result<()> {
    kernel_variants(bench, &ops::matvec::KERNEL, 17).await
}

/// `linear` over all n and m, with the inner size, the options and the offsets turning.
pub async fn sizes(bench: &mut Bench) -> Result<()> {
    let options =
        [(false, false), (true, false), (false, true), (true, true)].map(|(bias, add)| (bias, add, Activation::None));
    let active = [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu].map(|act| (true, false, act));
    let options = [&options[..], &active].concat();
    let mut turn = 0;
    for n in [1, 2, 3, 4, 5, 17, 63, 64, 65, 130] {
        for rows in [1, 3, 61, 127, 257] {
            for format in bench.formats() {
                let cols = [4, 8, 12, 1, 20, 36, 60, 64, 67, 132, 258, 588, 1028][turn % 13];
                let (bias, add, act) = options[turn % options.len()];
                let product = Product::new(n, rows, cols, format);
                let options = LinearOptions { act, add };
                let product = Product { x_row: turn % 3, y_row: turn % 4, bias, options, ..product };
                check(bench, Route::Linear, product).await?;
                turn += 1;
            }
        }
    }
    Ok(())
}

/// Every format through both kernels: offsets, uneven shards, rows of one and of several blocks, outliers.
pub async fn formats(bench: &mut Bench) -> Result<()> {
    for format in bench.all_formats() {
        for (n, rows, cols, shard_rows, slack) in
            [(1, 61, 256, 29, 0), (3, 130, 1024, 64, 1), (5, 67, 256, 67, 2), (66, 129, 768, 100, 0), (2, 9, 96, 4, 0)]
        {
            for data in [Data::Plain, Data::Outliers] {
                let options = LinearOptions { act: Activation::None, add: true };
                let product =
                    Product { x_row: 2, y_row: 1, bias: true, options, ..Product::new(n, rows, cols, format) };
                check(bench, Route::Linear, Product { slack, shard_rows, data, ..product }).await?;
            }
        }
    }
    Ok(())
}

/// Entries of 1e4 among 1e-3 in inputs, weights, bias and residual.
pub async fn outliers(bench: &mut Bench) -> Result<()> {
    for format in bench.formats() {
        for (n, rows, cols) in [(1, 61, 132), (3, 257, 1028), (17, 61, 132), (65, 127, 516)] {
            for add in [false, true] {
                let product = Product::new(n, rows, cols, format);
                let options = LinearOptions { act: Activation::None, add };
                let product = Product { bias: true, options, data: Data::Outliers, ..product };
                check(bench, Route::Linear, product).await?;
            }
            let options = LinearOptions { act: Activation::Gelu, add: false };
            let product = Product { bias: true, options, data: Data::Outliers, ..Product::new(n, rows, cols, format) };
            check(bench, Route::Linear, product).await?;
        }
    }
    Ok(())
}

/// Weights in several pieces: of odd sizes, of one row, and as many as a small binding limit makes.
pub async fn shards(bench: &mut Bench) -> Result<()> {
    for format in bench.formats() {
        for n in [1, 4, 5, 66] {
            for shard_rows in [1, 3, 64, 65, 100] {
                let rows = if shard_rows == 1 { 5 } else { 199 };
                let product = Product::new(n, rows, 44, format);
                let options = LinearOptions { act: Activation::None, add: true };
                check(bench, Route::Linear, Product { shard_rows, bias: true, options, ..product }).await?;
            }
        }
        for n in [1, 5] {
            let options = LinearOptions { act: Activation::Gelu, add: false };
            let product = Product { bias: true, options, ..Product::new(n, 1031, 1733, format) };
            check(bench, Route::Linear, product).await?;
        }
    }
    Ok(())
}

/// More workgroups than one dimension of a dispatch holds.
pub async fn many_outputs(bench: &mut Bench) -> Result<()> {
    check(bench, Route::Linear, Product::new(1, 4 * 65535 + 7, 4, WeightFormat::Plain(Layout::Bf16))).await
}
