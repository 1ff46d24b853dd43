use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::*;
use crate::error::{Error, Result};
use crate::model::positions::VideoTime;
use crate::model::section::MAX_FILE;
use crate::model::sizes::{Mlp, Windows};
use crate::model::{qwen2, qwen2_5_vl, qwen2_vl, qwen3_vl};
use crate::ops::Activation;

/// The hub's file for 3B, without the fields that say nothing about the model.
pub(crate) const HUB_3B: &str = r#"{"architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645, "vision_start_token_id": 151652,
    "vision_end_token_id": 151653, "vision_token_id": 151654, "image_token_id": 151655, "video_token_id": 151656,
    "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 11008, "max_position_embeddings": 128000,
    "max_window_layers": 70, "model_type": "qwen2_5_vl", "num_attention_heads": 16, "num_hidden_layers": 36,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
    "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false,
    "vision_config": {"depth": 32, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420,
        "num_heads": 16, "in_chans": 3, "out_hidden_size": 2048, "patch_size": 14, "spatial_merge_size": 2,
        "spatial_patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
        "tokens_per_second": 2, "temporal_patch_size": 2},
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "vocab_size": 151936}"#;

fn hub() -> Value {
    serde_json::from_str(HUB_3B).unwrap()
}

fn parse(json: &Value) -> Result<Config> {
    Config::parse(&qwen2_5_vl::FAMILY, json.to_string().as_bytes())
}

/// The hub's file with the member at `path` replaced.
fn with(path: &str, value: Value) -> Value {
    let mut json = hub();
    let mut at = &mut json;
    for part in path.split('.') {
        at = &mut at[part];
    }
    *at = value;
    json
}

