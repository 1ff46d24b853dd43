//! Cases of the kernels that work on one row of logits: argmax, penalty.

use super::bench::{Bench, Data, Tolerance, wide};
use super::engine::Result;
use super::engine::gpu::{Element, Recorder, Variant};
use super::engine::ops::{argmax as highest, penalty as repetition};
use super::reference::argmax::argmax as argmax_twin;
use super::reference::penalty::penalty as penalty_twin;

/// Every workgroup size, and the op.
async fn check_argmax(bench: &mut Bench, what: &str, x: &[f32], cols: usize) -> Result<()> {
    let mut rec = Recorder::new(&bench.gpu);
    let x_gpu = rec.upload_f32("logits", 1, x)?;
    let mut ids = vec![bench.gpu.persistent("id", 1, 1, Element::U32)?];
    highest::argmax(&mut rec, &x_gpu, cols, &ids[0])?;
    for &overrides in highest::KERNEL.variants {
        let id = bench.gpu.persistent("id", 1, 1, Element::U32)?;
        let sizes = [cols as u32, 0, 0, 0];
        rec.dispatch(&highest::KERNEL, Variant::with(overrides), &sizes, &[&x_gpu, &id], [1, 1, 1]);
        ids.push(id);
    }
    bench.run(rec)?;
    let want = argmax_twin(&wide(x), cols);
    for id in ids {
        let got = bench.gpu.read_u32(&id, 0, 1).await?;
        bench.compare_ids(&(what, cols), &got, &[want]);
    }
    Ok(())
}

pub async fn argmax_widths(bench: &mut Bench) -> Result<()> {
    for cols in [1, 2, 3, 61, 63, 64, 65, 127, 255, 256, 257, 1000, 151_936] {
        let mut x = bench.values(cols, Data::Plain);
        check_argmax(bench, "plain", &x, cols).await?;
        // Rows of padding are higher, or no numbers, and do not count.
        x.extend([9.0, f32::NAN, f32::INFINITY, 10.0]);
        check_argmax(bench, "padding", &x, cols).await?;
        // The highest at either end; then everywhere from some index on, where the first counts.
        x[cols - 1] = 2.0;
        check_argmax(bench, "last", &x, cols).await?;
        x[0] = 3.0;
        check_argmax(bench, "first", &x, cols).await?;
        x[0] = -1.0;
        x[cols / 3..cols].fill(2.0);
        check_argmax(bench, "ties", &x, cols).await?;
        x.fill(-7.5);
        check_argmax(bench, "all equal, negative", &x, cols).await?;
        // Two of the same in different lanes, the higher index in the lower lane.
        let (a, b) = (cols / 2, (cols / 2 + 256).min(cols - 1) / 256 * 256);
        (x[a], x[b]) = (1.0, 1.0);
        check_argmax(bench, "two lanes", &x, cols).await?;
        x[..cols].fill(-0.0);
        x[cols - 1] = 0.0;
        check_argmax(bench, "zeros are equal", &x, cols).await?;
    }
    Ok(())
}

pub async fn argmax_special(bench: &mut Bench) -> Result<()> {
    for cols in [1, 5, 64, 300, 1031] {
        let low = vec![f32::NEG_INFINITY; cols];
        check_argmax(bench, "all -inf", &low, cols).await?;
        let mut x = low.clone();
        x[cols - 1] = f32::MIN;
        check_argmax(bench, "one above -inf", &x, cols).await?;
        for at in [0, cols / 2, cols - 1] {
            let mut x = bench.values(cols, Data::Outliers);
            x[at] = f32::INFINITY;
            check_argmax(bench, "+inf", &x, cols).await?;
            for bits in [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xffff_ffff] {
                let mut x = bench.values(cols, Data::Plain);
                x[cols / 3] = f32::INFINITY;
                x[at] = f32::from_bits(bits);
                check_argmax(bench, "NaN", &x, cols).await?;
            }
        }
    }
    Ok(())
}

pub async fn penalty(bench: &mut Bench) -> Result<()> {
    for (cols, ids, count) in
        [(1, 1, 1), (5, 5, 3), (61, 7, 0), (64, 64, 63), (257, 130, 64), (1000, 300, 65), (151_936, 5000, 4999)]
    {
        for factor in [1.05, 1.0, 2.0, 0.5] {
            let mut x = bench.values(cols, Data::Outliers);
            (x[0], x[cols / 2]) = (f32::NEG_INFINITY, 0.0);
            // Distinct ids in no order, with both ends among them.
            let step = (cols * 5 / 8 + 1..).find(|step| common_divisor(*step, cols) == 1).unwrap_or(1);
            let ids: Vec<u32> = (0..ids).map(|i| (cols - 1 + i * step) as u32 % cols as u32).collect();
            let mut rec = Recorder::new(&bench.gpu);
            let ids_gpu = rec.upload_u32("ids", 1, &ids)?;
            let x_gpu = rec.upload_f32("logits", 1, &x)?;
            repetition::penalty(&mut rec, &x_gpu, &ids_gpu, count, factor)?;
            bench.run(rec)?;
            let mut want = wide(&x);
            penalty_twin(&mut want, &ids, count, factor.into());
            // A division in WGSL is good to 2.5 last places.
            let tolerance = Tolerance { abs: 0.0, rel: 3e-7 };
            bench.compare(&("penalty", cols, count, factor), &x_gpu, &want, tolerance).await?;
        }
    }
    Ok(())
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}
