//! The checkpoint's preprocessing configuration, and the last step: pixels become normalised rows in the order of the vision
//! tower.

use super::Picture;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

const NAME: &str = "preprocessor_config.json";

/// The numbers of `preprocessor_config.json` that the image path uses.
#[derive(Debug, Clone, PartialEq)]
pub struct PreprocessorConfig {
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames in a patch.
    pub temporal_patch_size: usize,
    /// A token of the language model covers `merge_size`² patches.
    pub merge_size: usize,
    /// Fewest pixels after resizing.
    pub min_pixels: u64,
    /// Most pixels after resizing.
    pub max_pixels: u64,
    /// Mean of each channel, for values in 0..1.
    pub image_mean: [f32; 3],
    /// Standard deviation of each channel, for values in 0..1.
    pub image_std: [f32; 3],
}

impl Default for PreprocessorConfig {
    /// The defaults of transformers' `Qwen2VLImageProcessor`. The hub's checkpoints raise `max_pixels` to 12,845,056.
    fn default() -> Self {
        Self {
            patch_size: 14,
            temporal_patch_size: 2,
            merge_size: 2,
            min_pixels: 56 * 56,
            max_pixels: 28 * 28 * 1280,
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }
}

/// The keys of the file. Whatever is absent or null has the default of transformers.
#[derive(Deserialize)]
struct File {
    patch_size: Option<Whole>,
    temporal_patch_size: Option<Whole>,
    merge_size: Option<Whole>,
    min_pixels: Option<Whole>,
    max_pixels: Option<Whole>,
    size: Option<Size>,
    image_mean: Option<Channels>,
    image_std: Option<Channels>,
    do_resize: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    rescale_factor: Option<f64>,
    resample: Option<u32>,
}

/// A whole number, which some tools write as a float: `200704.0`.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "f64")]
struct Whole(u64);

impl TryFrom<f64> for Whole {
    type Error = String;

    fn try_from(number: f64) -> Result<Self, String> {
        const MOST: f64 = 9_007_199_254_740_992.0;
        match (0.0..=MOST).contains(&number) && number.fract() == 0.0 {
            true => Ok(Whole(number as u64)),
            false => Err(format!("{number}, which is no whole number from 0 to 2^53")),
        }
    }
}

/// A number for each channel, or one for all of them.
#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum Channels {
    Each([f32; 3]),
    All(f32),
}

impl Channels {
    fn each(self) -> [f32; 3] {
        match self {
            Channels::Each(each) => each,
            Channels::All(one) => [one; 3],
        }
    }
}

/// Despite their names, these are numbers of pixels.
#[derive(Deserialize)]
struct Size {
    shortest_edge: Option<Whole>,
    longest_edge: Option<Whole>,
}