/// The same in the nested layout.
fn nested() -> Value {
    let mut root = hub();
    let mut text = Map::new();
    for name in [
        "hidden_act",
        "hidden_size",
        "intermediate_size",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "rms_norm_eps",
        "vocab_size",
        "eos_token_id",
    ] {
        text.insert(name.into(), root.as_object_mut().unwrap().remove(name).unwrap());
    }
    for name in ["rope_scaling", "rope_theta"] {
        root.as_object_mut().unwrap().remove(name);
    }
    let rope = r#"{"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]}"#;
    text.insert("rope_parameters".into(), serde_json::from_str(rope).unwrap());
    text.insert("layer_types".into(), Value::from(vec!["full_attention"; 36]));
    root["text_config"] = Value::Object(text);
    root["vision_config"]["in_channels"] = 3.into();
    root["vision_config"]["rope_parameters"] = serde_json::from_str(r#"{"rope_type": "axial"}"#).unwrap();
    root
}

#[test]
fn both_layouts_mean_the_same() {
    let flat = parse(&hub()).unwrap();
    assert_eq!(flat, parse(&nested()).unwrap());
    let t = &flat.text;
    assert_eq!((t.vocab_size, t.hidden_size, t.intermediate_size, t.num_hidden_layers), (151936, 2048, 11008, 36));
    assert_eq!((t.num_attention_heads, t.num_key_value_heads, t.head_dim), (16, 2, 128));
    assert_eq!((t.rms_norm_eps, t.rope_theta, t.mrope_section), (1e-6, 1e6, [16, 24, 24]));
    assert_eq!((t.max_position_embeddings, t.yarn, &t.eos_token_ids[..]), (128_000, None, &[151645][..]));
    let (v, ids) = flat.vision.as_ref().unwrap();
    assert_eq!((v.depth, v.hidden_size, v.intermediate_size, v.num_heads, v.head_dim), (32, 1280, 3420, 16, 80));
    assert_eq!((v.patch_len(), v.merge_unit(), v.out_hidden_size), (1176, 4, 2048));
    assert_eq!(v.windows, Some(Windows { size: 112, full: vec![7, 15, 23, 31] }));
    assert_eq!((v.layer_norm, v.mlp, v.time), (false, Mlp::SwiGlu, VideoTime::Seconds(2)));
    assert!(flat.tie_word_embeddings);
    assert_eq!((ids.image, ids.video), (151_655, 151_656));
}

#[test]
fn task_prompts_are_those_that_are_texts() {
    let prompts = |params: Value| task_prompts(with("task_specific_params", params).to_string().as_bytes()).unwrap();
    let params =
        serde_json::json!({"ocr": {"prompt": "Read."}, "summarization": {"prefix": "summarize: "}, "point": 3});
    assert_eq!(prompts(params), BTreeMap::from([("ocr".to_owned(), "Read.".to_owned())]));
    assert!(prompts(Value::Null).is_empty());
    assert!(task_prompts(b"{").is_err());
}

#[test]
fn a_text_config_hides_the_top_level() {
    let mut json = nested();
    json["hidden_size"] = 4096.into();
    json["tie_word_embeddings"] = Value::Null;
    json["text_config"]["tie_word_embeddings"] = true.into();
    let config = parse(&json).unwrap();
    assert_eq!(config.text.hidden_size, 2048);
    assert!(config.tie_word_embeddings, "found where transformers 4 saved it");
}

// The numbers are those of `Qwen2_5_VLConfig()` in transformers 5.23.
#[test]
fn absent_fields_are_the_classes() {
    // The classes' own defaults do not fit together (3584 ≠ 8192), so one field is needed.
    let json = r#"{"model_type": "qwen2_5_vl", "vision_config": {"out_hidden_size": 8192}}"#;
    let config = Config::parse(&qwen2_5_vl::FAMILY, json.as_bytes()).unwrap();
    let t = config.text;
    assert_eq!((t.vocab_size, t.hidden_size, t.intermediate_size), (152064, 8192, 29568));
    assert_eq!((t.num_hidden_layers, t.num_attention_heads, t.num_key_value_heads), (80, 64, 8));
    assert_eq!((t.rms_norm_eps, t.rope_theta, t.max_position_embeddings), (1e-5, 1e6, 32768));
    let (v, _) = config.vision.unwrap();
    assert_eq!((v.hidden_size, v.time, v.in_channels, v.rope_theta), (3584, VideoTime::Seconds(4), 3, 1e4));
    assert!(!config.tie_word_embeddings);
    assert!(Config::parse(&qwen2_5_vl::FAMILY, br#"{"model_type": "qwen2_5_vl"}"#).is_err());
    let heads = parse(&with("num_key_value_heads", Value::Null)).unwrap().text.num_key_value_heads;
    assert_eq!(heads, 16, "null means one per query head");
}

#[test]
fn yarn_as_the_readme_writes_it() {
    let rope = r#"{"type": "yarn", "mrope_section": [16, 24, 24], "factor": 4,
        "original_max_position_embeddings": 32768}"#;
    let config = parse(&with("rope_scaling", serde_json::from_str(rope).unwrap())).unwrap();
    let yarn = config.text.yarn.unwrap();
    assert_eq!((yarn.factor, yarn.original_max_position_embeddings), (4.0, 32768));
    assert_eq!((yarn.beta_fast, yarn.beta_slow, yarn.truncate), (32.0, 1.0, true));
    assert!((yarn.attention_factor - 1.138_629_436).abs() < 1e-9);
    assert_eq!(config.text.rope().yarn, Some(yarn));
}

#[test]
fn what_is_not_supported_says_so() {
    let rope = |text: &str| with("rope_scaling", serde_json::from_str(text).unwrap());
    let mut sliding = with("use_sliding_window", true.into());
    sliding["max_window_layers"] = 3.into();
    let mut layers = nested();
    layers["text_config"]["layer_types"][1] = "sliding_attention".into();
    for (json, word) in [
        (with("model_type", "qwen2_vl".into()), "qwen2_vl"),
        (with("model_type", Value::Null), "nothing"),
        (with("hidden_act", "gelu".into()), "gelu"),
        (with("vision_config.hidden_act", "quick_gelu".into()), "quick_gelu"),
        (rope(r#"{"rope_type": "longrope"}"#), "longrope"),
        (sliding, "sliding"),
        (layers, "sliding"),
    ] {
        let error = parse(&json).unwrap_err();
        assert!(matches!(error, Error::UnsupportedModel { .. }) && error.to_string().contains(word), "{error}");
    }
    parse(&with("use_sliding_window", true.into())).expect("70 layers stay full, there are 36");
}

#[test]
fn every_field_is_checked() {
    for (path, value) in [
        ("hidden_size", serde_json::json!(0)),
        ("hidden_size", serde_json::json!(2047)),
        ("hidden_size", serde_json::json!(u64::MAX)),
        ("hidden_size", serde_json::json!(-1)),
        ("hidden_size", serde_json::json!(2048.0)),
        ("hidden_size", serde_json::json!("2048")),
        ("hidden_size", serde_json::json!(1 << 17)),
        ("num_key_value_heads", serde_json::json!(3)),
        ("num_attention_heads", serde_json::json!(0)),
        ("head_dim", serde_json::json!(64)),
        ("num_hidden_layers", serde_json::json!(1 << 20)),
        ("rms_norm_eps", serde_json::json!(-1e-6)),
        ("rope_theta", serde_json::json!(0)),
        ("rope_scaling.mrope_section", serde_json::json!([16, 24])),
        ("rope_scaling.mrope_section", serde_json::json!([16, 24, 23])),
        ("rope_scaling.mrope_section", serde_json::json!([16, 24, 24, 0])),
        ("rope_scaling.mrope_section", serde_json::json!([u64::MAX, 1, 64])),
        ("rope_scaling", serde_json::json!([])),
        ("tie_word_embeddings", serde_json::json!("yes")),
        ("image_token_id", serde_json::json!(151936)),
        ("vocab_size", serde_json::json!(1 << 30)),
        ("eos_token_id", serde_json::json!(["a"])),
        ("max_position_embeddings", serde_json::json!(1u64 << 40)),
        ("vision_config", serde_json::json!(3)),
        ("vision_config.num_heads", serde_json::json!(15)),
        ("vision_config.num_heads", serde_json::json!(640)),
        ("vision_config.patch_size", serde_json::json!([14, 16])),
        ("vision_config.patch_size", serde_json::json!([])),
        ("vision_config.patch_size", serde_json::json!(0)),
        ("vision_config.spatial_merge_size", serde_json::json!(0)),
        ("vision_config.window_size", serde_json::json!(27)),
        ("vision_config.fullatt_block_indexes", serde_json::json!([-1])),
        ("vision_config.fullatt_block_indexes", serde_json::json!(7)),
        ("vision_config.out_hidden_size", serde_json::json!(3584)),
        ("vision_config.in_chans", serde_json::json!(1000)),
    ] {
        let error = parse(&with(path, value.clone())).expect_err(path);
        assert!(matches!(error, Error::Malformed { .. }), "{path} {value}: {error}");
        let field = path.rsplit('.').next().unwrap();
        assert!(error.to_string().contains(field), "{path} {value}: {error}");
    }
    for text in ["", "[]", "{", "null", "\"x\""] {
        assert!(matches!(Config::parse(&qwen2_5_vl::FAMILY, text.as_bytes()), Err(Error::Malformed { .. })), "{text}");
    }
    assert!(Config::parse(&qwen2_5_vl::FAMILY, &vec![b' '; MAX_FILE + 1]).is_err());
    assert!(Config::parse(&qwen2_5_vl::FAMILY, "[".repeat(10_000).as_bytes()).is_err());
}

/// `GenerationConfig.from_model_config`: what the top level says counts before `text_config`.
#[test]
fn ids_that_end_an_answer_at_the_top_level() {
    let mut json = nested();
    json["text_config"]["eos_token_id"] = 151645.into();
    json["eos_token_id"] = Value::Null;
    assert_eq!(parse(&json).unwrap().text.eos_token_ids, [151645]);
    json["eos_token_id"] = 434.into();
    assert_eq!(parse(&json).unwrap().text.eos_token_ids, [434]);
}

#[test]
fn lenient_where_transformers_is() {
    let config = parse(&with("vision_config.fullatt_block_indexes", serde_json::json!([31, 1, 99, 1]))).unwrap();
    assert_eq!(config.vision.unwrap().0.windows.unwrap().full, [1, 31]);
    let config = parse(&with("vision_config.patch_size", serde_json::json!([14, 14]))).unwrap();
    assert_eq!(config.vision.unwrap().0.patch_size, 14);
    let config = parse(&with("eos_token_id", serde_json::json!([151645, 151643]))).unwrap();
    assert_eq!(config.text.eos_token_ids, [151645, 151643]);
}

// The hub's files of Qwen2.5-0.5B, Qwen2-VL-2B and Qwen3-VL-4B, without what says nothing about the model.

#[test]
fn a_text_model() {
    let hub = r#"{"eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "sliding_window": 32768, "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936}"#;
    let config = Config::parse(&qwen2::FAMILY, hub.as_bytes()).unwrap();
    let text = config.text;
    assert!(config.tie_word_embeddings && config.vision.is_none());
    assert_eq!((text.head_dim, text.mrope_section, text.rope_theta), (64, [32, 0, 0], 1e6));
    assert_eq!((text.num_hidden_layers, text.vocab_size, text.eos_token_ids), (24, 151_936, vec![151_645]));
    let text = Config::parse(&qwen2::FAMILY, br#"{"model_type": "qwen2"}"#).unwrap().text;
    assert_eq!((text.hidden_size, text.head_dim, text.rope_theta), (4096, 128, 1e4));
    for bad in [
        "[]",
        r#"{"model_type": "qwen2", "num_attention_heads": 0}"#,
        r#"{"model_type": "qwen2", "hidden_size": "x"}"#,
        r#"{"model_type": "qwen2", "rope_parameters": 1}"#,
    ] {
        assert_eq!(Config::parse(&qwen2::FAMILY, bad.as_bytes()).unwrap_err().code(), "bad_model", "{bad}");
    }
}

#[test]
fn the_width_of_qwen2s_tower_is_not_its_hidden_size() {
    let hub = r#"{"model_type": "qwen2_vl", "hidden_act": "silu", "hidden_size": 1536, "intermediate_size": 8960,
        "max_position_embeddings": 32768, "max_window_layers": 28, "num_attention_heads": 12,
        "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936,
        "vision_config": {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3,
            "hidden_size": 1536, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
            "temporal_patch_size": 2},
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}"#;
    let config = Config::parse(&qwen2_vl::FAMILY, hub.as_bytes()).unwrap();
    let (v, _) = config.vision.as_ref().unwrap();
    assert_eq!((v.hidden_size, v.intermediate_size, v.head_dim, v.out_hidden_size), (1280, 5120, 80, 1536));
    assert_eq!((v.layer_norm, v.mlp, v.time), (true, Mlp::Plain(Activation::QuickGelu), VideoTime::Frames));
    assert_eq!((&v.windows, v.patch_bias, v.position_side, v.deepstack.len()), (&None, false, None, 0));
    assert!(Config::parse(&qwen2_vl::FAMILY, hub.replace("1280", "1536000").as_bytes()).is_err());
}

#[test]
fn heads_of_qwen3_have_a_size_of_their_own() {
    let hub = r#"{"model_type": "qwen3_vl", "image_token_id": 151655, "video_token_id": 151656,
        "vision_start_token_id": 151652, "vision_end_token_id": 151653, "tie_word_embeddings": true,
        "text_config": {"attention_bias": false, "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128,
            "hidden_act": "silu", "hidden_size": 2560, "intermediate_size": 9728, "max_position_embeddings": 262144,
            "model_type": "qwen3_vl_text", "num_attention_heads": 32, "num_hidden_layers": 36,
            "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_theta": 5000000, "tie_word_embeddings": true,
            "rope_scaling": {"mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_type": "default"},
            "vocab_size": 151936},
        "vision_config": {"deepstack_visual_indexes": [5, 11, 17], "depth": 24, "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": 1024, "in_channels": 3, "intermediate_size": 4096, "model_type": "qwen3_vl",
            "num_heads": 16, "num_position_embeddings": 2304, "out_hidden_size": 2560, "patch_size": 16,
            "spatial_merge_size": 2, "temporal_patch_size": 2}}"#;
    let parse = |json: &str| Config::parse(&qwen3_vl::FAMILY, json.as_bytes());
    let config = parse(hub).unwrap();
    let t = &config.text;
    assert_eq!((t.hidden_size, t.num_attention_heads, t.head_dim), (2560, 32, 128));
    assert_eq!((t.mrope_section, t.interleaved, t.rope_theta), ([24, 20, 20], true, 5e6));
    let (v, _) = config.vision.as_ref().unwrap();
    assert_eq!((v.hidden_size, v.head_dim, v.patch_len(), v.position_side), (1024, 64, 1536, Some(48)));
    assert_eq!((&v.deepstack[..], v.patch_bias, v.time), (&[5, 11, 17][..], true, VideoTime::Text));
    assert_eq!(v.mlp, Mlp::Plain(Activation::GeluTanh));
    for (from, to) in [
        ("2304", "2305"),
        ("[5, 11, 17]", "[5, 5]"),
        ("[5, 11, 17]", "[11, 5]"),
        ("[5, 11, 17]", "[24]"),
        ("\"attention_bias\": false", "\"attention_bias\": true"),
        ("gelu_pytorch_tanh", "gelu"),
        ("\"head_dim\": 128", "\"head_dim\": 127"),
    ] {
        assert!(parse(&hub.replace(from, to)).is_err(), "{to}");
    }
}
