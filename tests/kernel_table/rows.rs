//! Cases of the kernels that work row by row.

use super::bench::{Bench, Data, Shape, Tolerance, absolute, wide};
use super::engine::Result;
use super::engine::dtype::Layout;
use super::engine::gpu::{Element, Recorder, Variant, WeightFormat};
use super::engine::ops::rope::{HeadNorm, Heads, RopeTarget};
use super::engine::ops::{
    self, Weight, WeightShard, blend_rows as blend, columns as turned, gather_rows as gather, layer_norm as centred,
    rms_norm as norm, rope as rotate,
};
use super::reference::blend_rows::blend_rows as blend_rows_twin;
use super::reference::columns::{Columns, columns as columns_twin};
use super::reference::embed::{Embed, embed as embed_twin};
use super::reference::gather_rows::gather_rows as gather_rows_twin;
use super::reference::layer_norm::layer_norm as layer_norm_twin;
use super::reference::rms_norm::rms_norm as rms_norm_twin;
use super::reference::rope::{Rope, head_norm as head_norm_twin, rope as rope_twin};
use super::reference::swiglu::swiglu as swiglu_twin;

/// A product or two, a root, a division.
const FEW: Tolerance = Tolerance { abs: 1e-9, rel: 4e-6 };

/// Floats come through unchanged; a quantized element is a product and at most one sum.
fn worth(format: WeightFormat) -> Tolerance {
    match format.layout() {
        Layout::F32 | Layout::F16 | Layout::Bf16 => Tolerance::EXACT,
        _ => Tolerance { abs: 0.0, rel: 4e-7 },
    }
}

pub async fn columns(bench: &mut Bench) -> Result<()> {
    // rows of x go to rows `top ..` of a matrix of `height`, in words `first ..` of `stride`.
    for (n, rows, top, height, first, stride, shard_rows) in [
        (1, 1, 0, 1, 0, 4, 1),
        (1, 1031, 2, 1040, 6, 8, 1040),
        (16, 16, 0, 16, 0, 16, 16),
        (17, 31, 5, 41, 3, 20, 13),
        (5, 257, 1, 300, 7, 12, 50),
        (61, 127, 0, 127, 11, 72, 64),
        (300, 8, 16, 24, 0, 300, 24),
        (2, 20_011, 0, 20_011, 1, 4, 9_973),
    ] {
        let words = |count: usize, by: u32| (0..count as u32).map(|i| (i + 1).wrapping_mul(by)).collect::<Vec<u32>>();
        let (x, old) = (words(n * rows, 0x9e37_79b9), words(height * stride, 0x85eb_ca6b));
        let mut rec = Recorder::new(&bench.gpu);
        let x_gpu = rec.upload_u32("x", n, &x)?;
        let mut weight = Weight { shards: Vec::new(), rows: height, cols: stride };
        for row_start in (0..height).step_by(shard_rows) {
            let rows = shard_rows.min(height - row_start);
            let tensor = rec.upload_u32("y", rows, &old[row_start * stride..][..rows * stride])?;
            let format = WeightFormat::Plain(Layout::F32);
            weight.shards.push(WeightShard { tensor, row_start, rows, stride, groups: 0, format });
        }
        turned::columns(&mut rec, &x_gpu, &weight, top, first)?;
        // The last rows alone, over a grid of three rows with groups to spare.
        let again = rec.upload_u32("y again", height, &old)?;
        let part = Columns { n, rows, from_row: rows / 2, to_row: top, count: rows - rows / 2, stride, first };
        let sizes = [n, rows, part.from_row, top, part.count, stride, first, 0].map(|size| size as u32);
        let groups = (part.count.div_ceil(16) * n.div_ceil(16)).div_ceil(3) as u32 + 1;
        rec.dispatch(&turned::KERNEL, Variant::default(), &sizes, &[&x_gpu, &again], [groups, 3, 1]);
        bench.run(rec)?;
        let name = (n, rows, top, height, first, stride, shard_rows);
        let mut want = old.clone();
        columns_twin(&x, &mut want, &Columns { n, rows, from_row: 0, to_row: top, count: rows, stride, first });
        for shard in &weight.shards {
            let got = bench.gpu.read_u32(&shard.tensor, 0, shard.rows * stride).await?;
            bench.compare_ids(&("columns", name), &got, &want[shard.row_start * stride..][..got.len()]);
        }
        let mut want = old;
        columns_twin(&x, &mut want, &part);
        let got = bench.gpu.read_u32(&again, 0, height * stride).await?;
        bench.compare_ids(&("columns in a grid", name), &got, &want);
    }
    Ok(())
}

