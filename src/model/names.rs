//! The checkpoints' tensor names and what the graphs make of them: with the families' own few, the only place that knows either.

use super::config::{Config, Mlp, TextConfig, TextFamily, VisionConfig};
use crate::weights::plan::{MatrixSpec, Piece, VectorSpec};

/// A tensor's canonical name: the one that transformers ≥ 4.52 saves. Idempotent.
///
/// The hub's names map as in `conversion_mapping.py` of transformers 5.23 (`Qwen2VLForConditionalGeneration`):
/// `visual.…` → `model.visual.…`, `model.…` → `model.language_model.…`; all others stay.
pub fn canonical(name: &str) -> String {
    let under = |part: &str, name: &str| name.strip_prefix(part).is_some_and(|rest| rest.starts_with('.'));
    if under("visual", name) {
        return format!("model.{name}");
    }
    match name.strip_prefix("model.") {
        Some(rest) if !under("visual", rest) && !under("language_model", rest) => {
            format!("model.language_model.{rest}")
        }
        _ => name.to_owned(),
    }
}

/// What a family calls the tensors of its vision tower, where families differ.
#[derive(Debug)]
pub struct TowerNames {
    /// Layers of a block's MLP before its activation, stacked: for SwiGLU gate and up.
    pub mlp_in: &'static [&'static str],
    /// The layer after it.
    pub mlp_out: &'static str,
    /// Norm and layers of the merger (and of each further one).
    pub merger: [&'static str; 3],
}

/// Everything that the model wants on the device, by canonical tensor names. Shapes are `[out, in]`.
///
/// | matrix | shape | its vectors |
/// |---|---|---|
/// | `vision.patch_embed` | `[hidden, patch_len]` | `.bias`³; `vision.positions`³ `[side², hidden]` |
/// | `vision.blocks.N.qkv` | `[3·hidden, hidden]` | `.qkv.bias`, `vision.blocks.N.norm1`, `.norm1.bias`² |
/// | `vision.blocks.N.proj` | `[hidden, hidden]` | `.proj.bias` |
/// | `vision.blocks.N.gate_up` | `[2·inter₄, hidden]` | `.gate_up.bias`, `vision.blocks.N.norm2`, `.norm2.bias`² |
/// | or `vision.blocks.N.up`² | `[inter, hidden]` | `.up.bias` |
/// | `vision.blocks.N.down` | `[hidden, inter]` | `.down.bias` |
/// | `vision.merger.fc1` | `[unit, unit]`, unit = hidden·merge² | `.fc1.bias`, `vision.merger.norm`, `.norm.bias`² |
/// | `vision.merger.fc2` | `[out, unit]` | `.fc2.bias` |
/// | `vision.deepstack.N.fc1`, `.fc2`³ | as the merger's | as the merger's; the norm is `unit` wide |
/// | `text.embed` | `[vocab, hidden]` | |
/// | `text.layers.N.qkv` | `[(heads + 2·kv)·head_dim, hidden]` | `.qkv.bias`¹, `.q_norm`³, `.k_norm`³, `text.layers.N.input_norm` |
/// | `text.layers.N.o` | `[hidden, heads·head_dim]` | |
/// | `text.layers.N.gate_up` | `[2·inter₄, hidden]` | `text.layers.N.post_norm` |
/// | `text.layers.N.down` | `[hidden, inter]` | |
/// | `lm_head`, unless tied | `[vocab, hidden]` | `text.norm` |
///
/// ¹ up to Qwen2.5, ² Qwen2-VL and Qwen3-VL, ³ Qwen3-VL.
///
/// `gate_up` is all gate rows, then all up rows, each filled with zero rows up to a multiple of 4 (`inter₄`); a zero
/// gate gives silu(0)·0 = 0, and the padding of `down`'s rows is zero too. When the embeddings are tied there is no
/// `lm_head`: `text.embed` serves, and a stored `lm_head.weight` is ignored as transformers does.
///
/// A checkpoint may hold two of these in parts (`has` says which tensors it holds), as GGUF does: `attn.qkv` as `attn.q`,
/// `attn.k` and `attn.v`, and the patch embedding as one convolution for each frame of a patch, the second one with `.1`
/// behind its name. Then `vision.patch_embed.1` is a matrix of its own and both are `[hidden, patch_len / 2]`.
pub fn specs(config: &Config, has: &dyn Fn(&str) -> bool) -> (Vec<MatrixSpec>, Vec<VectorSpec>) {
    let mut all = Specs::default();
    if let (Some((vision, _)), Some(family)) = (&config.vision, &config.family.vision) {
        all.tower(vision, &family.names, has);
    }
    all.text(&config.text, &config.family.text, config.tie_word_embeddings);
    (all.matrices, all.vectors)
}

