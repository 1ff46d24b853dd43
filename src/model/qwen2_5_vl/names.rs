//! The checkpoint's tensor names and what the model makes of them: the only place that knows either.

use super::config::{Config, TextConfig};
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

/// Everything that the model wants on the device, by canonical tensor names. Shapes are `[out, in]`.
///
/// | matrix | shape | its vectors |
/// |---|---|---|
/// | `vision.patch_embed` | `[hidden, patch_len]` | |
/// | `vision.blocks.N.qkv` | `[3·hidden, hidden]` | `.qkv.bias`, `vision.blocks.N.norm1` |
/// | `vision.blocks.N.proj` | `[hidden, hidden]` | `.proj.bias` |
/// | `vision.blocks.N.gate_up` | `[2·inter₄, hidden]` | `.gate_up.bias`, `vision.blocks.N.norm2` |
/// | `vision.blocks.N.down` | `[hidden, inter]` | `.down.bias` |
/// | `vision.merger.fc1` | `[unit, unit]`, unit = hidden·merge² | `.fc1.bias`, `vision.merger.norm` |
/// | `vision.merger.fc2` | `[out, unit]` | `.fc2.bias` |
/// | `text.embed` | `[vocab, hidden]` | |
/// | `text.layers.N.qkv` | `[(heads + 2·kv)·head_dim, hidden]` | `.qkv.bias`, `text.layers.N.input_norm` |
/// | `text.layers.N.o` | `[hidden, heads·head_dim]` | |
/// | `text.layers.N.gate_up` | `[2·inter₄, hidden]` | `text.layers.N.post_norm` |
/// | `text.layers.N.down` | `[hidden, inter]` | |
/// | `lm_head`, unless tied | `[vocab, hidden]` | `text.norm` |
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
    let v = &config.vision;
    let (hidden, inter) = (v.hidden_size, v.intermediate_size);
    let patch = "model.visual.patch_embed.proj.weight";
    if has(&format!("{patch}.1")) {
        let frame = [hidden, v.in_channels, v.patch_size, v.patch_size];
        let len = v.patch_len() / v.temporal_patch_size;
        all.matrix("vision.patch_embed", vec![Piece::matrix(patch, hidden, len).shaped(&frame)]);
        for n in 1..v.temporal_patch_size {
            let piece = Piece::matrix(format!("{patch}.{n}"), hidden, len).shaped(&frame);
            all.matrix(format!("vision.patch_embed.{n}"), vec![piece]);
        }
    } else {
        let frames = [hidden, v.in_channels, v.temporal_patch_size, v.patch_size, v.patch_size];
        all.matrix("vision.patch_embed", vec![Piece::matrix(patch, hidden, v.patch_len()).shaped(&frames)]);
    }
    for n in 0..v.depth {
        let (name, from) = (format!("vision.blocks.{n}"), format!("model.visual.blocks.{n}"));
        let linear = |part: &str| vec![format!("{from}.{part}")];
        all.vector(format!("{name}.norm1"), &[(format!("{from}.norm1.weight"), hidden)], 1);
        if has(&format!("{from}.attn.qkv.weight")) {
            all.linear(format!("{name}.qkv"), &linear("attn.qkv"), &[3 * hidden], hidden, 1, true);
        } else {
            let parts = ["q", "k", "v"].map(|part| format!("{from}.attn.{part}"));
            all.linear(format!("{name}.qkv"), &parts, &[hidden; 3], hidden, 1, true);
        }
        all.linear(format!("{name}.proj"), &linear("attn.proj"), &[hidden], hidden, 1, true);
        all.vector(format!("{name}.norm2"), &[(format!("{from}.norm2.weight"), hidden)], 1);
        let gate_up = [format!("{from}.mlp.gate_proj"), format!("{from}.mlp.up_proj")];
        all.linear(format!("{name}.gate_up"), &gate_up, &[inter; 2], hidden, 4, true);
        all.linear(format!("{name}.down"), &linear("mlp.down_proj"), &[hidden], inter, 1, true);
    }
    let unit = hidden * v.merge_unit();
    let merger = |part: &str| vec![format!("model.visual.merger.{part}")];
    all.vector("vision.merger.norm", &[("model.visual.merger.ln_q.weight".to_owned(), hidden)], 1);
    all.linear("vision.merger.fc1", &merger("mlp.0"), &[unit], unit, 1, true);
    all.linear("vision.merger.fc2", &merger("mlp.2"), &[v.out_hidden_size], unit, 1, true);

    all.text(&config.text, config.tie_word_embeddings);
    (all.matrices, all.vectors)
}

/// The decoder's part of [`specs`].
pub fn text_specs(text: &TextConfig, tied: bool) -> (Vec<MatrixSpec>, Vec<VectorSpec>) {
    let mut all = Specs::default();
    all.text(text, tied);
    (all.matrices, all.vectors)
}

#[derive(Default)]
struct Specs {
    matrices: Vec<MatrixSpec>,
    vectors: Vec<VectorSpec>,
}