impl PreprocessorConfig {
    /// Reads `preprocessor_config.json`.
    ///
    /// As in transformers' `Qwen2VLImageProcessor.__init__`, `min_pixels` and `max_pixels` take precedence over
    /// `size.shortest_edge` and `size.longest_edge`. All four are numbers of pixels. Absent values have the class's
    /// [default](Self::default).
    ///
    /// [`Error::Malformed`]: not JSON, a number out of range, or a step that is not supported here (no resizing, rescaling or
    /// normalising; a factor other than 1/255; a filter other than bicubic).
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|e| Error::malformed(NAME, "UTF-8", e.to_string()))?;
        Self::read(text, NAME)
    }

    /// Reads the part `image_processor` of `processor_config.json`, the file of transformers 5; `None` if it has none.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_processor(bytes: &[u8]) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Parts<'a> {
            #[serde(borrow)]
            image_processor: Option<&'a RawValue>,
        }
        const NAME: &str = "processor_config.json";
        let parts: Parts<'_> =
            serde_json::from_slice(bytes).map_err(|e| Error::malformed(NAME, "a JSON object", e.to_string()))?;
        parts.image_processor.map(|part| Self::read(part.get(), NAME)).transpose()
    }

    /// Reads JSON that stands in this file.
    fn read(json: &str, name: &str) -> Result<Self> {
        let file: File = serde_json::from_str(json)
            .map_err(|e| Error::malformed(name, "the numbers of an image processor", e.to_string()))?;
        let refuse =
            |key: &str, expected: &str, found: String| Err(Error::malformed(format!("{name}: {key}"), expected, found));
        for (key, value) in
            [("do_resize", file.do_resize), ("do_rescale", file.do_rescale), ("do_normalize", file.do_normalize)]
        {
            if value == Some(false) {
                return refuse(key, "true", "false".into());
            }
        }
        if let Some(factor) = file.rescale_factor.filter(|f| (f * 255.0 - 1.0).abs() > 1e-6 || f.is_nan()) {
            return refuse("rescale_factor", "1/255", factor.to_string());
        }
        if let Some(filter) = file.resample.filter(|&f| f != 3) {
            return refuse("resample", "3 (bicubic)", filter.to_string());
        }
        let default = Self::default();
        // A size that does not fit is out of range below.
        let side = |n: Option<Whole>, usual: usize| n.map_or(usual, |n| usize::try_from(n.0).unwrap_or(usize::MAX));
        let size = file.size.unwrap_or(Size { shortest_edge: None, longest_edge: None });
        let cfg = Self {
            patch_size: side(file.patch_size, default.patch_size),
            temporal_patch_size: side(file.temporal_patch_size, default.temporal_patch_size),
            merge_size: side(file.merge_size, default.merge_size),
            min_pixels: file.min_pixels.or(size.shortest_edge).map_or(default.min_pixels, |n| n.0),
            max_pixels: file.max_pixels.or(size.longest_edge).map_or(default.max_pixels, |n| n.0),
            image_mean: file.image_mean.map_or(default.image_mean, Channels::each),
            image_std: file.image_std.map_or(default.image_std, Channels::each),
        };
        let sides = [cfg.patch_size, cfg.temporal_patch_size, cfg.merge_size];
        if sides.iter().any(|n| !(1..=256).contains(n)) {
            return refuse("patch_size, temporal_patch_size, merge_size", "1 to 256", format!("{sides:?}"));
        }
        if cfg.max_pixels == 0 {
            return refuse("max_pixels", "at least 1", "0".into());
        }
        if !cfg.image_mean.iter().all(|m| m.is_finite()) || !cfg.image_std.iter().all(|s| s.is_normal()) {
            return refuse(
                "image_mean and image_std",
                "finite numbers, the deviations not 0",
                format!("{:?} and {:?}", cfg.image_mean, cfg.image_std),
            );
        }
        Ok(cfg)
    }

    /// Checks that these sizes are those of the vision tower: `[patch, frames of a patch, merge]`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if they differ. A checkpoint without the file has the defaults of Qwen2-VL, which do not fit the
    /// tower of Qwen3-VL.
    pub fn check_tower(&self, tower: [usize; 3]) -> Result<()> {
        let ours = [self.patch_size, self.temporal_patch_size, self.merge_size];
        if ours == tower {
            return Ok(());
        }
        let expected =
            format!("patch_size, temporal_patch_size, merge_size {tower:?}, which are those of the vision tower");
        Err(Error::malformed(NAME, expected, format!("{ours:?}")))
    }

    /// The side in pixels of the square that one language-model token sees: patch size · merge size. [`Error::Invalid`]
    /// if that is 0 or does not fit (fields set by hand).
    pub fn factor(&self) -> Result<u32> {
        let factor = self.patch_size.checked_mul(self.merge_size).and_then(|f| u32::try_from(f).ok());
        factor.filter(|&f| f > 0).ok_or_else(|| {
            let found = format!("patch_size {}, merge_size {}", self.patch_size, self.merge_size);
            Error::invalid("preprocessor configuration", "a positive patch_size · merge_size", found)
        })
    }
}

