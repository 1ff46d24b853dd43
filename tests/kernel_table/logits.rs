//! Cases of the kernels that work on one row of logits: top, top_merge.

use super::bench::{Bench, Data, wide};
use super::engine::Result;
use super::engine::gpu::{Element, Recorder, Variant};
use super::engine::ops::top_merge::{Choices, HEAD_WORDS, LIST_WORDS, choose};
use super::engine::ops::{top as highest, top_merge as merged};
use super::reference::top::{Entry, top as top_twin};
use super::reference::top_merge::top_merge as merge_twin;

/// A value's place in the order of all values, as the shaders write it; 0 for none.
fn key(value: f64) -> u32 {
    let bits = (value as f32 + 0.0).to_bits();
    match value {
        _ if value.is_nan() => u32::MAX,
        _ if bits >> 31 == 1 => !bits,
        _ => bits | 1 << 31,
    }
}

/// Keys and indices of so many places.
fn words(entries: &[Entry], places: usize) -> [Vec<u32>; 2] {
    let fill = |words: Vec<u32>, with: u32| words.into_iter().chain(std::iter::repeat(with)).take(places).collect();
    let (keys, ids) = entries.iter().map(|entry| (key(entry.0), entry.1)).unzip();
    [fill(keys, 0), fill(ids, u32::MAX)]
}

/// Every workgroup size, and the op.
async fn check_top(bench: &mut Bench, what: &str, x: &[f32], cols: usize) -> Result<()> {
    let mut rec = Recorder::new(&bench.gpu);
    let x_gpu = rec.upload_f32("logits", 1, x)?;
    let mut found = vec![highest::top(&mut rec, &x_gpu, cols)?];
    let parts = found[0].rows;
    for &overrides in highest::KERNEL.variants {
        let wg = overrides[0].1 as usize;
        let to = bench.gpu.persistent("parts", parts, 8, Element::U32)?;
        let turns = cols.div_ceil(4).div_ceil(parts * wg);
        let sizes = [cols as u32, parts as u32, turns as u32, 0];
        rec.dispatch(&highest::KERNEL, Variant::with(overrides), &sizes, &[&x_gpu, &to], [parts as u32, 1, 1]);
        found.push(to);
    }
    bench.run(rec)?;
    let want = top_twin(&wide(x), cols, parts);
    let want: Vec<u32> = want.iter().flat_map(|part| words(part, 4)).flatten().collect();
    for tensor in found {
        let got = bench.gpu.read_u32(&tensor, 0, want.len()).await?;
        bench.compare_ids(&(what, cols), &got, &want);
    }
    Ok(())
}

pub async fn top_widths(bench: &mut Bench) -> Result<()> {
    for cols in [1, 2, 3, 4, 5, 61, 255, 256, 257, 1023, 1025, 5003, 33_000, 151_665, 600_001] {
        let mut x = bench.values(cols, Data::Plain);
        check_top(bench, "plain", &x, cols).await?;
        // Rows of padding are higher, or no numbers, and do not count.
        x.extend([9.0, f32::NAN, f32::INFINITY, 10.0]);
        check_top(bench, "padding", &x, cols).await?;
        if cols > 40_000 {
            continue;
        }
        x[cols - 1] = 2.0;
        x[0] = 3.0;
        x[cols / 3..cols / 2].fill(2.0);
        check_top(bench, "ties", &x, cols).await?;
        x.fill(-7.5);
        check_top(bench, "all equal, negative", &x, cols).await?;
        x[..cols].fill(-0.0);
        x[cols - 1] = 0.0;
        check_top(bench, "zeros are equal", &x, cols).await?;
    }
    Ok(())
}

pub async fn top_special(bench: &mut Bench) -> Result<()> {
    for cols in [1, 5, 64, 300, 1031] {
        let low = vec![f32::NEG_INFINITY; cols];
        check_top(bench, "all -inf", &low, cols).await?;
        let mut x = low.clone();
        x[cols - 1] = f32::MIN;
        check_top(bench, "one above -inf", &x, cols).await?;
        for at in [0, cols / 2, cols - 1] {
            let mut x = bench.values(cols, Data::Outliers);
            x[at] = f32::INFINITY;
            check_top(bench, "+inf", &x, cols).await?;
            for bits in [0x7fc0_0000, 0xffc0_0000, 0x7f80_0001, 0xffff_ffff] {
                let mut x = bench.values(cols, Data::Plain);
                x[cols / 3] = f32::INFINITY;
                x[at] = f32::from_bits(bits);
                check_top(bench, "NaN", &x, cols).await?;
            }
        }
    }
    Ok(())
}

