//! The text decoder of the whole family on one page; what differs between members are flags of [`DecoderConfig`].
//!
//! transformers: `Qwen2_5_VLTextModel` in `modeling_qwen2_5_vl.py`, `Qwen3VLTextModel` in `modeling_qwen3_vl.py`.

use crate::dtype::CacheFormat;
use crate::error::Result;
use crate::gpu::{Lease, Recorder, Rehearsal, Tensor};
use crate::model::Embeds;
use crate::model::cache::{CacheShape, KvCache, Rotation};
use crate::model::config::Config;
use crate::model::load::Loaded;
use crate::ops::embed::embed;
use crate::ops::gather_rows::{add_rows, gather_rows};
use crate::ops::rms_norm::rms_norm;
use crate::ops::rope::{HeadNorm, Heads};
use crate::ops::swiglu::swiglu;
use crate::ops::{LinearOptions, Rows, Weight, linear};

/// What the decoder needs to know of a configuration.
#[derive(Debug, Clone)]
pub struct DecoderConfig {
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Attention heads.
    pub heads: Heads,
    /// RMSNorm epsilon.
    pub eps: f32,
    /// Rows of the embedding matrix.
    pub vocab: usize,
    /// Rows of the stacked gate and up projections: twice the MLP's width, padding included.
    pub gate_up: usize,
    /// Whether query and key heads are normalised.
    pub qk_norm: bool,
}

impl DecoderConfig {
    /// What a checkpoint's configuration says.
    pub fn of(config: &Config) -> Self {
        let text = &config.text;
        DecoderConfig {
            layers: text.num_hidden_layers,
            hidden: text.hidden_size,
            heads: Heads { q: text.num_attention_heads, kv: text.num_key_value_heads, dim: text.head_dim },
            eps: text.rms_norm_eps as f32,
            vocab: text.vocab_size,
            gate_up: 2 * text.intermediate_size.next_multiple_of(4),
            qk_norm: config.family.text.qk_norm,
        }
    }

    /// What a conversation's cache is made of.
    pub fn cache(&self, format: CacheFormat) -> CacheShape {
        CacheShape { layers: self.layers, heads: self.heads, format }
    }

    /// [`Decoder::forward`] on paper, for `n` rows of which the last sees `keys` keys.
    pub fn rehearse_forward(&self, pool: &Rehearsal, n: usize, keys: usize, cache: CacheFormat) {
        let Heads { q, kv, dim } = self.heads;
        let cache = self.cache(cache);
        // A third layer would find what the second has given back.
        for _ in 0..self.layers.min(2) {
            let _x = pool.scratch("rms_norm", n, self.hidden);
            let _qkv = pool.scratch("qkv", n, (q + 2 * kv) * dim);
            let _o = cache.rehearse(pool, n, keys);
            let _x = pool.scratch("rms_norm", n, self.hidden);
            let _gate_up = pool.scratch("gate_up", n, self.gate_up);
            let _x = pool.scratch("swiglu", n, self.gate_up / 2);
        }
        pool.launch((7 + cache.launches(keys, pool.max_binding())) * self.layers);
    }

    /// Multiplications and additions of `n` tokens after `past` others and of the logits of the last.
    pub fn flops(&self, past: u64, n: u64) -> u64 {
        let Heads { q, kv, dim } = self.heads;
        let [q, kv] = [q, kv].map(|heads| (heads * dim) as u64);
        let (hidden, gate_up) = (self.hidden as u64, self.gate_up as u64);
        let linear = hidden * (q + 2 * kv) + q * hidden + hidden * gate_up + gate_up / 2 * hidden;
        // Each token sees all before it and itself, once for its scores and once for the sum of values.
        let keys = n.saturating_mul(past).saturating_add(n.saturating_mul(n + 1) / 2);
        let layer = n.saturating_mul(linear).saturating_add(keys.saturating_mul(2 * q));
        2 * layer.saturating_mul(self.layers as u64).saturating_add(hidden * self.vocab as u64)
    }

    /// [`Decoder::logits`] on paper, for `n` rows.
    pub fn rehearse_logits(&self, pool: &Rehearsal, n: usize) -> Lease {
        let _x = pool.scratch("rms_norm", n, self.hidden);
        pool.launch(2);
        pool.scratch("logits", n, self.vocab)
    }
}

struct Layer {
    input_norm: Tensor,
    qkv: Weight,
    qkv_bias: Option<Tensor>,
    /// Gains of the norms of query and key heads.
    qk_norm: Option<(Tensor, Tensor)>,
    o: Weight,
    post_norm: Tensor,
    gate_up: Weight,
    down: Weight,
}

/// Embeddings of pictures among the rows of a pass.
pub struct Splice<'a> {
    /// For each row of the pass which row of `embeds` takes its place, or [`crate::ops::gather_rows::KEEP`]: `[n, 1]`.
    pub index: Tensor,
    /// The embeddings of the pictures.
    pub embeds: &'a Embeds,
}

/// The decoder's weights on the device.
pub struct Decoder {
    config: DecoderConfig,
    embed: Weight,
    layers: Vec<Layer>,
    norm: Tensor,
    /// Absent when tied: then the embedding matrix serves.
    lm_head: Option<Weight>,
}