pub async fn embed(bench: &mut Bench) -> Result<()> {
    for format in bench.all_formats() {
        for (n, rows, cols, slack, shard_rows) in [
            (1, 1, 4, 0, 1),
            (2, 3, 8, 0, 3),
            (5, 61, 20, 1, 60),
            (63, 127, 36, 3, 50),
            (65, 257, 132, 1, 64),
            (130, 1031, 260, 0, usize::MAX),
        ] {
            let shape = Shape { rows, cols, slack, shard_rows };
            let matrix = bench.weight(format, shape, Data::Plain);
            // The first and the last row of everything, then anything, with repeats.
            let mut ids: Vec<u32> = (0..n).map(|_| bench.below(rows) as u32).collect();
            ids[n - 1] = rows as u32 - 1;
            ids[0] = 0;
            let mut rec = Recorder::new(&bench.gpu);
            let weight = matrix.upload(&mut rec)?;
            let ids_gpu = rec.upload_u32("ids", 1, &ids)?;
            let y = ops::embed::embed(&mut rec, &ids_gpu, &weight)?;
            bench.run(rec)?;
            let mut want = vec![f64::NAN; n * cols];
            let mut size = want.clone();
            for (row_start, rows) in matrix.shards() {
                let twin = Embed { cols, stride: matrix.width(), row_start, rows };
                embed_twin(matrix.values(row_start, rows), &ids, &mut want, &twin);
                embed_twin(matrix.sizes(row_start, rows), &ids, &mut size, &twin);
            }
            bench.compare_sums(&(format, n, shape), &y, &want, &size, worth(format)).await?;
        }
    }
    Ok(())
}

/// One shard alone over a grid of several rows; then more ids than a dimension has workgroups.
pub async fn embed_partial(bench: &mut Bench) -> Result<()> {
    for format in bench.formats() {
        let (n, cols, row_start, rows) = (97, 20, 40, 31);
        let shape = Shape { rows: 100, cols, slack: 1, shard_rows: 100 };
        let matrix = bench.weight(format, shape, Data::Plain);
        let ids: Vec<u32> = (0..n).map(|_| bench.below(100) as u32).collect();
        let old = bench.values(n * cols, Data::Plain);
        let mut rec = Recorder::new(&bench.gpu);
        let weight = matrix.slice(row_start, rows).upload(&mut rec)?;
        let ids_gpu = rec.upload_u32("ids", n, &ids)?;
        let y = rec.upload_f32("y", n, &old)?;
        let per = (format.layout().group() as usize / 4).ilog2() as usize;
        let sizes = [n, cols / 4, matrix.stride, matrix.groups, row_start, rows, per, 0].map(|size| size as u32);
        let variant = Variant::weighted(format, &[("WG", 64.0)]);
        // 97 * 2 threads are 4 groups of 64: 2 x 3, two too many.
        let bindings = [&weight.shards[0].tensor, &ids_gpu, &y];
        rec.dispatch(&ops::embed::KERNEL, variant, &sizes, &bindings, [2, 3, 1]);
        bench.run(rec)?;
        let mut want = wide(&old);
        let mut size = want.clone();
        let twin = Embed { cols, stride: matrix.width(), row_start, rows };
        embed_twin(matrix.values(row_start, rows), &ids, &mut want, &twin);
        embed_twin(matrix.sizes(row_start, rows), &ids, &mut size, &twin);
        bench.compare_sums(&(format, "one shard"), &y, &want, &size, worth(format)).await?;

        let n = 65_539;
        let shape = Shape { rows: 257, cols: 4, slack: 1, shard_rows: 100 };
        let matrix = bench.weight(format, shape, Data::Plain);
        let ids: Vec<u32> = (0..n).map(|_| bench.below(257) as u32).collect();
        let mut rec = Recorder::new(&bench.gpu);
        let weight = matrix.upload(&mut rec)?;
        let ids_gpu = rec.upload_u32("ids", 1, &ids)?;
        let y = ops::embed::embed(&mut rec, &ids_gpu, &weight)?;
        bench.run(rec)?;
        let mut want = vec![f64::NAN; n * 4];
        let mut size = want.clone();
        for (row_start, rows) in matrix.shards() {
            let twin = Embed { cols: 4, stride: matrix.width(), row_start, rows };
            embed_twin(matrix.values(row_start, rows), &ids, &mut want, &twin);
            embed_twin(matrix.sizes(row_start, rows), &ids, &mut size, &twin);
        }
        bench.compare_sums(&(format, "many rows"), &y, &want, &size, worth(format)).await?;
    }
    Ok(())
}