#[derive(Default)]
struct Specs {
    matrices: Vec<MatrixSpec>,
    vectors: Vec<VectorSpec>,
}

impl Specs {
    fn tower(&mut self, v: &VisionConfig, names: &TowerNames, has: &dyn Fn(&str) -> bool) {
        let (hidden, inter) = (v.hidden_size, v.intermediate_size);
        let patch = "model.visual.patch_embed.proj.weight";
        if has(&format!("{patch}.1")) {
            let frame = [hidden, v.in_channels, v.patch_size, v.patch_size];
            let len = v.patch_len() / v.temporal_patch_size;
            self.matrix("vision.patch_embed", vec![Piece::matrix(patch, hidden, len).shaped(&frame)]);
            for n in 1..v.temporal_patch_size {
                let piece = Piece::matrix(format!("{patch}.{n}"), hidden, len).shaped(&frame);
                self.matrix(format!("vision.patch_embed.{n}"), vec![piece]);
            }
        } else {
            let frames = [hidden, v.in_channels, v.temporal_patch_size, v.patch_size, v.patch_size];
            self.matrix("vision.patch_embed", vec![Piece::matrix(patch, hidden, v.patch_len()).shaped(&frames)]);
        }
        if v.patch_bias {
            let bias = "model.visual.patch_embed.proj.bias".to_owned();
            self.vector("vision.patch_embed.bias", &[(bias, hidden)], 1);
        }
        if let Some(side) = v.position_side {
            let table = Piece::vector("model.visual.pos_embed.weight", side * side * hidden);
            self.vectors.push(VectorSpec::new("vision.positions", vec![table.shaped(&[side * side, hidden])]));
        }
        for n in 0..v.depth {
            let (name, from) = (format!("vision.blocks.{n}"), format!("model.visual.blocks.{n}"));
            let linear = |part: &str| vec![format!("{from}.{part}")];
            self.norm(format!("{name}.norm1"), &format!("{from}.norm1"), hidden, v.layer_norm);
            if has(&format!("{from}.attn.qkv.weight")) {
                self.linear(format!("{name}.qkv"), &linear("attn.qkv"), &[3 * hidden], hidden, 1, true);
            } else {
                let parts = ["q", "k", "v"].map(|part| format!("{from}.attn.{part}"));
                self.linear(format!("{name}.qkv"), &parts, &[hidden; 3], hidden, 1, true);
            }
            self.linear(format!("{name}.proj"), &linear("attn.proj"), &[hidden], hidden, 1, true);
            self.norm(format!("{name}.norm2"), &format!("{from}.norm2"), hidden, v.layer_norm);
            let first: Vec<String> = names.mlp_in.iter().map(|part| format!("{from}.{part}")).collect();
            match v.mlp {
                Mlp::SwiGlu => self.linear(format!("{name}.gate_up"), &first, &[inter; 2], hidden, 4, true),
                Mlp::Plain(_) => self.linear(format!("{name}.up"), &first, &[inter], hidden, 1, true),
            }
            self.linear(format!("{name}.down"), &linear(names.mlp_out), &[hidden], inter, 1, true);
        }
        let unit = hidden * v.merge_unit();
        self.merger("vision.merger", "model.visual.merger", v, names, hidden);
        for n in 0..v.deepstack.len() {
            let from = format!("model.visual.deepstack_merger_list.{n}");
            self.merger(&format!("vision.deepstack.{n}"), &from, v, names, unit);
        }
    }

