//! llama.cpp's names of tensors and transformers' (`gguf-py/gguf/tensor_mapping.py`, `conversion/qwenvl.py`, `conversion/qwen3vl.py`).

use crate::model::family::TowerNames;

/// Tensors outside the layers: llama.cpp's name and transformers'.
const PLAIN: [(&str, &str); 7] = [
    ("token_embd.weight", "model.language_model.embed_tokens.weight"),
    ("output_norm.weight", "model.language_model.norm.weight"),
    ("output.weight", "lm_head.weight"),
    ("v.patch_embd.weight", "model.visual.patch_embed.proj.weight"),
    ("v.patch_embd.weight.1", "model.visual.patch_embed.proj.weight.1"),
    ("v.patch_embd.bias", "model.visual.patch_embed.proj.bias"),
    ("v.position_embd.weight", "model.visual.pos_embed.weight"),
];
/// Before a layer's number.
const TEXT_LAYER: (&str, &str) = ("blk.", "model.language_model.layers.");
/// Parts of the decoder's layers.
const TEXT_PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];
/// Before a block's number.
const VISION_LAYER: (&str, &str) = ("v.blk.", "model.visual.blocks.");
/// Parts of the vision tower's blocks that every family calls the same.
const VISION_PARTS: [(&str, &str); 7] = [
    ("ln1", "norm1"),
    ("attn_q", "attn.q"),
    ("attn_k", "attn.k"),
    ("attn_v", "attn.v"),
    ("attn_qkv", "attn.qkv"),
    ("attn_out", "attn.proj"),
    ("ln2", "norm2"),
];
/// Before the mergers, without the kind of tensor behind: llama.cpp's norm and layers of the main one, then of one of DeepStack.
const MERGER: [&str; 3] = ["v.post_ln", "mm.0", "mm.2"];
const DEEP_MERGER: [&str; 3] = ["norm", "fc1", "fc2"];

/// The names of one model, in both directions. Each pair is llama.cpp's and transformers'.
#[derive(Debug, Default)]
pub struct Names {
    /// Beginnings of the names of mergers.
    mergers: Vec<(String, String)>,
    /// Parts of a tower's blocks.
    mlp: Vec<(&'static str, &'static str)>,
}

/// Which of a pair is looked for.
#[derive(Clone, Copy)]
enum Way {
    ToCanonical,
    ToGguf,
}

impl Way {
    fn turn<'a>(self, (gguf, ours): (&'a str, &'a str)) -> (&'a str, &'a str) {
        match self {
            Way::ToCanonical => (gguf, ours),
            Way::ToGguf => (ours, gguf),
        }
    }
}

impl Names {
    /// The names of a model with such a tower, behind whose blocks `deepstack` there are further mergers.
    pub fn new(tower: &TowerNames, deepstack: &[usize]) -> Self {
        let pair = |gguf: String, from: &str, part: &str| (gguf, format!("model.visual.{from}.{part}"));
        let main = MERGER.iter().zip(tower.merger).map(|(gguf, part)| pair((*gguf).to_owned(), "merger", part));
        let deep = deepstack.iter().enumerate().flat_map(|(n, block)| {
            let names = DEEP_MERGER.iter().zip(tower.merger);
            names.map(move |(gguf, part)| {
                pair(format!("v.deepstack.{block}.{gguf}"), &format!("deepstack_merger_list.{n}"), part)
            })
        });
        let first: &[&str] = if tower.mlp_in.len() == 2 { &["ffn_gate", "ffn_up"] } else { &["ffn_up"] };
        let mlp = first.iter().copied().zip(tower.mlp_in.iter().copied()).chain([("ffn_down", tower.mlp_out)]);
        Names { mergers: main.chain(deep).collect(), mlp: mlp.collect() }
    }

    /// The name that transformers gives a tensor; others keep theirs. Idempotent.
    pub fn canonical(&self, name: &str) -> String {
        self.renamed(name, Way::ToCanonical).unwrap_or_else(|| name.to_owned())
    }

    /// The name that llama.cpp gives a tensor of this canonical name, if it has one.
    pub fn gguf(&self, canonical: &str) -> Option<String> {
        self.renamed(canonical, Way::ToGguf)
    }