pub async fn gather_rows(bench: &mut Bench) -> Result<()> {
    for (n, rows, cols) in [(1, 1, 4), (2, 5, 8), (17, 3, 20), (64, 64, 132), (130, 257, 1284), (65_539, 11, 4)] {
        let x = bench.values(rows * cols, Data::Outliers);
        let old = bench.values((n + 2) * cols, Data::Plain);
        let index: Vec<u32> =
            (0..n).map(|i| if n > 1 && i % 5 == 1 { gather::KEEP } else { bench.below(rows) as u32 }).collect();
        let mut rec = Recorder::new(&bench.gpu);
        let x_gpu = rec.upload_f32("x", rows, &x)?;
        let index_gpu = rec.upload_u32("index", n, &index)?;
        let mut results = Vec::new();
        for (add, overrides) in [false, true].into_iter().zip(gather::KERNEL.variants) {
            let y = rec.upload_f32("y", n + 2, &old)?;
            let again = rec.upload_f32("y again", n + 2, &old)?;
            let op = if add { gather::add_rows } else { gather::gather_rows };
            op(&mut rec, &x_gpu, &index_gpu, &y)?;
            // The same over a grid of three rows with groups to spare.
            let groups = (n * cols / 4).div_ceil(64).div_ceil(3) as u32 + 1;
            let sizes = [n as u32, cols as u32 / 4, 0, 0];
            let bindings = [&x_gpu, &index_gpu, &again];
            rec.dispatch(&gather::KERNEL, Variant::with(overrides), &sizes, &bindings, [groups, 3, 1]);
            let mut want = wide(&old);
            gather_rows_twin(&wide(&x), &index, &mut want, cols, add);
            results.push((add, y, again, want));
        }
        bench.run(rec)?;
        for (add, y, again, want) in results {
            let tolerance = if add { FEW } else { Tolerance::EXACT };
            bench.compare(&("gather_rows", add, n, rows, cols), &y, &want, tolerance).await?;
            bench.compare(&("gather_rows in a grid", add, n, rows, cols), &again, &want, tolerance).await?;
        }
    }
    Ok(())
}

pub async fn blend_rows(bench: &mut Bench) -> Result<()> {
    for (n, rows, cols) in [(1, 1, 4), (2, 5, 8), (17, 3, 20), (65, 49, 132), (130, 257, 1284), (65_539, 11, 4)] {
        let x = bench.values(rows * cols, Data::Outliers);
        let old = bench.values(n * cols, Data::Plain);
        let index: Vec<u32> = (0..4 * n).map(|_| bench.below(rows) as u32).collect();
        let weights = bench.values(4 * n, Data::Plain);
        let mut rec = Recorder::new(&bench.gpu);
        let x_gpu = rec.upload_f32("x", rows, &x)?;
        let index_gpu = rec.upload_u32("index", n, &index)?;
        let weights_gpu = rec.upload_f32("weights", n, &weights)?;
        let y = rec.upload_f32("y", n, &old)?;
        blend::blend_rows(&mut rec, &x_gpu, &index_gpu, &weights_gpu, &y)?;
        bench.run(rec)?;
        let (mut want, mut size) = (wide(&old), absolute(&wide(&old)));
        blend_rows_twin(&wide(&x), &index, &wide(&weights), &mut want, cols);
        blend_rows_twin(&absolute(&wide(&x)), &index, &absolute(&wide(&weights)), &mut size, cols);
        bench.compare_sums(&("blend_rows", n, rows, cols), &y, &want, &size, FEW).await?;
    }
    Ok(())
}