    fn merger(&mut self, name: &str, from: &str, v: &VisionConfig, names: &TowerNames, norm: usize) {
        let unit = v.hidden_size * v.merge_unit();
        let [norm_name, fc1, fc2] = names.merger.map(|part| format!("{from}.{part}"));
        self.norm(format!("{name}.norm"), &norm_name, norm, v.layer_norm);
        self.linear(format!("{name}.fc1"), &[fc1], &[unit], unit, 1, true);
        self.linear(format!("{name}.fc2"), &[fc2], &[v.out_hidden_size], unit, 1, true);
    }

    /// A norm's gain, and its bias if it has one.
    fn norm(&mut self, name: String, from: &str, len: usize, bias: bool) {
        if bias {
            self.vector(format!("{name}.bias"), &[(format!("{from}.bias"), len)], 1);
        }
        self.vector(name, &[(format!("{from}.weight"), len)], 1);
    }

    fn text(&mut self, t: &TextConfig, family: &TextFamily, tied: bool) {
        let (hidden, inter) = (t.hidden_size, t.intermediate_size);
        let (q, kv) = (t.num_attention_heads * t.head_dim, t.num_key_value_heads * t.head_dim);
        let embed = "model.language_model.embed_tokens.weight";
        self.matrix("text.embed", vec![Piece::matrix(embed, t.vocab_size, hidden)]);
        for n in 0..t.num_hidden_layers {
            let (name, from) = (format!("text.layers.{n}"), format!("model.language_model.layers.{n}"));
            let attn = |part: &str| format!("{from}.self_attn.{part}_proj");
            let mlp = |part: &str| format!("{from}.mlp.{part}_proj");
            self.vector(format!("{name}.input_norm"), &[(format!("{from}.input_layernorm.weight"), hidden)], 1);
            self.linear(format!("{name}.qkv"), &[attn("q"), attn("k"), attn("v")], &[q, kv, kv], hidden, 1, family.qkv_bias);
            for norm in ["q_norm", "k_norm"].into_iter().filter(|_| family.qk_norm) {
                let from = format!("{from}.self_attn.{norm}.weight");
                self.vector(format!("{name}.{norm}"), &[(from, t.head_dim)], 1);
            }
            self.linear(format!("{name}.o"), &[attn("o")], &[hidden], q, 1, false);
            self.vector(format!("{name}.post_norm"), &[(format!("{from}.post_attention_layernorm.weight"), hidden)], 1);
            self.linear(format!("{name}.gate_up"), &[mlp("gate"), mlp("up")], &[inter; 2], hidden, 4, false);
            self.linear(format!("{name}.down"), &[mlp("down")], &[hidden], inter, 1, false);
        }
        self.vector("text.norm", &[("model.language_model.norm.weight".to_owned(), hidden)], 1);
        if !tied {
            self.matrix("lm_head", vec![Piece::matrix("lm_head.weight", t.vocab_size, hidden)]);
        }
    }

    fn matrix(&mut self, name: impl Into<String>, sources: Vec<Piece>) {
        self.matrices.push(MatrixSpec::new(name, sources));
    }

    fn vector(&mut self, name: impl Into<String>, sources: &[(String, usize)], unit: usize) {
        let pieces = sources.iter().map(|(tensor, len)| Piece::vector(tensor, *len).padded(unit));
        self.vectors.push(VectorSpec::new(name, pieces.collect()));
    }

    /// Linear layers stacked: `from[i]`.weight is `[rows[i], cols]`, `from[i]`.bias is `[rows[i]]`; each is filled up to
    /// a multiple of `unit` rows.
    fn linear(
        &mut self,
        name: impl Into<String>,
        from: &[String],
        rows: &[usize],
        cols: usize,
        unit: usize,
        bias: bool,
    ) {
        let name = name.into();
        let layers = || from.iter().zip(rows);
        if bias {
            let biases: Vec<_> = layers().map(|(from, &rows)| (format!("{from}.bias"), rows)).collect();
            self.vector(format!("{name}.bias"), &biases, unit);
        }
        let weight =
            |(from, &rows): (&String, &usize)| Piece::matrix(format!("{from}.weight"), rows, cols).padded(unit);
        self.matrix(name, layers().map(weight).collect());
    }
}
