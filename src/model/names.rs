//! The checkpoints' tensor names and what the graphs make of them: with the families' own few, the only place that knows either.

use crate::model::config::Config;
use crate::model::family::{TextFamily, TowerNames};
use crate::model::sizes::{Mlp, TextConfig, VisionConfig};
use crate::weights::specs::{MatrixSpec, Piece, VectorSpec};

/// A tensor's canonical name: the one that transformers ≥ 4.52 saves. Idempotent.
///
/// The hub's names map as in `conversion_mapping.py` of transformers 5.23 (`Qwen2VLForConditionalGeneration`):
/// `visual.…` → `model.visual.…`, `model.…` → `model.language_model.…`; all others stay.
pub fn canonical(name: &str) -> String {
    let under = |part: &str, name: &str| name.strip_prefix(part).is_some_and(|rest| rest.starts_with('.'));
    if under("visual", name) {
        return format!("model.{name}");
    }
    // Saved from the base class (`AutoModel`), which has no `model` around it.
    if under("language_model", name) {
        return format!("model.{name}");
    }
    if ["layers", "embed_tokens", "norm"].iter().any(|part| under(part, name)) {
        return format!("model.language_model.{name}");
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
/// | `vision.patch_embed` | `[hidden, patch_len]` | `.bias`³; `vision.positions`³ `[side², hidden]` |
/// | `vision.blocks.N.qkv` | `[3·hidden, hidden]` | `.qkv.bias`, `vision.blocks.N.norm1`, `.norm1.bias`² |
/// | `vision.blocks.N.proj` | `[hidden, hidden]` | `.proj.bias` |
/// | `vision.blocks.N.gate_up` | `[2·inter₄, hidden]` | `.gate_up.bias`, `vision.blocks.N.norm2`, `.norm2.bias`² |
/// | or `vision.blocks.N.up`² | `[inter₄, hidden]` | `.up.bias` |
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
/// gate gives silu(0)·0 = 0, as every activation of 0 is 0, and the padding of `down`'s rows is zero too. When the embeddings are tied there is no
/// `lm_head`: `text.embed` serves. Whether they are is said by what is stored rather than by the flag (`head`).
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
                Mlp::Plain(_) => self.linear(format!("{name}.up"), &first, &[inter], hidden, 4, true),
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
            self.linear(
                format!("{name}.qkv"),
                &[attn("q"), attn("k"), attn("v")],
                &[q, kv, kv],
                hidden,
                1,
                family.qkv_bias,
            );
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::config::tests::HUB_3B;
    use crate::model::{qwen2_5_vl, qwen2_vl, qwen3_vl};

    #[test]
    fn names_old_and_new() {
        for (old, new) in [
            ("visual.patch_embed.proj.weight", "model.visual.patch_embed.proj.weight"),
            ("visual.merger.mlp.0.bias", "model.visual.merger.mlp.0.bias"),
            ("language_model.layers.0.mlp.up_proj.weight", "model.language_model.layers.0.mlp.up_proj.weight"),
            ("embed_tokens.weight", "model.language_model.embed_tokens.weight"),
            ("layers.7.input_layernorm.weight", "model.language_model.layers.7.input_layernorm.weight"),
            ("norm.weight", "model.language_model.norm.weight"),
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
        let b3 = Config::parse(&qwen2_5_vl::FAMILY, HUB_3B.as_bytes()).unwrap();
        assert_eq!(tensors(&b3), (824, 3_754_622_976));
        let mut b7 = b3.clone();
        b7.tie_word_embeddings = false;
        b7.vision.as_mut().unwrap().0.out_hidden_size = 3584;
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

    // Parameter counts of the sheets of Qwen2-VL and Qwen3-VL.
    #[test]
    fn counts_of_the_other_families() {
        let qwen2 = r#"{"model_type": "qwen2_vl", "hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12,
            "num_hidden_layers": 28, "num_key_value_heads": 2, "tie_word_embeddings": true, "vocab_size": 151936,
            "vision_config": {"hidden_size": 1536}}"#;
        let config = Config::parse(&qwen2_vl::FAMILY, qwen2.as_bytes()).unwrap();
        assert_eq!(tensors(&config).1, 2_208_985_600);
        let qwen3 = |width: usize, layers: usize, inter: usize, vision: &str| {
            let json = format!(
                r#"{{"model_type": "qwen3_vl", "tie_word_embeddings": true, "text_config": {{"hidden_size": {width},
                "intermediate_size": {inter}, "num_attention_heads": {heads}, "num_hidden_layers": {layers},
                "num_key_value_heads": 8}}, "vision_config": {{"out_hidden_size": {width}{vision}}}}}"#,
                heads = if width == 2048 { 16 } else { 32 },
            );
            Config::parse(&qwen3_vl::FAMILY, json.as_bytes()).unwrap()
        };
        let small =
            r#", "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]"#;
        assert_eq!(tensors(&qwen3(2048, 28, 6144, small)).1, 2_127_532_032);
        assert_eq!(tensors(&qwen3(2560, 36, 9728, small)).1, 4_437_815_808);
        let b8 = Config { tie_word_embeddings: false, ..qwen3(4096, 36, 12288, "") };
        assert_eq!(tensors(&b8).1, 8_767_123_696);
    }

    #[test]
    fn parts_give_the_same_matrices() {
        let config = Config::parse(&qwen2_5_vl::FAMILY, HUB_3B.as_bytes()).unwrap();
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
        let mut config = Config::parse(&qwen2_5_vl::FAMILY, HUB_3B.as_bytes()).unwrap();
        config.vision.as_mut().unwrap().0.intermediate_size = 37;
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