/// Rows `x_row .. x_row + n` of x through the op, and with every workgroup size over a grid of two rows.
async fn check_norm(bench: &mut Bench, x: &[f32], cols: usize, x_row: usize, n: usize, eps: f32) -> Result<()> {
    let gain = bench.values(cols, Data::Plain);
    let mut rec = Recorder::new(&bench.gpu);
    let x_gpu = rec.upload_f32("x", x.len() / cols, x)?;
    let gain_gpu = rec.upload_f32("gain", 1, &gain)?;
    let mut results = vec![(None, norm::rms_norm(&mut rec, &x_gpu, &gain_gpu, eps, x_row, n)?)];
    // A software adapter takes a minute for 65,539 workgroups of each size; they differ in width, not in number.
    for &overrides in norm::KERNEL.variants.iter().filter(|_| n < 1000) {
        let y = bench.gpu.persistent("y", n, cols, Element::F32)?;
        let sizes = [n as u32, cols as u32 / 4, x_row as u32, eps.to_bits()];
        let groups = [n.div_ceil(2) as u32, 2, 1];
        rec.dispatch(&norm::KERNEL, Variant::with(overrides), &sizes, &[&x_gpu, &gain_gpu, &y], groups);
        results.push((Some(overrides), y));
    }
    bench.run(rec)?;
    let want = rms_norm_twin(&wide(x), &wide(&gain), n, cols, x_row, eps.into());
    for (overrides, y) in results {
        bench.compare(&("rms_norm", overrides, n, cols, x_row, eps), &y, &want, FEW).await?;
    }
    Ok(())
}

pub async fn rms_norm(bench: &mut Bench) -> Result<()> {
    for n in [1, 2, 3, 5, 17, 65, 130] {
        for cols in [4, 12, 60, 64, 132, 260, 1028, 1284] {
            let x_row = (n + cols) % 3;
            let x = bench.values((x_row + n + 1) * cols, Data::Plain);
            check_norm(bench, &x, cols, x_row, n, 1e-6).await?;
        }
    }
    Ok(())
}

pub async fn rms_norm_hard(bench: &mut Bench) -> Result<()> {
    for eps in [1e-6, 1e-5, 0.5] {
        let x = bench.values(7 * 516, Data::Outliers);
        check_norm(bench, &x, 516, 2, 5, eps).await?;
        // Zeros, and values whose mean square is about eps.
        let mut x = vec![0.0; 3 * 132];
        for v in &mut x[132..] {
            *v = 1e-3 * bench.signed();
        }
        check_norm(bench, &x, 132, 0, 3, eps).await?;
    }
    let x = bench.values(65_539 * 4, Data::Plain);
    check_norm(bench, &x, 4, 0, 65_539, 1e-6).await
}

/// As [`check_norm`].
async fn check_layer_norm(
    bench: &mut Bench,
    x: &[f32],
    cols: usize,
    x_row: usize,
    n: usize,
    eps: f32,
    tolerance: Tolerance,
) -> Result<()> {
    let (gain, bias) = (bench.values(cols, Data::Plain), bench.values(cols, Data::Plain));
    let mut rec = Recorder::new(&bench.gpu);
    let x_gpu = rec.upload_f32("x", x.len() / cols, x)?;
    let gain_gpu = rec.upload_f32("gain", 1, &gain)?;
    let bias_gpu = rec.upload_f32("bias", 1, &bias)?;
    let mut results = vec![(None, centred::layer_norm(&mut rec, &x_gpu, &gain_gpu, &bias_gpu, eps, x_row, n)?)];
    for &overrides in centred::KERNEL.variants.iter().filter(|_| n < 1000) {
        let y = bench.gpu.persistent("y", n, cols, Element::F32)?;
        let sizes = [n as u32, cols as u32 / 4, x_row as u32, eps.to_bits()];
        let groups = [n.div_ceil(2) as u32, 2, 1];
        let bindings = [&x_gpu, &gain_gpu, &bias_gpu, &y];
        rec.dispatch(&centred::KERNEL, Variant::with(overrides), &sizes, &bindings, groups);
        results.push((Some(overrides), y));
    }
    bench.run(rec)?;
    let want = layer_norm_twin(&wide(x), &wide(&gain), &wide(&bias), n, x_row, eps.into());
    for (overrides, y) in results {
        bench.compare(&("layer_norm", overrides, n, cols, x_row, eps), &y, &want, tolerance).await?;
    }
    Ok(())
}