impl Decoder {
    /// Takes the decoder's weights out of what was loaded.
    ///
    /// # Errors
    /// [`crate::Error::Missing`] if one is not there.
    pub fn new(config: DecoderConfig, tied: bool, loaded: &mut Loaded) -> Result<Self> {
        let layers = (0..config.layers)
            .map(|i| {
                let name = |part: &str| format!("text.layers.{i}.{part}");
                Ok(Layer {
                    input_norm: loaded.vector(&name("input_norm"))?,
                    qkv: loaded.matrix(&name("qkv"))?,
                    qkv_bias: loaded.optional_vector(&name("qkv.bias")),
                    qk_norm: match config.qk_norm {
                        true => Some((loaded.vector(&name("q_norm"))?, loaded.vector(&name("k_norm"))?)),
                        false => None,
                    },
                    o: loaded.matrix(&name("o"))?,
                    post_norm: loaded.vector(&name("post_norm"))?,
                    gate_up: loaded.matrix(&name("gate_up"))?,
                    down: loaded.matrix(&name("down"))?,
                })
            })
            .collect::<Result<_>>()?;
        let lm_head = if tied { None } else { Some(loaded.matrix("lm_head")?) };
        Ok(Decoder { embed: loaded.matrix("text.embed")?, layers, norm: loaded.vector("text.norm")?, lm_head, config })
    }

    /// The configuration.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Token embeddings `[n, hidden]` of ids `[n, 1]`, each below the number of rows.
    ///
    /// # Errors
    /// [`crate::Error::DeviceTooSmall`].
    pub fn embed(&self, rec: &mut Recorder, ids: &Tensor) -> Result<Tensor> {
        embed(rec, ids, &self.embed)
    }

    /// All layers over `h` `[n, hidden]`, in place, once pictures have taken the place of their pads; keys and values are
    /// appended to the cache, at most [`KvCache::room`].
    ///
    /// `rotation` holds cosines and sines of the new positions, `ranges` `[n, 2]` the keys that each sees
    /// (`0 .. cache.len() + i + 1`). The caller advances the cache.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] or [`crate::Error::DeviceTooSmall`].
    pub fn forward(
        &self,
        rec: &mut Recorder,
        h: &Tensor,
        rotation: Rotation<'_>,
        ranges: Option<&Tensor>,
        splices: &[Splice<'_>],
        cache: &KvCache,
    ) -> Result<()> {
        let eps = self.config.eps;
        let n = h.rows;
        let rows = Rows::first(n);
        let plain = LinearOptions::default();
        let residual = LinearOptions { add: true, ..plain };
        for Splice { index, embeds } in splices {
            gather_rows(rec, &embeds.main, index, h)?;
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let x = rms_norm(rec, h, &layer.input_norm, eps, 0, n)?; // [n, hidden]
            let qkv = rec.scratch("qkv", n, layer.qkv.rows)?; // [n, (q + 2 kv) * dim]
            linear(rec, &x, &layer.qkv, layer.qkv_bias.as_ref(), &qkv, rows, plain)?;
            let norm = layer.qk_norm.as_ref().map(|(q_gain, k_gain)| HeadNorm { q_gain, k_gain, eps });
            let rotation = Rotation { norm, ..rotation };
            let o = cache.attention(rec, i, &qkv, layer.qkv_bias.as_ref(), rotation, ranges)?; // [n, q * dim]
            linear(rec, &o, &layer.o, None, h, rows, residual)?;

            let x = rms_norm(rec, h, &layer.post_norm, eps, 0, n)?; // [n, hidden]
            let gate_up = rec.scratch("gate_up", n, layer.gate_up.rows)?; // [n, 2 * intermediate]
            linear(rec, &x, &layer.gate_up, None, &gate_up, rows, plain)?;
            let x = swiglu(rec, &gate_up)?; // [n, intermediate]
            linear(rec, &x, &layer.down, None, h, rows, residual)?;
            for Splice { index, embeds } in splices {
                if let Some(deep) = embeds.deep.get(i) {
                    add_rows(rec, deep, index, h)?;
                }
            }
        }
        Ok(())
    }

    /// Logits `[n, vocab]` of rows `row .. row + n` of the residual stream.
    ///
    /// # Errors
    /// [`crate::Error::DeviceTooSmall`] if they do not fit one binding: ask for fewer rows at once.
    pub fn logits(&self, rec: &mut Recorder, h: &Tensor, row: usize, n: usize) -> Result<Tensor> {
        let head = self.lm_head.as_ref().unwrap_or(&self.embed);
        let x = rms_norm(rec, h, &self.norm, self.config.eps, row, n)?;
        let logits = rec.scratch("logits", n, head.rows)?;
        linear(rec, &x, head, None, &logits, Rows::first(n), LinearOptions::default())?;
        Ok(logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Qwen2.5-3B's card: 2.77 billion parameters without embeddings, each of which is multiplied and added once per token.
    #[test]
    fn a_token_uses_each_parameter_once() {
        let heads = Heads { q: 16, kv: 2, dim: 128 };
        let (layers, hidden, vocab) = (36, 2048, 151_936);
        let config = DecoderConfig { layers, hidden, heads, eps: 1e-6, vocab, gate_up: 2 * 11008, qk_norm: false };
        let head = 2 * (hidden * vocab) as u64;
        let linear = config.flops(0, 1) - head;
        assert!((linear as f64 / 2.77e9 - 2.0).abs() < 0.01, "{linear}");
        // 4 · heads · dim for each key in sight of each query; the head is paid once.
        let keys = 1000 * 500 + 1000 * 1001 / 2 - 1000;
        assert_eq!(config.flops(500, 1000), 1000 * linear + head + 36 * 4 * 2048 * keys);
    }
}