/// The choice among `x` after `penalty` on the ids `seen`, in the last of two slots.
async fn check_choice(bench: &mut Bench, what: &str, x: &[f32], cols: usize, seen: &[u32], penalty: f32) -> Result<()> {
    let to = Choices::new(&bench.gpu, cols, 2)?;
    let mut bits = vec![0u32; to.seen.len()];
    seen.iter().for_each(|id| bits[*id as usize / 32] |= 1 << (id % 32));
    let bytes: Vec<u8> = bits.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bench.gpu.write(&to.seen, 0, &bytes)?;
    let mut rec = Recorder::new(&bench.gpu);
    let x_gpu = rec.upload_f32("logits", 1, x)?;
    choose(&mut rec, &x_gpu, cols, (!seen.is_empty()).then_some(penalty), &to, 1)?;
    bench.run(rec)?;
    let parts = highest::parts(cols);
    let complete = cols.div_ceil(4) <= parts;
    let want = merge_twin(&top_twin(&wide(x), cols, parts), complete, seen, penalty.into());
    let list = bench.gpu.read_u32(&to.lists, LIST_WORDS, LIST_WORDS).await?;
    bench.compare_ids(&(what, cols, "list"), &list, &words(&want.list, merged::TOP).concat());
    let head = bench.gpu.read_u32(&to.heads, HEAD_WORDS, HEAD_WORDS).await?;
    let next = bench.gpu.read_u32(&to.next, 0, 1).await?;
    let rest = want.rest.map_or(0, key);
    bench.compare_ids(&(what, cols, "head"), &[head[0], head[3], next[0]], &[want.best.1, rest, want.best.1]);
    // A division in WGSL is good to 2.5 last places.
    let scores = [(head[1], Some(want.best.0)), (head[2], want.second)];
    for (got, want) in scores {
        match want {
            Some(want) if want.is_finite() => {
                let value = f64::from(merged::value(got));
                let close = (value - want).abs() <= 3e-7 * want.abs() && (!seen.is_empty() || value == want);
                bench.compare_ids(&(what, cols, "score", value, want), &[close.into()], &[1]);
            }
            want => bench.compare_ids(&(what, cols, "score"), &[got], &[want.map_or(0, key)]),
        }
    }
    // The chosen id is seen from now on.
    if !seen.is_empty() {
        bits[want.best.1 as usize / 32] |= 1 << (want.best.1 % 32);
    }
    let now = bench.gpu.read_u32(&to.seen, 0, bits.len()).await?;
    bench.compare_ids(&(what, cols, "seen"), &now, &bits);
    Ok(())
}

const COLS: [usize; 11] = [1, 2, 5, 63, 64, 65, 252, 256, 1031, 33_000, 151_665];

pub async fn top_merge(bench: &mut Bench) -> Result<()> {
    for cols in COLS {
        for data in [Data::Plain, Data::Outliers] {
            let x = bench.values(cols, data);
            check_choice(bench, "plain", &x, cols, &[], 1.0).await?;
        }
        let mut x = vec![1.5; cols + 3];
        check_choice(bench, "all equal", &x, cols, &[], 1.0).await?;
        // More of the highest in one part than it lists.
        let parts = highest::parts(cols);
        (0..cols).filter(|c| c / 4 % parts == 1 % parts).for_each(|c| x[c] = 3.0 + c as f32 / 1e6);
        check_choice(bench, "one part", &x, cols, &[], 1.0).await?;
        x.fill(f32::NEG_INFINITY);
        check_choice(bench, "all -inf", &x, cols, &[], 1.0).await?;
        x[cols / 2] = f32::INFINITY;
        check_choice(bench, "+inf", &x, cols, &[], 1.0).await?;
        x[cols / 3] = f32::NAN;
        check_choice(bench, "NaN", &x, cols, &[0], 1.1).await?;
    }
    Ok(())
}

pub async fn top_penalty(bench: &mut Bench) -> Result<()> {
    for cols in COLS {
        for penalty in [1.05, 1.0, 2.0] {
            let mut x = bench.values(cols, Data::Outliers);
            (x[0], x[cols / 2]) = (f32::NEG_INFINITY, 0.0);
            let seen: Vec<u32> = (0..cols as u32).filter(|id| id % 3 != 1).collect();
            check_choice(bench, "every third is new", &x, cols, &seen, penalty).await?;
            let best = (0..cols).max_by(|a, b| x[*a].total_cmp(&x[*b])).unwrap_or(0);
            check_choice(bench, "the best is seen", &x, cols, &[best as u32], penalty).await?;
            x.iter_mut().for_each(|x| *x = -x.abs());
            check_choice(bench, "all negative", &x, cols, &seen, penalty).await?;
        }
    }
    Ok(())
}