/// A difference of two numbers of order 1, and a bias added: what cancels is lost absolutely.
const CENTRED: Tolerance = Tolerance { abs: 2e-6, rel: 4e-6 };

pub async fn layer_norm(bench: &mut Bench) -> Result<()> {
    for n in [1, 2, 3, 5, 17, 65, 130] {
        for cols in [4, 12, 60, 64, 132, 260, 1028, 1284] {
            let x_row = (n + cols) % 3;
            let x = bench.values((x_row + n + 1) * cols, Data::Plain);
            check_layer_norm(bench, &x, cols, x_row, n, 1e-6, CENTRED).await?;
        }
    }
    Ok(())
}

pub async fn layer_norm_hard(bench: &mut Bench) -> Result<()> {
    for eps in [1e-6, 1e-5, 0.5] {
        let x = bench.values(7 * 516, Data::Outliers);
        check_layer_norm(bench, &x, 516, 2, 5, eps, CENTRED).await?;
        // Equal values, and values whose variance is about eps.
        let mut x = vec![0.25; 3 * 132];
        for v in &mut x[132..] {
            *v = 1e-3 * bench.signed();
        }
        check_layer_norm(bench, &x, 132, 0, 3, eps, CENTRED).await?;
        // A spread of 1 around 1000: the mean of squares less the square of the mean would have lost it. The inputs' own
        // last digits are 6e-5.
        let x: Vec<f32> = (0..5 * 516).map(|_| 1000.0 + bench.signed()).collect();
        check_layer_norm(bench, &x, 516, 1, 3, eps, Tolerance { abs: 1e-3, rel: 1e-3 }).await?;
    }
    let x = bench.values(65_539 * 4, Data::Plain);
    check_layer_norm(bench, &x, 4, 0, 65_539, 1e-6, CENTRED).await
}