/// The input of the vision tower: one row for each patch.
#[derive(Debug, Clone, PartialEq)]
pub struct Patches {
    /// The number of patches in time, down and across. A still picture has 1 in time.
    pub grid_thw: [u32; 3],
    /// [`rows`](Self::rows) × [`row_len`](Self::row_len) normalised values. Rows in the order (t, block row, block
    /// column, row in block, column in block) with blocks of merge size; values in the order (channel, frame, y, x).
    pub pixel_values: Vec<f32>,
    /// (width, height) of the original picture.
    pub original: (u32, u32),
    /// (width, height) that the model sees. Boxes in its answers are in these pixels.
    pub resized: (u32, u32),
}

impl Patches {
    /// Number of patches: t · h · w.
    pub fn rows(&self) -> usize {
        self.grid_thw.iter().map(|&n| n as usize).product()
    }

    /// Values in a patch: 3 · temporal patch size · patch size².
    pub fn row_len(&self) -> usize {
        self.pixel_values.len().checked_div(self.rows()).unwrap_or(0)
    }

    /// Number of tokens of the language model: patches / `merge`².
    pub fn tokens(&self, merge: usize) -> usize {
        self.rows().checked_div(merge * merge).unwrap_or(0)
    }
}

/// Normalises frames of one size and cuts them into patches, like `rescale_and_normalize` and `patchify` of transformers'
/// image and video processors. One frame is a still picture. The last frame is repeated until the number of frames is a
/// multiple of the temporal patch size.
///
/// A value is (v − 255·mean) / (255·std) in f32, since the torchvision backend fuses both steps into this.
///
/// [`Error::Invalid`]: no frame, frames of different sizes or that [`Picture::check`] refuses, sides that are not
/// multiples of patch size · merge size, or more values than fit in memory on wasm.
pub fn patchify(frames: &[&Picture], cfg: &PreprocessorConfig) -> Result<Patches> {
    let factor = cfg.factor()?;
    let [first, ..] = frames else {
        return Err(Error::invalid("frames", "at least one", "none"));
    };
    let (width, height) = (first.width, first.height);
    if width % factor != 0 || height % factor != 0 || cfg.temporal_patch_size == 0 {
        return Err(Error::invalid(
            "frames",
            format!("sides that are multiples of {factor}, and a temporal_patch_size of at least 1"),
            format!("{width}×{height}, temporal_patch_size {}", cfg.temporal_patch_size),
        ));
    }
    for frame in frames {
        frame.check()?;
        if (frame.width, frame.height) != (width, height) {
            let found = format!("{}×{}", frame.width, frame.height);
            return Err(Error::invalid("frames", format!("all {width}×{height}"), found));
        }
    }

    let (patch, merge, depth) = (cfg.patch_size, cfg.merge_size, cfg.temporal_patch_size);
    let (grid_h, grid_w) = (height as usize / patch, width as usize / patch);
    let grid_t = frames.len().div_ceil(depth);
    let slots = (grid_t as u64).saturating_mul(depth as u64); // frames with their repetitions
    let values = slots.saturating_mul(3 * u64::from(width) * u64::from(height));
    if values > i32::MAX as u64 / 4 {
        let found = format!("{} frames of {width}×{height}", frames.len());
        return Err(Error::invalid("frames", "values of less than 2 GiB, the most that wasm can hold at once", found));
    }
    let table = [0, 1, 2].map(|c| normalized(cfg.image_mean[c], cfg.image_std[c]));
    let mut values = Vec::with_capacity(values as usize);
    let last = frames.len() - 1;
    for t in 0..grid_t {
        for (block_y, block_x) in pairs(grid_h / merge, grid_w / merge) {
            for (in_y, in_x) in pairs(merge, merge) {
                let (top, left) = ((block_y * merge + in_y) * patch, (block_x * merge + in_x) * patch);
                for (channel, table) in table.iter().enumerate() {
                    for frame in t * depth..(t + 1) * depth {
                        let rgb = &frames[frame.min(last)].rgb;
                        for y in top..top + patch {
                            let start = (y * width as usize + left) * 3;
                            let line = rgb[start..start + patch * 3].chunks_exact(3);
                            values.extend(line.map(|pixel| table[usize::from(pixel[channel])]));
                        }
                    }
                }
            }
        }
    }
    Ok(Patches {
        grid_thw: [grid_t as u32, grid_h as u32, grid_w as u32],
        pixel_values: values,
        original: (width, height),
        resized: (width, height),
    })
}

