//! Cases of cache_store.

use super::bench::{Bench, Data, wide};
use super::engine::Result;
use super::engine::dtype::CacheFormat;
use super::engine::gpu::Recorder;
use super::engine::ops::attention::Segment;
use super::engine::ops::cache_store::cache_store;
use super::reference::cache_store::{Row, quantize};

pub async fn store(bench: &mut Bench) -> Result<()> {
    // past: where the rows go; spare: rows behind them.
    for (n, kv_heads, dim, past, spare) in [
        (1, 1, 4, 0, 0),
        (1, 2, 128, 129, 7),
        (2, 1, 16, 5, 3),
        (3, 3, 20, 0, 1),
        (5, 2, 36, 1, 0),
        (17, 2, 64, 0, 15),
        (33, 1, 80, 31, 4),
        (70, 2, 128, 3, 2),
        (130, 1, 256, 0, 1),
        (2049, 2, 16, 6, 1),
    ] {
        let capacity = past + n + spare;
        let mut inputs = [Data::Plain, Data::Outliers].map(|data| bench.values(kv_heads * n * dim, data));
        if n > 2 {
            // Nothing but zeros, numbers without a reciprocal, and a group of one size.
            inputs[0][..dim].fill(0.0);
            inputs[1][..dim].fill(1e-39);
            inputs[1][dim..2 * dim].fill(-3.5);
        }
        // From the first word that is not NaN; none every third time.
        let (first, centred) = (4 * (n % 4), n % 3 != 0);
        let mut centre = vec![f32::NAN; first];
        centre.extend((0..kv_heads * dim).map(|i| if i % 7 == 3 { 40.0 } else { 2.0 * bench.signed() }));
        let width = CacheFormat::Q8.row_words(dim);
        let old: Vec<u32> = (0..(kv_heads * capacity * width) as u32).map(|i| i ^ 0xa5a5_0000).collect();
        let mut rec = Recorder::new(&bench.gpu);
        let [k, v] = [0, 1].map(|i| rec.upload_f32("rows", kv_heads * n, &inputs[i]));
        let [k_to, v_to] = [0, 1].map(|_| rec.upload_u32("segment", kv_heads * capacity, &old));
        let to = Segment { k: k_to?, v: v_to?, capacity, format: CacheFormat::Q8 };
        let centre_gpu = rec.upload_f32("centre", 1, &centre)?;
        cache_store(&mut rec, &k?, &v?, kv_heads, centred.then_some((&centre_gpu, first)), &to, past)?;
        bench.run(rec)?;
        for (input, tensor, centred) in [(&inputs[0], &to.k, centred), (&inputs[1], &to.v, false)] {
            let got = bench.gpu.read_u32(tensor, 0, tensor.len()).await?;
            for (at, got) in got.chunks(width).enumerate() {
                let (head, row) = (at / capacity, at % capacity);
                let name = (n, kv_heads, dim, past, spare, head, row);
                if !(past..past + n).contains(&row) {
                    bench.compare_ids(&("a row of others", name), got, &old[at * width..][..width]);
                    continue;
                }
                let values = wide(&input[(head * n + row - past) * dim..][..dim]);
                let centre = centred.then(|| wide(&centre[first + head * dim..][..dim]));
                let found = wrong(got, &quantize(&values, centre.as_deref()));
                bench.compare_ids(&("codes and scales that are off", name, &found), &[found.len() as u32], &[0]);
            }
        }
    }
    Ok(())
}

/// Words of a row that are not what they should be: scales to a few last places, codes to the nearest (or the other one, where
/// a ratio lies that close to the middle).
fn wrong(got: &[u32], want: &Row) -> Vec<(usize, u32)> {
    let quarter = want.ratios.len() / 4;
    let scales = got[quarter..].iter().zip(&want.scales).map(|(&got, &want)| {
        let scale = f64::from(f32::from_bits(got));
        (scale - want).abs() <= 1e-6 * want || (want < 1e-38 && scale == 0.0)
    });
    let codes = got[..quarter].iter().enumerate().map(|(i, word)| {
        (0..4).all(|j| {
            let code = f64::from((word >> (8 * j)) as u8 as i8);
            let tiny = want.scales[(4 * i + j) / 16] < 1e-38 && code == 0.0;
            tiny || (code - want.ratios[4 * i + j]).abs() <= 0.5 + 1e-4
        })
    });
    let fine: Vec<bool> = codes.chain(scales).collect();
    (0..fine.len()).filter(|&i| !fine[i]).map(|i| (i, got[i])).collect()
}