pub async fn head_norm(bench: &mut Bench) -> Result<()> {
    for (n, q_heads, kv_heads, dim) in [
        (1, 1, 1, 4),
        (1, 16, 8, 128),
        (3, 4, 2, 20),
        (17, 3, 1, 16),
        (65, 6, 2, 132),
        (130, 2, 2, 256),
        (33_001, 1, 1, 4),
    ] {
        let (heads, past) = (q_heads + 2 * kv_heads, 2);
        let qkv = bench.values(n * heads * dim, if n == 17 { Data::Outliers } else { Data::Plain });
        let (q_gain, k_gain) = (bench.values(dim, Data::Plain), bench.values(dim, Data::Plain));
        let table = bench.values(n * dim, Data::Plain);
        let old = bench.values((n + past) * q_heads.max(kv_heads) * dim, Data::Plain);
        let (q_old, kv_old) = (&old[..q_heads * n * dim], &old[..kv_heads * (n + past) * dim]);
        let mut normed = wide(&qkv);
        head_norm_twin(&mut normed, &wide(&q_gain), &wide(&k_gain), q_heads, kv_heads, 1e-6f32.into());
        let [mut q_want, mut k_want, mut v_want] = [wide(q_old), wide(kv_old), wide(kv_old)];
        let capacity = n + past;
        let twin = Rope { n, q_heads, kv_heads, dim, past, capacity, q_capacity: n, row: 0, table_row: 0 };
        rope_twin(&normed, &wide(&table), &mut q_want, &mut k_want, &mut v_want, &twin);
        let variants = rotate::KERNEL.variants.iter().filter(|variant| n < 1000 && variant.contains(&("NORM", 1.0)));
        for overrides in [None].into_iter().chain(variants.map(Some)) {
            let mut rec = Recorder::new(&bench.gpu);
            let qkv_gpu = rec.upload_f32("qkv", n, &qkv)?;
            let table_gpu = rec.upload_f32("table", n, &table)?;
            let gains = [rec.upload_f32("q gain", 1, &q_gain)?, rec.upload_f32("k gain", 1, &k_gain)?];
            let q = rec.upload_f32("q", q_heads * n, q_old)?;
            let k = rec.upload_f32("k", kv_heads * capacity, kv_old)?;
            let v = rec.upload_f32("v", kv_heads * capacity, kv_old)?;
            if let Some(&overrides) = overrides {
                let sizes = [n, q_heads, kv_heads, dim / 2, past, capacity, n, 0, 0].map(|size| size as u32);
                let mut params = [0; 12];
                params[..9].copy_from_slice(&sizes);
                params[9] = 1e-6f32.to_bits();
                let groups = [(n * heads).div_ceil(2) as u32, 2, 1];
                let bindings = [&qkv_gpu, &table_gpu, &gains[0], &gains[1], &q, &k, &v];
                rec.dispatch(&rotate::KERNEL, Variant::with(overrides), &params, &bindings, groups);
            } else {
                let to = RopeTarget { q: &q, q_capacity: n, row: 0, table_row: 0, k: &k, v: &v, capacity, past };
                let norm = Some(HeadNorm { q_gain: &gains[0], k_gain: &gains[1], eps: 1e-6 });
                rotate::rope(&mut rec, &qkv_gpu, norm, &table_gpu, Heads { q: q_heads, kv: kv_heads, dim }, to)?;
            }
            bench.run(rec)?;
            let name = (overrides, n, q_heads, kv_heads, dim);
            // The rows of this table are no cosines: a pair loses a part of what it may become.
            let sizes = |want: &[f64]| radii(want, dim).into_iter().map(|radius| radius + 0.1).collect::<Vec<_>>();
            bench.compare_sums(&("q", name), &q, &q_want, &sizes(&q_want), FEW).await?;
            bench.compare_sums(&("k", name), &k, &k_want, &sizes(&k_want), FEW).await?;
            bench.compare(&("v", name), &v, &v_want, Tolerance::EXACT).await?;
        }
    }
    Ok(())
}

pub async fn rope(bench: &mut Bench) -> Result<()> {
    // row, table_row, past: where the rows of qkv begin in q, in the table and in the cache. spare: rows behind the last.
    for (n, q_heads, kv_heads, dim, row, past, spare) in [
        (1, 1, 1, 2, 0, 0, 0),
        (1, 2, 1, 32, 0, 6, 1),
        (1, 14, 2, 128, 0, 129, 5),
        (2, 2, 1, 16, 5, 5, 3),
        (3, 3, 3, 80, 0, 0, 0),
        (5, 7, 1, 20, 0, 4, 1),
        (17, 6, 2, 128, 9, 1, 0),
        (64, 2, 2, 80, 64, 64, 32),
        (65, 4, 2, 64, 0, 31, 7),
        (130, 3, 1, 256, 0, 3, 2),
        (2049, 6, 1, 16, 7, 2, 1),
    ] {
        let (capacity, q_capacity) = (past + n + spare, row + n + spare);
        let heads = q_heads + 2 * kv_heads;
        let half = dim / 2;
        let table_row = if n == 1 { 3 * past } else { row };
        let qkv = bench.values(n * heads * dim, if n == 65 { Data::Outliers } else { Data::Plain });
        // Rows of the table around those in use are NaN.
        let table_rows = table_row + n + spare;
        let mut table = vec![f32::NAN; table_rows * dim];
        for row in table[table_row * dim..][..n * dim].chunks_mut(dim) {
            for j in 0..half {
                let angle = 100.0 * bench.signed();
                (row[j], row[j + half]) = (angle.cos(), angle.sin());
            }
        }
        let q_old = bench.values(q_heads * q_capacity * dim, Data::Plain);
        let kv_old = bench.values(kv_heads * capacity * dim, Data::Plain);
        let [mut q_want, mut k_want, mut v_want] = [wide(&q_old), wide(&kv_old), wide(&kv_old)];
        let twin = Rope { n, q_heads, kv_heads, dim, past, capacity, q_capacity, row, table_row };
        rope_twin(&wide(&qkv), &wide(&table), &mut q_want, &mut k_want, &mut v_want, &twin);
        let variants = rotate::KERNEL.variants.iter().filter(|variant| variant.contains(&("NORM", 0.0)));
        for overrides in [None].into_iter().chain(variants.map(Some)) {
            let mut rec = Recorder::new(&bench.gpu);
            let qkv_gpu = rec.upload_f32("qkv", n, &qkv)?;
            let table_gpu = rec.upload_f32("table", table_rows, &table)?;
            let q = rec.upload_f32("q", q_heads * q_capacity, &q_old)?;
            let k = rec.upload_f32("k", kv_heads * capacity, &kv_old)?;
            let v = rec.upload_f32("v", kv_heads * capacity, &kv_old)?;
            if let Some(&overrides) = overrides {
                let sizes = [n, q_heads, kv_heads, half, past, capacity, q_capacity, row, table_row, 0, 0, 0];
                let sizes = sizes.map(|size| size as u32);
                let bindings = [&qkv_gpu, &table_gpu, &table_gpu, &table_gpu, &q, &k, &v];
                // At least as many threads as there are pairs, over a grid of two rows.
                let groups = [(n * heads * half).div_ceil(128) as u32, 2, 1];
                rec.dispatch(&rotate::KERNEL, Variant::with(overrides), &sizes, &bindings, groups);
            } else {
                let target = RopeTarget { q: &q, q_capacity, row, table_row, k: &k, v: &v, capacity, past };
                rotate::rope(&mut rec, &qkv_gpu, None, &table_gpu, Heads { q: q_heads, kv: kv_heads, dim }, target)?;
            }
            bench.run(rec)?;
            let name = (overrides, n, q_heads, kv_heads, dim, row, past, spare);
            bench.compare_sums(&("q", name), &q, &q_want, &radii(&q_want, dim), FEW).await?;
            bench.compare_sums(&("k", name), &k, &k_want, &radii(&k_want, dim), FEW).await?;
            bench.compare(&("v", name), &v, &v_want, Tolerance::EXACT).await?;
        }
    }
    Ok(())
}

