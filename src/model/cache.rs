//! The KV cache: keys and values of every decoder layer, by head, in segments, so that it grows without a copy. Caches share
//! segments until one of them has to write where another reads.

use std::rc::Rc;

use crate::dtype::CacheFormat;
use crate::error::{Error, Result};
use crate::gpu::{Element, Gpu, Lease, Recorder, Rehearsal, Run, Tensor};
use crate::ops::attention::{self, Mask, Segment, attend};
use crate::ops::cache_store::cache_store;
use crate::ops::rope::{HeadNorm, Heads, RopeTarget, rope};

/// What a cache is made of.
#[derive(Debug, Clone, Copy)]
pub struct CacheShape {
    /// Decoder layers.
    pub layers: usize,
    /// Heads of a layer.
    pub heads: Heads,
    /// How a key or value lies in it.
    pub format: CacheFormat,
}

/// What is done with the query and key heads of new positions.
#[derive(Clone, Copy)]
pub struct Rotation<'a> {
    /// The norm that comes first, if there is one.
    pub norm: Option<HeadNorm<'a>>,
    /// Rows of cosines, then sines: `[.., head_dim]`.
    pub table: &'a Tensor,
    /// The row of the first new position.
    pub row: usize,
}

/// The cache of one conversation. The positions of a segment are consecutive, and the segments of all layers are alike. A clone
/// takes no memory: it holds the same pieces, and [`KvCache::reserve`] parts them where that is needed.
#[derive(Clone)]
pub struct KvCache {
    shape: CacheShape,
    /// In the order of positions: a segment of every layer. Only what is held once is written to.
    pieces: Vec<Rc<Vec<Segment>>>,
    /// Positions filled.
    len: usize,
}

/// Rooms of segments are multiples of this, but for that of the last, so that a growing conversation seldom needs one.
const STEP: usize = 256;
const _: () = assert!(STEP.is_multiple_of(crate::ops::attention_decode::CHUNK));

impl CacheShape {
    /// Bytes of the keys (or values) of one layer in a segment of so many positions.
    fn buffer(&self, positions: usize) -> u64 {
        4 * self.heads.kv as u64 * positions as u64 * self.format.row_words(self.heads.dim) as u64
    }

    /// Bytes of the whole cache when it has grown to `context` positions, in whichever segments.
    pub fn bytes(&self, context: usize) -> u64 {
        2 * self.layers as u64 * self.buffer(whole(context))
    }

    /// Positions that a segment has room for at most, where a buffer holds so many bytes.
    fn most(&self, max_binding: u64) -> usize {
        let positions = max_binding / self.buffer(1).max(1);
        (usize::try_from(positions).unwrap_or(usize::MAX) / STEP * STEP).max(STEP)
    }

    /// Bytes of the largest buffer of a cache of `context` positions.
    pub fn largest_buffer(&self, context: usize, max_binding: u64) -> u64 {
        self.buffer(whole(context).min(self.most(max_binding)))
    }

    /// Segments that a cache of `context` positions has at most: each doubles it, is the largest possible, or the last.
    fn segments(&self, context: usize, max_binding: u64) -> usize {
        (context / STEP).max(1).ilog2() as usize + context.div_ceil(self.most(max_binding)) + 1
    }

    /// [`KvCache::attention`] on paper, for `n` tokens of which the last sees `keys` keys.
    pub fn rehearse(&self, pool: &Rehearsal, n: usize, keys: usize) -> Lease {
        let Heads { q, kv, dim } = self.heads;
        let _q = pool.scratch("q", q * n, dim);
        if self.format != CacheFormat::F32 {
            let _rotated = ["k", "v"].map(|what| pool.scratch(what, kv * n, dim));
        }
        attention::rehearse(pool, n, self.heads, keys)
    }

    /// Launches of [`KvCache::attention`] at most: rope, the quantizer, attention over each segment, its merge.
    pub fn launches(&self, keys: usize, max_binding: u64) -> usize {
        3 + self.segments(keys, max_binding)
    }
}

