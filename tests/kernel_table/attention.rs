//! Cases of attention, attention_decode and attention_merge.

use super::bench::{Bench, Data, Tolerance, absolute, constant, wide};
use super::engine::Result;
use super::engine::dtype::CacheFormat;
use super::engine::gpu::{Element, Kernel, Recorder, Tensor, Variant};
use super::engine::ops::attention::{Mask, Segment, attend, attention as attention_op};
use super::engine::ops::attention_decode::{KERNEL as DECODE, KERNEL_Q8 as DECODE_Q8};
use super::engine::ops::attention_merge::KERNEL as MERGE;
use super::engine::ops::rope::Heads;
use super::reference::attention::{Attention, Piece, attention};
use super::reference::attention_decode::{Split, split};
use super::reference::attention_merge::merge as merge_twin;
use super::reference::cache_store::{decode as worth_of, quantize};

/// exp of f32 scores, and their sums: relative to the probabilities' sum of |v|.
const PLAIN: Tolerance = Tolerance { abs: 1e-6, rel: 1e-5 };
/// A score of 4000 has a last place of 2.4e-4, and so exp of it a relative error of that size.
const LARGE: Tolerance = Tolerance { abs: 1e-6, rel: 4e-3 };

/// How queries and keys are made.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scores {
    /// Within some ±3.
    Plain,
    /// Up to some ±4000, so that one key takes all.
    Large,
    /// All the same, and about -4000: nothing but the maximum keeps exp from underflowing.
    Deep,
}

/// A problem. Rows of k and v that no query may read are NaN or would take all the weight.
#[derive(Debug, Clone, Copy)]
struct Problem {
    n: usize,
    q_heads: usize,
    kv_heads: usize,
    dim: usize,
    /// Keys that exist; the cache has room for three more.
    keys: usize,
    scores: Scores,
    values: Data,
}

impl Problem {
    fn heads(&self) -> Heads {
        Heads { q: self.q_heads, kv: self.kv_heads, dim: self.dim }
    }

    fn capacity(&self) -> usize {
        self.keys + 3
    }

    fn tolerance(&self) -> Tolerance {
        if self.scores == Scores::Plain { PLAIN } else { LARGE }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.dim as f64).sqrt()
    }

    fn query(&self, bench: &mut Bench) -> Vec<f32> {
        let mut q = bench.values(self.q_heads * self.n * self.dim, Data::Plain);
        match self.scores {
            Scores::Plain => q.iter_mut().for_each(|v| *v *= 3.0),
            Scores::Large => q.iter_mut().for_each(|v| *v = self.large().copysign(*v)),
            Scores::Deep => q.fill(self.large()),
        }
        q
    }

    fn large(&self) -> f32 {
        (4000.0 / self.scale() / self.dim as f64).sqrt() as f32
    }

    /// k and v with room for `capacity` keys and `keys` of them in use.
    fn cache(&self, bench: &mut Bench, keys: usize, capacity: usize) -> [Vec<f32>; 2] {
        let words = self.kv_heads * capacity * self.dim;
        let mut k = bench.values(words, Data::Plain);
        match self.scores {
            Scores::Plain => {}
            Scores::Large => k.iter_mut().for_each(|v| *v = self.large().copysign(*v)),
            Scores::Deep => k.fill(-self.large()),
        }
        let mut v = bench.values(words, self.values);
        for head in 0..self.kv_heads {
            let unused = (head * capacity + keys) * self.dim..(head + 1) * capacity * self.dim;
            let poison = [1e6, -1e6].into_iter().chain(std::iter::repeat(f32::NAN));
            for (row, poison) in k[unused.clone()].chunks_mut(self.dim).zip(poison) {
                row.fill(poison);
            }
            v[unused].fill(f32::NAN);
        }
        [k, v]
    }

    /// q, k, v.
    fn inputs(&self, bench: &mut Bench) -> [Vec<f32>; 3] {
        let q = self.query(bench);
        let [k, v] = self.cache(bench, self.keys, self.capacity());
        [q, k, v]
    }

    /// The twin's result over k and v in one piece or several, and the size of its sums.
    fn expected(&self, q: &[f32], pieces: Vec<Piece>, ranges: &[(usize, usize)]) -> (Vec<f64>, Vec<f64>) {
        let group = self.q_heads / self.kv_heads;
        let twin = Attention { n: self.n, q_heads: self.q_heads, group, dim: self.dim, scale: self.scale() };
        let q = wide(q);
        let want = attention(&q, &pieces, ranges, &twin);
        let sizes: Vec<Piece> = pieces.into_iter().map(|piece| Piece { v: absolute(&piece.v), ..piece }).collect();
        (want, attention(&q, &sizes, ranges, &twin))
    }

    fn whole(&self, k: &[f32], v: &[f32]) -> Vec<Piece> {
        vec![Piece { k: wide(k), v: wide(v), capacity: self.capacity(), keys: self.keys }]
    }
}