/// A rotation loses a part of the pair's length, whatever is left of either.
fn radii(values: &[f64], dim: usize) -> Vec<f64> {
    let partner = |i: usize| if i % dim < dim / 2 { i + dim / 2 } else { i - dim / 2 };
    (0..values.len()).map(|i| values[i].hypot(values[partner(i)])).collect()
}

pub async fn swiglu(bench: &mut Bench) -> Result<()> {
    for (n, cols) in [(1, 4), (2, 8), (3, 20), (17, 60), (63, 64), (65, 132), (5, 4100), (65_539, 4)] {
        let mut x = bench.values(n * 2 * cols, Data::Plain);
        for (i, v) in x.iter_mut().enumerate() {
            // From the linear middle to far beyond where exp ends.
            *v *= [1.0, 8.0, 30.0, 85.0, 100.0, 1e4][i % 6];
        }
        let mut rec = Recorder::new(&bench.gpu);
        let x_gpu = rec.upload_f32("x", n, &x)?;
        let y = ops::swiglu::swiglu(&mut rec, &x_gpu)?;
        // Over a grid of three rows with groups to spare.
        let again = bench.gpu.persistent("y", n, cols, Element::F32)?;
        let groups = (n * cols / 4).div_ceil(64).div_ceil(3) as u32 + 1;
        let sizes = [n as u32, cols as u32 / 4, 0, 0];
        let variant = Variant::with(&[("WG", 64.0)]);
        rec.dispatch(&ops::swiglu::KERNEL, variant, &sizes, &[&x_gpu, &again], [groups, 3, 1]);
        bench.run(rec)?;
        let want = swiglu_twin(&wide(&x), n, cols);
        let size = absolute(&want);
        // exp of 85 has a relative error of some 85 last places. Where the kernel stops at exp(80), at most
        // 1e4 * 1e4 * exp(-80) is left of what is 0.
        let tolerance = Tolerance { abs: 2e-27, rel: 2e-5 };
        bench.compare_sums(&("swiglu", n, cols), &y, &want, &size, tolerance).await?;
        bench.compare_sums(&("swiglu in a grid", n, cols), &again, &want, &size, tolerance).await?;
    }
    Ok(())
}
