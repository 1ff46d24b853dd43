//! Positions and windows against what transformers computed (`tests/golden/positions.json`, `windows.json`, and the
//! traces of the tiny models). The reference sheet's own vectors are unit tests beside the code.

use std::path::PathBuf;

use fanlight::dtype::Dtype;
use fanlight::model::positions::{
    Grid, MediaTokens, Segment, VideoGrid, VideoTime, frames, mrope_positions, permute_rows, rope_delta,
    segments_from_ids, window_index,
};
use fanlight::model::registry::parse_config;
use fanlight::weights::safetensors::parse;
use serde_json::Value;

fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn json(path: &str) -> Vec<Value> {
    let text = std::fs::read(golden(path)).unwrap_or_else(|e| panic!("fixture {path}: {e}"));
    serde_json::from_slice(&text).unwrap()
}

fn numbers<T: TryFrom<i64, Error: std::fmt::Debug>>(value: &Value) -> Vec<T> {
    value.as_array().unwrap().iter().map(|v| T::try_from(v.as_i64().unwrap()).unwrap()).collect()
}

fn grid(value: &Value) -> Grid {
    match numbers::<u32>(value)[..] {
        [h, w] => Grid::new(1, h, w),
        [t, h, w] => Grid::new(t, h, w),
        _ => panic!("{value}"),
    }
}

#[test]
fn positions_are_transformers() {
    let cases = json("positions.json");
    assert!(cases.len() >= 20);
    for case in cases {
        let parts = case["layout"].as_array().unwrap();
        let segments: Vec<Segment> = parts
            .iter()
            .map(|part| part.as_u64().map_or_else(|| Segment::Image(grid(part)), |n| Segment::Text(n as usize)))
            .collect();
        let (ids, next) = mrope_positions(&segments, 2, VideoTime::Seconds(2), 0).unwrap();
        for (axis, name) in ["t", "h", "w"].into_iter().enumerate() {
            let ours: Vec<i32> = ids.iter().map(|p| p[axis]).collect();
            assert_eq!(ours, numbers::<i32>(&case[name]), "{name} of {}", case["layout"]);
        }
        assert_eq!(rope_delta(next, ids.len()), case["rope_delta"].as_i64().unwrap(), "{}", case["layout"]);

        // The same segments come back from a prompt with pads.
        let (text, pad) = (7, 9);
        let mut prompt = Vec::new();
        let mut images = Vec::new();
        for segment in &segments {
            match *segment {
                Segment::Text(n) => prompt.extend(vec![text; n]),
                Segment::Image(grid) => {
                    images.push(grid);
                    prompt.extend(vec![pad; grid.count() / 4]);
                }
                Segment::Video(_) => unreachable!(),
            }
        }
        let media = MediaTokens { image: pad, video: 10, merge: 2, time: VideoTime::Seconds(2) };
        let found = segments_from_ids(&prompt, &media, &images, &[]).unwrap();
        let written: Vec<Segment> = segments.into_iter().filter(|s| *s != Segment::Text(0)).collect();
        assert_eq!(found, written);
    }
}

/// Videos, by the rule of the reference training code: transformers 4.51 and, for Qwen3-VL, 4.57.
#[test]
fn positions_of_videos_are_transformers() {
    let cases = [json("positions_video.json"), json("positions_qwen3.json")].concat();
    assert!(cases.len() >= 40);
    for case in cases {
        let time = match case["model_type"].as_str().unwrap() {
            "qwen2_vl" => VideoTime::Frames,
            "qwen2_5_vl" => VideoTime::Seconds(2),
            _ => VideoTime::Text,
        };
        let (text, media) = (7, MediaTokens { image: 9, video: 10, merge: 2, time });
        let (mut prompt, mut images, mut videos) = (Vec::new(), Vec::new(), Vec::new());
        for part in case["layout"].as_array().unwrap() {
            if let Some(n) = part.as_u64() {
                prompt.extend(vec![text; n as usize]);
            } else if part["video"].is_array() {
                let grid = grid(&part["video"]);
                let second_per_grid = part["second_per_grid"].as_f64().unwrap_or(1.0) as f32;
                videos.push(VideoGrid { grid, second_per_grid });
                let between = part["between"].as_u64().unwrap_or(0) as usize;
                for frame in 0..grid.t {
                    prompt.extend(vec![text; if frame > 0 { between } else { 0 }]);
                    prompt.extend(vec![10; (grid.h * grid.w) as usize / 4]);
                }
            } else {
                images.push(grid(part));
                prompt.extend(vec![9; images.last().unwrap().count() / 4]);
            }
        }
        let segments = segments_from_ids(&prompt, &media, &images, &videos).unwrap();
        let (ids, next) = mrope_positions(&segments, 2, time, 0).unwrap();
        for (axis, name) in ["t", "h", "w"].into_iter().enumerate() {
            let ours: Vec<i32> = ids.iter().map(|p| p[axis]).collect();
            assert_eq!(ours, numbers::<i32>(&case[name]), "{name} of {case}");
        }
        assert_eq!(rope_delta(next, ids.len()), case["rope_delta"].as_i64().unwrap(), "{}", case["layout"]);
    }
}