/// Through the op, with a key range per query.
async fn check(bench: &mut Bench, p: Problem, ranges: &[(usize, usize)]) -> Result<()> {
    let [q, k, v] = p.inputs(bench);
    let mut rec = Recorder::new(&bench.gpu);
    let words: Vec<u32> = ranges.iter().flat_map(|&(first, end)| [first as u32, end as u32]).collect();
    let ranges_gpu = rec.upload_u32("ranges", p.n, &words)?;
    let q_gpu = rec.upload_f32("q", p.q_heads * p.n, &q)?;
    let k_gpu = rec.upload_f32("k", p.kv_heads * p.capacity(), &k)?;
    let v_gpu = rec.upload_f32("v", p.kv_heads * p.capacity(), &v)?;
    // Both names of the same launch, in turn.
    let causal = Mask::Causal { past: p.keys - p.n.min(p.keys), ranges: Some(&ranges_gpu) };
    let mask = if p.n > 1 && p.keys % 2 == 1 { causal } else { Mask::Ranges(&ranges_gpu) };
    let o = attention_op(&mut rec, &q_gpu, &k_gpu, &v_gpu, &mask, p.heads(), p.capacity())?;
    bench.run(rec)?;

    let (want, size) = p.expected(&q, p.whole(&k, &v), ranges);
    bench.compare_sums(&(p, &ranges[..ranges.len().min(3)]), &o, &want, &size, p.tolerance()).await
}

const BASE: Problem =
    Problem { n: 1, q_heads: 1, kv_heads: 1, dim: 16, keys: 1, scores: Scores::Plain, values: Data::Plain };

/// (query heads, key heads): ratios 1, 2, 3 and 7.
const GROUPS: [(usize, usize); 7] = [(1, 1), (3, 3), (2, 1), (6, 2), (7, 1), (14, 2), (11, 1)];

const DIMS: [usize; 6] = [16, 20, 64, 80, 128, 256];

pub async fn causal(bench: &mut Bench) -> Result<()> {
    let mut turn = 0;
    for n in [2, 3, 5, 15, 16, 17, 33, 65, 130] {
        for dim in DIMS {
            let (q_heads, kv_heads) = GROUPS[turn % GROUPS.len()];
            let past = [0, 1, 7, 64, 130][turn % 5];
            let ranges: Vec<_> = (0..n).map(|i| (0, past + i + 1)).collect();
            check(bench, Problem { n, q_heads, kv_heads, dim, keys: past + n, ..BASE }, &ranges).await?;
            turn += if dim == 256 { 2 } else { 1 };
        }
    }
    Ok(())
}

pub async fn windows(bench: &mut Bench) -> Result<()> {
    for (dim, q_heads, kv_heads) in [(16, 2, 2), (20, 3, 1), (80, 2, 2), (128, 2, 1), (256, 3, 3)] {
        // A window is seen whole by all its queries; the sizes are those at the borders of an image, and others.
        for sizes in [&[64, 64, 32, 8, 4, 1][..], &[17, 3, 5, 61], &[1, 1, 1], &[130], &[1]] {
            let mut ranges = Vec::new();
            for &size in sizes {
                let first = ranges.len();
                ranges.extend((0..size).map(|_| (first, first + size)));
            }
            let n = ranges.len();
            check(bench, Problem { n, q_heads, kv_heads, dim, keys: n, ..BASE }, &ranges).await?;
        }
        // Any range at all, also in descending order; and one key each, the last first.
        let (n, keys) = (37, 101);
        let any: Vec<_> = (0..n)
            .map(|_| {
                let first = bench.below(keys);
                (first, first + 1 + bench.below(keys - first))
            })
            .collect();
        let single: Vec<_> = (0..n).map(|i| (keys - 1 - i, keys - i)).collect();
        let problem = Problem { n, q_heads, kv_heads, dim, keys, ..BASE };
        check(bench, problem, &any).await?;
        check(bench, problem, &single).await?;
    }
    Ok(())
}