impl Specs {
    fn text(&mut self, t: &TextConfig, tied: bool) {
        let (hidden, inter) = (t.hidden_size, t.intermediate_size);
        let (q, kv) = (t.num_attention_heads * t.head_dim, t.num_key_value_heads * t.head_dim);
        let embed = "model.language_model.embed_tokens.weight";
        self.matrix("text.embed", vec![Piece::matrix(embed, t.vocab_size, hidden)]);
        for n in 0..t.num_hidden_layers {
            let (name, from) = (format!("text.layers.{n}"), format!("model.language_model.layers.{n}"));
            let attn = |part: &str| format!("{from}.self_attn.{part}_proj");
            let mlp = |part: &str| format!("{from}.mlp.{part}_proj");
            self.vector(format!("{name}.input_norm"), &[(format!("{from}.input_layernorm.weight"), hidden)], 1);
            self.linear(format!("{name}.qkv"), &[attn("q"), attn("k"), attn("v")], &[q, kv, kv], hidden, 1, true);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::config::tests::HUB_3B;
    use super::*;

    #[test]
    fn names_old_and_new() {
        for (old, new) in [
            ("visual.patch_embed.proj.weight", "model.visual.patch_embed.proj.weight"),
            ("visual.merger.mlp.0.bias", "model.visual.merger.mlp.0.bias"),
            ("model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
            ("model.layers.3.self_attn.q_proj.bias", "model.language_model.layers.3.self_attn.q_proj.bias"),
            ("model.norm.weight", "model.language_model.norm.weight"),
            ("lm_head.weight", "lm_head.weight"),
            ("visually", "visually"),
            ("model.visual_extra.x", "model.language_model.visual_extra.x"),
            ("", ""),
        ] {
            assert_eq!(canonical(old), new);
            assert_eq!(canonical(new), new, "idempotent");
        }
    }

    /// A checkpoint as transformers saves it.
    fn whole(name: &str) -> bool {
        !name.ends_with(".1")
    }

    fn tensors(config: &Config) -> (usize, u64) {
        let (matrices, vectors) = specs(config, &whole);
        let pieces = matrices.iter().flat_map(|m| &m.sources).chain(vectors.iter().flat_map(|v| &v.sources));
        let pieces: Vec<&Piece> = pieces.collect();
        let names: BTreeSet<&str> = pieces.iter().map(|p| p.tensor.as_str()).collect();
        assert_eq!(names.len(), pieces.len(), "no tensor twice");
        assert!(names.iter().all(|name| canonical(name) == *name));
        let sizes: BTreeSet<&str> = matrices.iter().map(|m| &*m.name).chain(vectors.iter().map(|v| &*v.name)).collect();
        assert_eq!(sizes.len(), matrices.len() + vectors.len(), "no name twice");
        (pieces.len(), pieces.iter().map(|p| p.rows as u64 * p.cols as u64).sum())
    }

    // Tensor and parameter counts of the reference sheet, §1 and §11.
    #[test]
    fn counts_of_the_released_models() {
        let b3 = Config::parse(HUB_3B.as_bytes()).unwrap();
        assert_eq!(tensors(&b3), (824, 3_754_622_976));
        let mut b7 = b3.clone();
        b7.tie_word_embeddings = false;
        b7.vision.out_hidden_size = 3584;
        b7.text = TextConfig {
            vocab_size: 152_064,
            hidden_size: 3584,
            intermediate_size: 18944,
            num_hidden_layers: 28,
            num_attention_heads: 28,
            num_key_value_heads: 4,
            ..b7.text
        };
        assert_eq!(tensors(&b7), (729, 8_292_166_656));
    }

    #[test]
    fn parts_give_the_same_matrices() {
        let config = Config::parse(HUB_3B.as_bytes()).unwrap();
        let (matrices, vectors) = specs(&config, &|name| name.ends_with(".1"));
        let qkv = matrices.iter().find(|m| m.name == "vision.blocks.3.qkv").unwrap();
        assert_eq!((qkv.rows, qkv.cols, qkv.sources.len()), (3840, 1280, 3));
        assert_eq!(qkv.sources[2].tensor, "model.visual.blocks.3.attn.v.weight");
        assert_eq!(vectors.iter().find(|v| v.name == "vision.blocks.3.qkv.bias").unwrap().sources.len(), 3);
        assert_eq!(matrices[1].name, "vision.patch_embed.1");
        assert_eq!(matrices[1].sources[0].tensor, "model.visual.patch_embed.proj.weight.1");
        assert_eq!((matrices[1].sources[0].shape.as_slice(), matrices[1].cols), (&[1280, 3, 14, 14][..], 588));
    }

    #[test]
    fn odd_widths_are_padded() {
        let mut config = Config::parse(HUB_3B.as_bytes()).unwrap();
        config.vision.intermediate_size = 37;
        let (matrices, vectors) = specs(&config, &whole);
        let gate_up = matrices.iter().find(|m| m.name == "vision.blocks.0.gate_up").unwrap();
        assert_eq!((gate_up.rows, gate_up.cols), (80, 1280));
        assert_eq!(gate_up.sources[1].tensor, "model.visual.blocks.0.mlp.up_proj.weight");
        let bias = vectors.iter().find(|v| v.name == "vision.blocks.0.gate_up.bias").unwrap();
        assert_eq!(bias.len, 80);
        let down = matrices.iter().find(|m| m.name == "vision.blocks.0.down").unwrap();
        assert_eq!((down.rows, down.cols), (1280, 37));
        let patch = &matrices[0];
        assert_eq!((patch.sources[0].shape.as_slice(), patch.cols), (&[1280, 3, 2, 14, 14][..], 1176));
    }
}