#[test]
fn windows_are_transformers() {
    let cases = json("windows.json");
    assert!(cases.len() >= 20);
    let mut inverse_matters = 0;
    for case in cases {
        let grids: Vec<Grid> = case["grid_thw"].as_array().unwrap().iter().map(grid).collect();
        let number = |name: &str| case[name].as_u64().unwrap() as u32;
        let windows = window_index(&grids, number("merge_size"), number("window_size"), number("patch_size")).unwrap();
        assert_eq!(windows.index, numbers::<u32>(&case["window_index"]), "{grids:?}");
        assert_eq!(windows.inverse(), numbers::<u32>(&case["reverse_index"]), "{grids:?}");
        assert_eq!(windows.cu_window, numbers::<u32>(&case["cu_window_seqlens"]), "{grids:?}");
        assert_eq!(frames(&grids, number("merge_size")).unwrap(), numbers::<u32>(&case["cu_seqlens"]), "{grids:?}");
        inverse_matters += usize::from(windows.inverse() != windows.index);
        let tokens: Vec<u32> = (0..windows.index.len() as u32).collect();
        let there = permute_rows(&tokens, 1, 1, &windows.index).unwrap();
        assert_eq!(permute_rows(&there, 1, 1, &windows.inverse()).unwrap(), tokens);
    }
    assert!(inverse_matters >= 5, "grids at which the wrong permutation would show");
}

/// A tensor of a trace as whole numbers.
fn tensor(file: &[u8], name: &str) -> Vec<i32> {
    words(file, name, "I32").into_iter().map(|v| v.to_bits() as i32).collect()
}

fn tensor_f32(file: &[u8], name: &str) -> Vec<f32> {
    words(file, name, "F32")
}

fn words(file: &[u8], name: &str, dtype: &str) -> Vec<f32> {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let tensors = parse("trace", &file[8..8 + header], file.len() as u64).unwrap();
    let info = tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("{name} in a trace"));
    assert_eq!(info.dtype.name(), dtype);
    let data = &file[info.range.start as usize..info.range.end as usize];
    // Four bytes each, as f32 has.
    Dtype::F32.to_f32(data).unwrap()
}

#[test]
fn whole_prompts_have_transformers_positions() {
    let mut cases = 0;
    for folder in std::fs::read_dir(golden("models")).expect("fixture models").map(|entry| entry.unwrap().path()) {
        let Ok(text) = std::fs::read(folder.join("config.json")) else { continue };
        let config = parse_config(&text).unwrap();
        let (vision, pads) = config.vision.as_ref().unwrap();
        let merge = vision.spatial_merge_size as u32;
        let media = MediaTokens { image: pads.image, video: pads.video, merge, time: vision.time };
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            // `….then.messages.json` is a second turn; its trace is the case's own.
            if !name.ends_with(".messages.json") || name.contains(".then.") {
                continue;
            }
            let trace = path.with_extension("").with_extension("safetensors");
            let file = std::fs::read(&trace).unwrap_or_else(|e| panic!("fixture {}: {e}", trace.display()));
            let ids: Vec<u32> = tensor(&file, "input_ids").into_iter().map(|id| id as u32).collect();
            let grids = tensor(&file, "image_grid_thw");
            let grids: Vec<Grid> = grids.chunks(3).map(|g| Grid::new(g[0] as u32, g[1] as u32, g[2] as u32)).collect();
            let videos: Vec<VideoGrid> = if name.starts_with("video") {
                let paces = tensor_f32(&file, "second_per_grid_ts");
                let grids = tensor(&file, "video_grid_thw");
                let grid = |g: &[i32]| Grid::new(g[0] as u32, g[1] as u32, g[2] as u32);
                let videos = grids.chunks(3).zip(paces);
                videos.map(|(g, second_per_grid)| VideoGrid { grid: grid(g), second_per_grid }).collect()
            } else {
                Vec::new()
            };
            let segments = segments_from_ids(&ids, &media, &grids, &videos).unwrap();
            let (positions, next) = mrope_positions(&segments, merge, media.time, 0).unwrap();
            let flat: Vec<i32> = (0..3).flat_map(|axis| positions.iter().map(move |p| p[axis])).collect();
            assert_eq!(flat, tensor(&file, "position_ids"), "{}", trace.display());
            assert_eq!(vec![rope_delta(next, ids.len()) as i32], tensor(&file, "rope_delta"), "{}", trace.display());
            cases += 1;
        }
    }
    assert!(cases >= 40, "{cases} traces");
}