    fn renamed(&self, name: &str, way: Way) -> Option<String> {
        let find = |table: &[(&'static str, &'static str)], name: &str| {
            table.iter().map(|pair| way.turn(*pair)).find(|(from, _)| *from == name).map(|(_, to)| to)
        };
        if let Some(plain) = find(&PLAIN, name) {
            return Some(plain.to_owned());
        }
        let (whole, kind) = name.rsplit_once('.')?;
        let merger = self.mergers.iter().map(|(gguf, ours)| way.turn((gguf, ours))).find(|(from, _)| *from == whole);
        if let Some((_, to)) = merger {
            return Some(format!("{to}.{kind}"));
        }
        let vision = [&VISION_PARTS[..], &self.mlp];
        [(VISION_LAYER, &vision[..]), (TEXT_LAYER, &[&TEXT_PARTS[..]])].into_iter().find_map(|(layer, tables)| {
            let (from, to) = way.turn(layer);
            let (number, part) = whole.strip_prefix(from)?.split_once('.')?;
            let part = tables.iter().find_map(|table| find(table, part))?;
            Some(format!("{to}{number}.{part}.{kind}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::registry::FAMILIES;

    fn names(family: &str, deepstack: &[usize]) -> Names {
        let family = FAMILIES.iter().find(|f| f.model_type == family).unwrap();
        Names::new(&family.vision.as_ref().unwrap().names, deepstack)
    }

    #[test]
    fn both_ways() {
        for (family, gguf, ours) in [
            ("qwen2_5_vl", "token_embd.weight", "model.language_model.embed_tokens.weight"),
            ("qwen2_5_vl", "output.weight", "lm_head.weight"),
            ("qwen2_5_vl", "blk.11.attn_q.bias", "model.language_model.layers.11.self_attn.q_proj.bias"),
            ("qwen3_vl", "blk.11.attn_q_norm.weight", "model.language_model.layers.11.self_attn.q_norm.weight"),
            ("qwen2_5_vl", "blk.0.ffn_down.weight", "model.language_model.layers.0.mlp.down_proj.weight"),
            ("qwen2_5_vl", "v.blk.2.attn_qkv.bias", "model.visual.blocks.2.attn.qkv.bias"),
            ("qwen2_5_vl", "v.blk.2.ffn_up.weight", "model.visual.blocks.2.mlp.up_proj.weight"),
            ("qwen2_vl", "v.blk.2.ffn_up.weight", "model.visual.blocks.2.mlp.fc1.weight"),
            ("qwen2_vl", "v.blk.2.ffn_down.bias", "model.visual.blocks.2.mlp.fc2.bias"),
            ("qwen3_vl", "v.blk.2.ffn_down.bias", "model.visual.blocks.2.mlp.linear_fc2.bias"),
            ("qwen2_5_vl", "v.blk.2.ln1.weight", "model.visual.blocks.2.norm1.weight"),
            ("qwen2_5_vl", "v.blk.2.attn_norm.weight", "v.blk.2.attn_norm.weight"),
            ("qwen2_5_vl", "mm.2.bias", "model.visual.merger.mlp.2.bias"),
            ("qwen2_vl", "v.post_ln.bias", "model.visual.merger.ln_q.bias"),
            ("qwen3_vl", "v.post_ln.bias", "model.visual.merger.norm.bias"),
            ("qwen3_vl", "v.deepstack.11.fc1.weight", "model.visual.deepstack_merger_list.1.linear_fc1.weight"),
            ("qwen3_vl", "v.deepstack.12.fc1.weight", "v.deepstack.12.fc1.weight"),
            ("qwen2_5_vl", "blk.0.other.weight", "blk.0.other.weight"),
            ("qwen2_5_vl", "blk.0", "blk.0"),
            ("qwen2_5_vl", "", ""),
        ] {
            let names = names(family, &[5, 11, 17]);
            assert_eq!(names.canonical(gguf), ours);
            assert_eq!(names.canonical(ours), ours);
            let back = names.gguf(ours);
            assert_eq!(back.as_deref(), (gguf != ours).then_some(gguf));
        }
    }
}
