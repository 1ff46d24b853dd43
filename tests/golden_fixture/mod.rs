//! Reads the fixtures of `tests/golden/`. A fixture that is missing is a failure.
#![allow(clippy::disallowed_methods, reason = "a test harness blocks")]
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::path::PathBuf;
use std::rc::Rc;

use fanlight::gpu::{Gpu, GpuOptions};
use fanlight::image::{ImageOptions, Patches, Picture, PreprocessorConfig, decode, patchify, preprocess};
use fanlight::model::gguf::GgufModel;
use fanlight::model::positions::Grid;
use fanlight::model::{Model, registry};
use fanlight::weights::quantize::Formats;
use fanlight::weights::source::Directory;
use pollster::block_on;
use safetensors::SafeTensors;
use serde_json::Value;

/// A golden model on the device.
pub struct Engine {
    pub gpu: Gpu,
    pub model: Rc<Model>,
    /// Ids of the tokenizer; the lm_head has more rows.
    pub tokenizer_ids: usize,
}

pub fn folder(model: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(model)
}

fn read(path: PathBuf) -> Vec<u8> {
    std::fs::read(&path).unwrap_or_else(|e| panic!("fixture {}: {e}", path.display()))
}

impl Engine {
    pub fn open(model: &str) -> Engine {
        Engine::open_as(model, &Formats::default())
    }

    pub fn open_as(model: &str, formats: &Formats) -> Engine {
        let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
        let source = Directory::new(folder(model));
        let cases: Value = serde_json::from_slice(&read(folder(model).join("cases.json"))).unwrap();
        let tokenizer_ids = cases["tokenizer_ids"].as_u64().unwrap() as usize;
        let model = block_on(registry::load(&gpu, &source, formats, &mut |_, _| {}, &|_| Ok(()))).unwrap();
        Engine { gpu, model, tokenizer_ids }
    }

    /// A model from its GGUF files, or its decoder from one alone.
    pub fn open_gguf(model: &str, mmproj: Option<&str>) -> Engine {
        let gpu = block_on(Gpu::open(&GpuOptions::default())).expect("an adapter");
        let files = Directory::new(folder("../gguf"));
        let source = block_on(GgufModel::open(&files, &format!("{model}.gguf"), mmproj)).unwrap();
        let loaded = block_on(registry::load(&gpu, &source, &Formats::default(), &mut |_, _| {}, &|_| Ok(()))).unwrap();
        Engine { gpu, model: loaded, ..Engine::open(model) }
    }
}

/// Names and options of a golden model's prompts, those with videos included.
pub fn cases(model: &str) -> Vec<(String, Value)> {
    let lists = ["cases.json", "videos.json"].map(|file| folder(model).join(file));
    let lists = lists.into_iter().enumerate().filter(|(i, path)| *i == 0 || path.exists());
    let lists = lists.map(|(_, path)| serde_json::from_slice::<Value>(&read(path)).unwrap());
    lists.flat_map(|list| list["cases"].as_object().unwrap().clone()).collect()
}

/// A picture or a video of a case, preprocessed.
pub enum Medium {
    Image(Patches),
    /// A temporal patch at a time, and the seconds of each.
    Video(Vec<Patches>, f32),
}

/// One prompt with what transformers makes of it.
pub struct Case {
    pub name: String,
    model: String,
    tensors: Vec<u8>,
}

impl Case {
    pub fn open(model: &str, name: &str) -> Case {
        let tensors = read(folder(model).join(format!("{name}.safetensors")));
        Case { name: name.into(), model: model.into(), tensors }
    }

    fn words<T>(&self, name: &str, convert: fn([u8; 4]) -> T) -> Vec<T> {
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        let tensor = file.tensor(name).unwrap();
        tensor.data().chunks_exact(4).map(|b| convert([b[0], b[1], b[2], b[3]])).collect()
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.words(name, f32::from_le_bytes)
    }

    pub fn i32(&self, name: &str) -> Vec<i32> {
        self.words(name, i32::from_le_bytes)
    }

    pub fn u32(&self, name: &str) -> Vec<u32> {
        self.words(name, u32::from_le_bytes)
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.tensors).unwrap().names().contains(&name)
    }

    /// The logits of all tokens or of the last few, as the fixture has them.
    pub fn logits(&self) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        let all = file.names().contains(&"logits");
        self.f32(&self.exact(if all { "logits" } else { "logits_last" }))
    }

    /// Where pictures were resized, the tensors `pil.*` come from PIL's integer rule, which ours equals to the bit.
    pub fn exact(&self, name: &str) -> String {
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        let pil = format!("pil.{name}");
        if file.names().contains(&pil.as_str()) { pil } else { name.to_owned() }
    }

    /// Preprocessed pictures in the order of the messages, of a case without videos.
    pub fn pictures(&self) -> Vec<Patches> {
        let picture = |medium| match medium {
            Medium::Image(patches) => patches,
            Medium::Video(..) => panic!("a video"),
        };
        self.media().into_iter().map(picture).collect()
    }

    /// Preprocessed pictures and videos in the order of the messages.
    pub fn media(&self) -> Vec<Medium> {
        let folder = folder(&self.model);
        let config = PreprocessorConfig::from_json(&read(folder.join("preprocessor_config.json"))).unwrap();
        let (_, case) = cases(&self.model).into_iter().find(|(name, _)| *name == self.name).expect("a case");
        let files = [case["messages"].as_str(), case["then"].as_str()];
        let (mut media, mut videos) = (Vec::new(), 0);
        for file in files.into_iter().flatten() {
            let messages: Value = serde_json::from_slice(&read(folder.join(file))).unwrap();
            for message in messages.as_array().unwrap() {
                for part in message["content"].as_array().into_iter().flatten() {
                    if let Some(frames) = part["video"].as_array() {
                        let frame = |path: &Value| decode(&read(folder.join(path.as_str().unwrap()))).unwrap();
                        let frames: Vec<Picture> = frames.iter().map(frame).collect();
                        let pairs = frames.chunks(config.temporal_patch_size);
                        let pairs = pairs.map(|pair| patchify(&pair.iter().collect::<Vec<_>>(), &config).unwrap());
                        let second_per_grid = self.f32("second_per_grid_ts")[videos];
                        media.push(Medium::Video(pairs.collect(), second_per_grid));
                        videos += 1;
                    }
                    let Some(path) = part["image"].as_str() else { continue };
                    let number = |name: &str| part[name].as_u64();
                    let options = ImageOptions {
                        min_pixels: number("min_pixels"),
                        max_pixels: number("max_pixels"),
                        resized_height: number("resized_height").map(|n| n as u32),
                        resized_width: number("resized_width").map(|n| n as u32),
                    };
                    let picture = decode(&read(folder.join(path))).unwrap();
                    media.push(Medium::Image(preprocess(&picture, &config, &options).unwrap()));
                }
            }
        }
        media
    }
}

/// The processor's grid as the model room has it.
pub trait GridOf {
    fn grid(&self) -> Grid;
}

impl GridOf for Patches {
    fn grid(&self) -> Grid {
        let [t, h, w] = self.grid_thw;
        Grid::new(t, h, w)
    }
}

/// Largest difference relative to the largest expected magnitude.
pub fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
    let worst = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).fold(0f64, |m, d| {
        assert!(!d.is_nan());
        m.max(d)
    });
    if scale == 0.0 { worst } else { worst / scale }
}