pub async fn hard(bench: &mut Bench) -> Result<()> {
    for dim in DIMS {
        for scores in [Scores::Plain, Scores::Large, Scores::Deep] {
            for values in [Data::Plain, Data::Outliers] {
                let (n, keys) = (19, 45);
                let problem = Problem { n, q_heads: 4, kv_heads: 2, dim, keys, scores, values };
                let ranges: Vec<_> = (0..n).map(|i| (i / 3, keys - n + i + 1)).collect();
                check(bench, problem, &ranges).await?;
            }
        }
    }
    Ok(())
}

/// `split` alone, every declared variant over either cache, as one of several launches.
pub async fn decode_parts(bench: &mut Bench) -> Result<()> {
    for (kernel, format) in [(&DECODE, CacheFormat::F32), (&DECODE_Q8, CacheFormat::Q8)] {
        for &overrides in kernel.variants {
            let chunk = constant(overrides, "CHUNK");
            for (turn, keys) in [1, 2, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk + 5].into_iter().enumerate() {
                let (q_heads, kv_heads) = GROUPS[turn % GROUPS.len()];
                let dim = constant(overrides, "D");
                let scores = if turn % 3 == 2 { Scores::Large } else { Scores::Plain };
                let p = Problem { n: 1, q_heads, kv_heads, dim, keys, scores, values: Data::Plain };
                // A single part is another matter: `decode` has it.
                let alone = turn % 3 == 0 && keys <= chunk;
                parts_of(bench, p, kernel, overrides, format, [turn % 3, turn % 2 + usize::from(alone)], 1 + turn % 3)
                    .await?;
            }
        }
    }
    Ok(())
}