/// Buffers are multiples of 16 bytes.
fn whole(positions: usize) -> usize {
    positions.next_multiple_of(4)
}

impl KvCache {
    /// An empty cache without any memory yet.
    pub fn new(shape: CacheShape) -> Self {
        KvCache { shape, pieces: Vec::new(), len: 0 }
    }

    /// What it is made of.
    pub fn shape(&self) -> &CacheShape {
        &self.shape
    }

    /// Positions filled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is filled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Room of each segment in order.
    pub fn segments(&self) -> impl Iterator<Item = usize> {
        self.pieces.iter().map(|piece| piece.first().map_or(0, |segment| segment.capacity))
    }

    /// Makes room for `needed` positions of the `limit` that there will ever be, by segments that each at least double the
    /// cache, as far as a binding reaches. What is filled stays where it is, unless a clone holds the segment that the next
    /// position goes to: then its filled part is copied, and the clone keeps the original.
    ///
    /// # Errors
    /// [`Error::DeviceTooSmall`], [`Error::OutOfMemory`]. The cache has then no memory and no positions.
    pub fn reserve(&mut self, gpu: &Gpu, needed: usize, limit: usize) -> Result<()> {
        if needed <= self.len {
            return Ok(());
        }
        let (at, past) = self.place();
        let shared = (at..self.pieces.len()).find(|i| Rc::strong_count(&self.pieces[*i]) > 1);
        let mut parted = None;
        if let Some(first) = shared {
            // What lies behind holds nothing of this cache.
            parted = self.pieces.drain(first..).next().filter(|_| first == at && past > 0);
        }
        let mut room: usize = self.segments().sum();
        if needed > room && self.len == 0 {
            // One segment is quicker than several.
            self.clear(gpu);
            room = 0;
        }
        while needed > room {
            let more = self.more(room, needed, limit, gpu.caps().max_binding);
            let copied = self.grow(gpu, more).and_then(|()| match parted.take() {
                // The first segment that is new holds it: what is needed is no less, and neither bound was lower before.
                Some(from) => self.copy(gpu, &from, past),
                None => Ok(()),
            });
            if let Err(error) = copied {
                self.clear(gpu);
                return Err(error);
            }
            room += more;
        }
        Ok(())
    }

    /// Positions of the segment that follows on `room` of them.
    fn more(&self, room: usize, needed: usize, limit: usize, max_binding: u64) -> usize {
        let more = (needed - room).max(room).next_multiple_of(STEP);
        let more = more.min(self.shape.most(max_binding));
        // A limit is kept to, so that what all take is known.
        more.min(whole(limit.max(needed)) - room)
    }

    /// Room that there will be when `prompt` positions, of which the first `kept` stay, have become `end` one by one:
    /// [`KvCache::reserve`] on paper.
    pub fn room_for(&self, kept: usize, prompt: usize, end: usize, limit: usize, max_binding: u64) -> usize {
        let mut room: usize = self.segments().sum();
        if prompt > room && kept == 0 {
            room = 0;
        }
        while prompt > room {
            room += self.more(room, prompt, limit, max_binding);
        }
        while end > room {
            room += self.more(room, room + 1, limit, max_binding);
        }
        room
    }

    /// Appends a segment to every layer.
    fn grow(&mut self, gpu: &Gpu, capacity: usize) -> Result<()> {
        let CacheShape { layers, heads, format } = self.shape;
        let make = |what| gpu.persistent(what, heads.kv * capacity, format.row_words(heads.dim), Element::F32);
        let segment = |_| Ok(Segment { k: make("keys")?, v: make("values")?, capacity, format });
        self.pieces.push(Rc::new((0..layers).map(segment).collect::<Result<_>>()?));
        Ok(())
    }

