//! The highest logits of a row, and the best of them after a repetition penalty: `shaders/top_merge.wgsl`.

use super::{check, top};
use crate::error::Result;
use crate::gpu::Access::{Read, Write};
use crate::gpu::{Element, Gpu, Kernel, Recorder, Tensor, Variant};

/// Parts: top_merge.
pub static KERNEL: Kernel = Kernel {
    name: "top_merge",
    source: include_str!("../../shaders/top_merge.wgsl"),
    shared: &[],
    entry: "top_merge",
    weight: false,
    storage: &[Read, Write, Write, Write, Write],
    params_bytes: size_of::<Params>(),
    variants: &[&[("PENALTY", 0.0)], &[("PENALTY", 1.0)]],
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    parts: u32,
    complete: u32,
    slot: u32,
    penalty: f32,
}

/// How many of the highest logits are listed.
pub const TOP: usize = 64;
/// Words of a slot of [`Choices::heads`].
pub const HEAD_WORDS: usize = 4;
/// Words of a slot of [`Choices::lists`].
pub const LIST_WORDS: usize = 2 * TOP;

/// Where the choice of a token goes, and what the next one starts from.
pub struct Choices {
    /// The ids that the repetition penalty applies to: bit `id % 32` of word `id / 32`.
    pub seen: Tensor,
    /// The id that was chosen last.
    pub next: Tensor,
    /// For each slot the chosen id and three keys ([`value`]): of its logit after the penalty, the highest that any other id can have
    /// after it, and the highest of the ids beyond the list, 0 if there are none.
    pub heads: Tensor,
    /// For each slot [`TOP`] keys from the highest down, before the penalty, and their ids.
    pub lists: Tensor,
}

impl Choices {
    /// Room for `slots` tokens over a vocabulary of `vocab` ids.
    ///
    /// # Errors
    /// As [`Gpu::persistent`].
    pub fn new(gpu: &Gpu, vocab: usize, slots: usize) -> Result<Self> {
        let make = |what, rows, cols| gpu.persistent(what, rows, cols, Element::U32);
        Ok(Choices {
            seen: make("seen ids", 1, vocab.div_ceil(32))?,
            next: make("chosen id", 1, 1)?,
            heads: make("chosen ids", slots, HEAD_WORDS)?,
            lists: make("likeliest ids", slots, LIST_WORDS)?,
        })
    }

    /// The bytes of all four.
    pub fn bytes(vocab: usize, slots: usize) -> u64 {
        let words = [vocab.div_ceil(32), 1, slots * HEAD_WORDS, slots * LIST_WORDS];
        words.into_iter().map(|words| 4 * words.next_multiple_of(4) as u64).sum()
    }
}

/// The number that a key stands for: +NaN for those above that of +∞.
pub fn value(key: u32) -> f32 {
    match key {
        0xff80_0001.. => f32::NAN,
        0x8000_0000.. => f32::from_bits(key & 0x7fff_ffff),
        _ => f32::from_bits(!key),
    }
}

/// Writes the choice among the first `cols` of the logits x `[1, ..]` into `slot`: the highest of all after `penalty`, if it is at
/// least 1 and the list reaches far enough down, see [`Choices::heads`].
///
/// # Errors
/// [`crate::Error::Shape`] if x has fewer than `cols` values, or if there is no such slot or no bit for an id.
pub fn choose(
    rec: &mut Recorder,
    x: &Tensor,
    cols: usize,
    penalty: Option<f32>,
    to: &Choices,
    slot: usize,
) -> Result<()> {
    check("choice bits", &[cols.div_ceil(32)], &[to.seen.len()], cols.div_ceil(32) <= to.seen.len())?;
    let slots = [to.heads.len() / HEAD_WORDS, to.lists.len() / LIST_WORDS];
    check("choice slot", &[slot + 1, slot + 1], &slots, slots.iter().all(|slots| slot < *slots))?;
    let part = top::top(rec, x, cols)?;
    let params = Params {
        parts: part.rows as u32,
        complete: (cols.div_ceil(4) <= part.rows).into(),
        slot: slot as u32,
        penalty: penalty.unwrap_or(1.0),
    };
    let variant = Variant::with(&[("PENALTY", penalty.is_some().into())]);
    rec.dispatch(&KERNEL, variant, &params, &[&part, &to.seen, &to.next, &to.heads, &to.lists], [1, 1, 1]);
    Ok(())
}
