//! Quantizes keys and values and stores them in a segment of the cache: `shaders/cache_store.wgsl`.

use super::attention::Segment;
use super::check;
use crate::dtype::CacheFormat;
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Kernel, Recorder, Tensor, Variant};

/// Parts: shared/grid, cache_store.
pub static KERNEL: Kernel = Kernel {
    name: "cache_store",
    source: include_str!("../../shaders/cache_store.wgsl"),
    shared: &[include_str!("../../shaders/shared/grid.wgsl")],
    entry: "store",
    weight: false,
    storage: &[Read, Read, Read, Write, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("WG", 64.0)]],
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    n: u32,
    kv_heads: u32,
    d4: u32,
    past: u32,
    capacity: u32,
    centred: u32,
    first4: u32,
    pad: u32,
}

/// Quantizes the rows of k, v `[kv_heads * n, dim]` into rows `past ..` of a q8 segment. Before that, `centre` is subtracted
/// from every key, which changes no attention: `[kv_heads * dim]` f32, from the given word on, a multiple of 4.
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes do not match.
pub fn cache_store(
    rec: &mut Recorder,
    k: &Tensor,
    v: &Tensor,
    kv_heads: usize,
    centre: Option<(&Tensor, usize)>,
    to: &Segment,
    past: usize,
) -> Result<()> {
    let dim = k.cols;
    check("cache_store heads", &[kv_heads.max(1)], &[k.rows], kv_heads > 0 && k.rows.is_multiple_of(kv_heads))?;
    let n = k.rows / kv_heads;
    check("cache_store v", &[k.rows, dim], &[v.rows, v.cols], (v.rows, v.cols) == (k.rows, dim))?;
    check("cache_store row", &[dim.next_multiple_of(4)], &[dim], dim.is_multiple_of(4))?;
    check("cache_store rows", &[past + n], &[to.capacity], past + n <= to.capacity)?;
    check("cache_store format", &[1], &[0], to.format == CacheFormat::Q8)?;
    let words = to.words(kv_heads, dim);
    let room = to.k.len() >= words && to.v.len() >= words;
    check("cache_store k, v", &[words, words], &[to.k.len(), to.v.len()], room)?;
    if let Some((centre, first)) = centre {
        let end = first.next_multiple_of(4) + kv_heads * dim;
        check("cache_store centre", &[end], &[centre.len()], first.is_multiple_of(4) && end <= centre.len())?;
    }
    let params = Params {
        n: n as u32,
        kv_heads: kv_heads as u32,
        d4: dim as u32 / 4,
        past: past as u32,
        capacity: to.capacity as u32,
        centred: centre.is_some().into(),
        first4: centre.map_or(0, |(_, first)| first as u32 / 4),
        pad: 0,
    };
    let groups = rec.grid((2 * k.rows * dim.div_ceil(16)).div_ceil(64));
    rec.dispatch(
        &KERNEL,
        Variant::with(&[("WG", 64.0)]),
        &params,
        &[k, v, centre.map_or(k, |(centre, _)| centre), &to.k, &to.v],
        groups,
    );
    Ok(())
}