    /// Fills the first `filled` positions of the last segment from another one.
    fn copy(&self, gpu: &Gpu, from: &[Segment], filled: usize) -> Result<()> {
        let CacheShape { heads, format, .. } = self.shape;
        let row = format.row_words(heads.dim);
        let mut runs = Vec::new();
        for (from, to) in from.iter().zip(self.pieces.last().into_iter().flat_map(|piece| piece.iter())) {
            for (from_rows, to_rows) in [(&from.k, &to.k), (&from.v, &to.v)] {
                runs.extend((0..heads.kv).map(|head| Run {
                    from: from_rows,
                    first: head * from.capacity * row,
                    to: to_rows,
                    start: head * to.capacity * row,
                    words: filled * row,
                }));
            }
        }
        gpu.copy(&runs)
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self, gpu: &Gpu) {
        let before = self.segments().count();
        *self = KvCache::new(self.shape);
        if before > 0 {
            // Cached bind groups name the buffers.
            gpu.trim();
        }
    }

    /// Forgets everything after the first `len` positions.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Notes that the `n` positions after the last are filled.
    pub fn advance(&mut self, n: usize) {
        self.len += n;
    }

    /// The segment that the next position goes to, and the place there.
    fn place(&self) -> (usize, usize) {
        let (mut segment, mut past) = (0, self.len);
        for room in self.segments() {
            if past < room {
                break;
            }
            past -= room;
            segment += 1;
        }
        (segment, past)
    }

    /// Positions that can be appended at once: those left in the segment of the next one.
    pub fn room(&self) -> usize {
        let (segment, past) = self.place();
        self.segments().nth(segment).map_or(0, |room| room - past)
    }

    /// Attention of layer `layer`: treats the heads of q and k of `qkv` `[n, (q + 2 kv) * dim]` as `rotation` says, puts keys and
    /// values behind those that there are, at most [`KvCache::room`], and lets each query see all up to its own; `ranges` `[n, 2]`,
    /// which are `0 .. len + i + 1`, are needed where `n` is more than 1. `bias` is what was added to `qkv`: some of Qwen2's keys
    /// are little else, which 8 bits would not be enough for, so a q8 cache keeps the difference. Returns `[n, q * dim]`. The
    /// caller advances the cache when all layers are done.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::DeviceTooSmall`].
    pub fn attention(
        &self,
        rec: &mut Recorder,
        layer: usize,
        qkv: &Tensor,
        bias: Option<&Tensor>,
        rotation: Rotation<'_>,
        ranges: Option<&Tensor>,
    ) -> Result<Tensor> {
        let CacheShape { heads, format, .. } = self.shape;
        let n = qkv.rows;
        let (at, past) = self.place();
        // Handles alone: a segment of this layer in each piece.
        let segments: Vec<Segment> = self.pieces.iter().filter_map(|piece| piece.get(layer).cloned()).collect();
        let Some(segment) = segments.get(at) else {
            return Err(Error::Shape { what: "cache".into(), expected: vec![self.len + n], found: vec![self.len] });
        };
        let q = rec.scratch("q", heads.q * n, heads.dim)?;
        let to = |k, v, capacity, past| RopeTarget {
            q: &q,
            q_capacity: n,
            row: 0,
            table_row: rotation.row,
            k,
            v,
            capacity,
            past,
        };
        if format == CacheFormat::F32 {
            rope(rec, qkv, rotation.norm, rotation.table, heads, to(&segment.k, &segment.v, segment.capacity, past))?;
        } else {
            let k = rec.scratch("k", heads.kv * n, heads.dim)?;
            let v = rec.scratch("v", heads.kv * n, heads.dim)?;
            rope(rec, qkv, rotation.norm, rotation.table, heads, to(&k, &v, n, 0))?;
            // As it is at position 0: the outliers are in the slow frequencies, where it stays nearly that.
            let centre = bias.map(|bias| (bias, heads.q * heads.dim));
            cache_store(rec, &k, &v, heads.kv, centre, segment, past)?;
        }
        attend(rec, &q, &segments, &Mask::Causal { past: self.len, ranges }, heads)
    }
}