/// Parts of so many launches lie before and behind this one's.
async fn parts_of(
    bench: &mut Bench,
    p: Problem,
    kernel: &'static Kernel,
    overrides: &[(&'static str, f64)],
    format: CacheFormat,
    [first, behind]: [usize; 2],
    steps: usize,
) -> Result<()> {
    let Problem { q_heads, kv_heads, dim, keys, .. } = p;
    let chunk = steps * constant(overrides, "CHUNK");
    let [q, k, v] = p.inputs(bench);
    let here = keys.div_ceil(chunk);
    let splits = first + here + behind;
    let group = q_heads / kv_heads;
    let mut rec = Recorder::new(&bench.gpu);
    let q_gpu = rec.upload_f32("q", q_heads, &q)?;
    let (k_gpu, k) = stored(&mut rec, format, &k, dim)?;
    let (v_gpu, v) = stored(&mut rec, format, &v, dim)?;
    let part = rec.upload_f32("parts", q_heads * splits, &vec![f32::NAN; q_heads * splits * (dim + 4)])?;
    let [keys_, splits_, group_, capacity_, first_] =
        [keys, splits, group, p.capacity(), first].map(|size| size as u32);
    let params = [keys_, splits_, group_, capacity_, (p.scale() as f32).to_bits(), first_, steps as u32, 0];
    let groups = [here as u32, (kv_heads * group.div_ceil(constant(overrides, "HEADS"))) as u32, 1];
    rec.dispatch(kernel, Variant::with(overrides), &params, &[&q_gpu, &k_gpu, &v_gpu, &part], groups);
    bench.run(rec)?;

    let (capacity, scale) = (p.capacity(), p.scale());
    let twin = Split { keys, splits, first, q_heads, group, capacity, dim, chunk, scale };
    let q = wide(&q);
    let want = split(&q, &k, &v, &twin);
    let sums = split(&q, &k, &absolute(&v), &twin);
    // Of 4000, cancelling to anything.
    let max_size = if p.scores == Scores::Large { 4000.0 } else { 10.0 };
    let got = bench.gpu.read_f32(&part, 0, part.len()).await?;
    for (got, parts) in got.chunks(dim + 4).zip(want.iter().zip(&sums)) {
        let name = (format, p);
        let (Some(want), Some(sizes)) = parts else {
            let touched = got.iter().filter(|value| !value.is_nan()).count();
            bench.compare_ids(&("another launch's", name), &[touched as u32], &[0]);
            continue;
        };
        bench.compare_values(&("sum", name), &got[..dim], &want.sum, &sizes.sum, p.tolerance());
        let max = Tolerance { abs: 0.0, rel: 1e-6 };
        bench.compare_values(&("max", name), &got[dim..][..1], &[want.max], &[max_size], max);
        bench.compare_values(&("total", name), &got[dim + 1..][..1], &[want.total], &[want.total], p.tolerance());
    }
    Ok(())
}

/// Rows of a cache on the device, and what they are worth.
fn stored(rec: &mut Recorder, format: CacheFormat, values: &[f32], dim: usize) -> Result<(Tensor, Vec<f64>)> {
    let rows = values.len() / dim;
    if format == CacheFormat::F32 {
        return Ok((rec.upload_f32("cache", rows, values)?, wide(values)));
    }
    let (mut words, mut worth) = (Vec::new(), Vec::new());
    for row in values.chunks(dim) {
        let start = words.len();
        words.extend(quantize(&wide(row), None).words());
        if row[0].is_nan() {
            words[start + dim / 4..].fill(f32::NAN.to_bits());
        }
        worth.extend(worth_of(&words[start..], dim));
    }
    Ok((rec.upload_u32("cache", rows, &words)?, worth))
}

/// Through the op over segments with room for so many keys, of which the first `p.keys` are in use.
async fn check_segments(
    bench: &mut Bench,
    p: Problem,
    format: CacheFormat,
    rooms: &[usize],
    ranges: &[(usize, usize)],
) -> Result<()> {
    let q = p.query(bench);
    let mut rec = Recorder::new(&bench.gpu);
    let words: Vec<u32> = ranges.iter().flat_map(|&(first, end)| [first as u32, end as u32]).collect();
    let ranges_gpu = rec.upload_u32("ranges", p.n, &words)?;
    let q_gpu = rec.upload_f32("q", p.q_heads * p.n, &q)?;
    let (mut segments, mut pieces, mut left) = (Vec::new(), Vec::new(), p.keys);
    for &capacity in rooms {
        let keys = left.min(capacity);
        left -= keys;
        let [k, v] = p.cache(bench, keys, capacity);
        let (k_gpu, k) = stored(&mut rec, format, &k, p.dim)?;
        let (v_gpu, v) = stored(&mut rec, format, &v, p.dim)?;
        segments.push(Segment { k: k_gpu, v: v_gpu, capacity, format });
        pieces.push(Piece { k, v, capacity, keys });
    }
    let causal = ranges.iter().enumerate().all(|(i, &range)| range == (0, p.keys - p.n + i + 1));
    let mask =
        if causal { Mask::Causal { past: p.keys - p.n, ranges: Some(&ranges_gpu) } } else { Mask::Ranges(&ranges_gpu) };
    let o = attend(&mut rec, &q_gpu, &segments, &mask, p.heads())?;
    bench.run(rec)?;
    let (want, size) = p.expected(&q, pieces, ranges);
    let name = (format, rooms, p, &ranges[..ranges.len().min(3)]);
    bench.compare_sums(&name, &o, &want, &size, p.tolerance()).await
}

/// Room of each segment: one alone, small ones, one that no key is in yet, sizes about those of a tile.
const ROOMS: [&[usize]; 6] =
    [&[150], &[1, 1, 170], &[40, 5, 130, 16], &[16, 16, 160], &[17, 31, 64, 128], &[3, 160, 20]];

pub async fn segments(bench: &mut Bench) -> Result<()> {
    let mut turn = 0;
    for format in CacheFormat::ALL {
        for dim in DIMS {
            for n in [2, 7, 16, 37] {
                let (q_heads, kv_heads) = GROUPS[turn % GROUPS.len()];
                let scores = [Scores::Plain, Scores::Large, Scores::Plain, Scores::Deep][turn % 4];
                let values = if turn % 5 == 4 { Data::Outliers } else { Data::Plain };
                let keys = n + [0, 3, 60, 101][(turn + n) % 4];
                let p = Problem { n, q_heads, kv_heads, dim, keys, scores, values };
                let causal: Vec<_> = (0..n).map(|i| (0, keys - n + i + 1)).collect();
                check_segments(bench, p, format, ROOMS[turn % ROOMS.len()], &causal).await?;
                // Ranges that miss whole segments.
                let any: Vec<_> = (0..n)
                    .map(|_| {
                        let first = bench.below(keys);
                        (first, first + 1 + bench.below((keys - first).min(20)))
                    })
                    .collect();
                check_segments(bench, p, format, ROOMS[(turn + 3) % ROOMS.len()], &any).await?;
                turn += 1;
            }
        }
        // More than one row of tiles over the keys of each query.
        let p = Problem { n: 130, q_heads: 6, kv_heads: 2, dim: 64, keys: 140, ..BASE };
        let causal: Vec<_> = (0..p.n).map(|i| (0, 11 + i)).collect();
        check_segments(bench, p, format, &[8, 4, 150], &causal).await?;
    }
    Ok(())
}

pub async fn decode_segments(bench: &mut Bench) -> Result<()> {
    let mut turn = 0;
    for format in CacheFormat::ALL {
        for dim in DIMS {
            for (keys, rooms) in [
                (1, &[4][..]),
                (129, &[1, 200]),
                (300, &[128, 256]),
                (300, &[256, 44, 300]),
                (700, &[256, 256, 512]),
                (1000, &[3, 130, 127, 999]),
            ] {
                let (q_heads, kv_heads) = GROUPS[turn % GROUPS.len()];
                let scores = [Scores::Plain, Scores::Deep, Scores::Plain, Scores::Large][turn % 4];
                let p = Problem { n: 1, q_heads, kv_heads, dim, keys, scores, values: Data::Plain };
                check_segments(bench, p, format, rooms, &[(0, keys)]).await?;
                turn += 1;
            }
        }
    }
    Ok(())
}

/// One query through the op: split and merge.
pub async fn decode(bench: &mut Bench) -> Result<()> {
    let lengths = [1, 2, 3, 63, 64, 65, 127, 128, 129, 255, 257, 1000];
    for (turn, keys) in lengths.into_iter().enumerate() {
        for dim in DIMS {
            let (q_heads, kv_heads) = GROUPS[(turn + dim) % GROUPS.len()];
            let scores = [Scores::Plain, Scores::Large, Scores::Deep][turn % 3];
            let values = if dim == 128 { Data::Outliers } else { Data::Plain };
            one_query(bench, Problem { n: 1, q_heads, kv_heads, dim, keys, scores, values }).await?;
        }
    }
    for scores in [Scores::Plain, Scores::Deep] {
        one_query(bench, Problem { q_heads: 7, dim: 128, keys: 4099, scores, ..BASE }).await?;
    }
    Ok(())
}

async fn one_query(bench: &mut Bench, p: Problem) -> Result<()> {
    let [q, k, v] = p.inputs(bench);
    let mut rec = Recorder::new(&bench.gpu);
    let q_gpu = rec.upload_f32("q", p.q_heads, &q)?;
    let k_gpu = rec.upload_f32("k", p.kv_heads * p.capacity(), &k)?;
    let v_gpu = rec.upload_f32("v", p.kv_heads * p.capacity(), &v)?;
    let mask = Mask::Causal { past: p.keys - 1, ranges: None };
    let o = attention_op(&mut rec, &q_gpu, &k_gpu, &v_gpu, &mask, p.heads(), p.capacity())?;
    bench.run(rec)?;
    let (want, size) = p.expected(&q, p.whole(&k, &v), &[(0, p.keys)]);
    bench.compare_sums(&p, &o, &want, &size, p.tolerance()).await
}

/// `merge` alone: parts whose maxima lie far apart, unused columns NaN.
pub async fn merge(bench: &mut Bench) -> Result<()> {
    for &overrides in MERGE.variants {
        let dim = constant(overrides, "D");
        for (splits, heads) in [(1, 1), (2, 3), (7, 2), (33, 7), (130, 1)] {
            let mut part = Vec::new();
            for i in 0..heads * splits {
                part.extend(bench.values(dim, Data::Plain));
                let max = bench.signed() * if i % 2 == 0 { 5.0 } else { 200.0 };
                part.extend([max, 1.0 + 100.0 * bench.signed().abs(), f32::NAN, f32::NAN]);
            }
            let mut rec = Recorder::new(&bench.gpu);
            let part_gpu = rec.upload_f32("parts", heads * splits, &part)?;
            let o = bench.gpu.persistent("o", heads, dim, Element::F32)?;
            let params = [splits as u32, 0, 0, 0];
            let groups = [heads as u32, 1, 1];
            rec.dispatch(&MERGE, Variant::with(overrides), &params, &[&part_gpu, &o], groups);
            bench.run(rec)?;
            let part = wide(&part);
            let want = merge_twin(&part, heads, splits, dim);
            // A sum over the parts of terms below 1, divided by totals above 1.
            let size = vec![1.0; want.len()];
            bench.compare_sums(&(dim, splits, heads), &o, &want, &size, PLAIN).await?;
        }
    }
    Ok(())
}