/// (0, 0), (0, 1), … (rows − 1, columns − 1).
fn pairs(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |r| (0..columns).map(move |c| (r, c)))
}

/// The normalised value of each byte of one channel.
fn normalized(mean: f32, std: f32) -> [f32; 256] {
    let (mean, std) = (mean * 255.0, std * 255.0);
    std::array::from_fn(|v| (v as f32 - mean) / std)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean 0 and deviation 1/255, so that a value is the byte.
    fn bytes(patch_size: usize, merge_size: usize, temporal_patch_size: usize) -> PreprocessorConfig {
        let (image_mean, image_std) = ([0.0; 3], [1.0 / 255.0; 3]);
        PreprocessorConfig { patch_size, merge_size, temporal_patch_size, image_mean, image_std, ..Default::default() }
    }

    /// Files as transformers 5 and other tools write them. `AutoProcessor` reads the same numbers from them.
    #[test]
    fn processors_in_other_files_and_spellings() {
        let whole = br#"{"image_processor": {"patch_size": 16, "merge_size": 2.0, "size": {"longest_edge": 200704.0,
            "shortest_edge": 3136}, "image_mean": 0.5, "image_std": [0.5, 0.5, 0.25]}, "video_processor": {"patch_size": 99},
            "processor_class": "Qwen3VLProcessor"}"#;
        let config = PreprocessorConfig::from_processor(whole).unwrap().unwrap();
        assert_eq!((config.patch_size, config.merge_size, config.max_pixels), (16, 2, 200_704));
        assert_eq!((config.image_mean, config.image_std), ([0.5; 3], [0.5, 0.5, 0.25]));
        assert_eq!(PreprocessorConfig::from_processor(br#"{"processor_class": "X"}"#).unwrap(), None);
        for bad in
            [r#"{"max_pixels": 1.5}"#, r#"{"max_pixels": -1}"#, r#"{"patch_size": 1e300}"#, r#"{"max_pixels": "1"}"#]
        {
            let error = PreprocessorConfig::from_json(bad.as_bytes()).unwrap_err();
            assert_eq!(error.code(), "bad_model", "{bad}");
        }
    }

    #[test]
    fn rows_are_blocks_and_columns_are_channel_frame_y_x() {
        // 2×2 patches of 1 pixel in 1×2 blocks of 2: the pixel's number is its red, +100 green, +200 blue.
        let rgb = (0..8u8).flat_map(|i| [i, 100 + i, 200 + i]).collect();
        let p = Picture::new(4, 2, rgb).unwrap();
        let patches = patchify(&[&p], &bytes(1, 2, 1)).unwrap();
        assert_eq!(patches.grid_thw, [1, 2, 4]);
        let reds: Vec<f32> = patches.pixel_values.iter().step_by(3).map(|v| v.round()).collect();
        assert_eq!(reds, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0], "top left, top right, bottom left, bottom right");

        // One patch of 2×2 pixels, two frames, the second one repeated to fill the second patch.
        let frame =
            |n: u8| Picture::new(2, 2, (0..4).flat_map(|i| [n + i, n + 100 + i, n + 200 + i]).collect()).unwrap();
        let (a, b, c) = (frame(0), frame(10), frame(20));
        let patches = patchify(&[&a, &b, &c], &bytes(2, 1, 2)).unwrap();
        assert_eq!((patches.grid_thw, patches.row_len()), ([2, 1, 1], 24));
        let values: Vec<u8> = patches.pixel_values.iter().map(|v| v.round() as u8).collect();
        assert_eq!(values[..12], [0, 1, 2, 3, 10, 11, 12, 13, 100, 101, 102, 103]);
        assert_eq!(values[24..32], [20, 21, 22, 23, 20, 21, 22, 23]);
    }

    #[test]
    fn values_are_those_of_the_fused_formula() {
        let p = Picture::new(28, 28, [[0, 128, 255]; 784].concat()).unwrap();
        let patches = patchify(&[&p], &PreprocessorConfig::default()).unwrap();
        // torch: (v - 255·mean) / (255·std) in float32
        for (channel, expected) in [(0, -1.792_262_6f32), (1, 0.168_897_15), (2, 2.145_896_7)] {
            let value = patches.pixel_values[channel * 2 * 196];
            assert!((value - expected).abs() < 5e-7, "channel {channel}: {value} {expected}");
        }
    }

    #[test]
    fn wrong_frames_are_refused() {
        let p = Picture::new(28, 28, vec![0; 28 * 28 * 3]).unwrap();
        let q = Picture::new(56, 28, vec![0; 56 * 28 * 3]).unwrap();
        let odd = Picture::new(30, 28, vec![0; 30 * 28 * 3]).unwrap();
        let cfg = PreprocessorConfig::default();
        assert!(patchify(&[], &cfg).is_err());
        assert!(patchify(&[&p, &q], &cfg).is_err());
        assert!(patchify(&[&odd], &cfg).is_err());
        assert!(patchify(&[&p], &bytes(0, 2, 1)).is_err());
        assert!(patchify(&[&p], &bytes(usize::MAX, 2, 1)).is_err());
        assert!(patchify(&[&p], &bytes(14, 2, 0)).is_err());
        assert!(patchify(&vec![&p; 300_000], &cfg).is_err());
        assert!(patchify(&[&p], &bytes(14, 2, usize::MAX)).is_err());
    }

    #[test]
    fn configurations_of_both_ages() {
        let old = br#"{"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2,
            "merge_size": 2, "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711], "image_processor_type": "Qwen2VLImageProcessor"}"#;
        let cfg = PreprocessorConfig::from_json(old).unwrap();
        assert_eq!(cfg, PreprocessorConfig { max_pixels: 12_845_056, ..Default::default() });
        let new =
            br#"{"size": {"shortest_edge": 65536, "longest_edge": 16777216}, "patch_size": 16, "min_pixels": null,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 0.00392156862745098,
            "do_resize": true, "resample": 3}"#;
        let cfg = PreprocessorConfig::from_json(new).unwrap();
        assert_eq!((cfg.min_pixels, cfg.max_pixels, cfg.patch_size, cfg.factor()), (65536, 16_777_216, 16, Ok(32)));
        assert_eq!(PreprocessorConfig::from_json(b"{}").unwrap(), PreprocessorConfig::default());
        let both = br#"{"size": {"shortest_edge": 1, "longest_edge": 2}, "max_pixels": 9}"#;
        let cfg = PreprocessorConfig::from_json(both).unwrap();
        assert_eq!((cfg.min_pixels, cfg.max_pixels), (1, 9));
    }

    #[test]
    fn other_configurations_are_refused() {
        for json in [
            "",
            "[]",
            r#"{"patch_size": 0}"#,
            r#"{"patch_size": 1e9}"#,
            r#"{"merge_size": -1}"#,
            r#"{"max_pixels": 0}"#,
            r#"{"image_std": [0.0, 1.0, 1.0]}"#,
            r#"{"image_mean": [0.5]}"#,
            r#"{"do_normalize": false}"#,
            r#"{"rescale_factor": 1.0}"#,
            r#"{"resample": 2}"#,
        ] {
            assert_eq!(PreprocessorConfig::from_json(json.as_bytes()).unwrap_err().code(), "bad_model", "{json}");
        }
    }
}
