//! Pictures: from the bytes of a file to upright RGB, to the size that the model sees, to rows of normalised patches.
//!
//! Everything here is pure. It follows transformers' `image_processing_qwen2_vl.py` to the bit: the torchvision backend for
//! the arithmetic of the normalisation, and PIL for decoding and resampling. [`decode()`] and [`resize_bicubic`] describe the
//! exceptions.

mod decode;
mod exif;
mod jpeg;
mod patchify;
mod png;
mod resize;
mod still;

pub use decode::{decode, size};
pub use patchify::{Patches, PreprocessorConfig, patchify};
pub use resize::{resize_bicubic, smart_resize};
pub use still::Still;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The most pixels that a picture may have, as a file or after resizing: 64 Mi (192 MiB of RGB).
pub const MAX_PIXELS: u64 = 64 << 20;

/// An upright picture: 8-bit RGB, row-major, no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `height · width · 3` bytes, red first.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Makes a picture from its pixels. [`Error::Invalid`] if [`check`](Self::check) refuses it.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self> {
        let picture = Self { width, height, rgb };
        picture.check()?;
        Ok(picture)
    }

    /// Refuses ([`Error::Invalid`]) an empty picture, one of more than [`MAX_PIXELS`], and one whose bytes do not fit
    /// its size.
    pub fn check(&self) -> Result<()> {
        let pixels = u64::from(self.width) * u64::from(self.height);
        if pixels == 0 || pixels > MAX_PIXELS || self.rgb.len() as u64 != pixels * 3 {
            return Err(Error::invalid(
                "picture",
                format!("1 to {MAX_PIXELS} pixels of 3 bytes each"),
                format!("{}×{} pixels in {} bytes", self.width, self.height, self.rgb.len()),
            ));
        }
        Ok(())
    }

    /// Identifies a picture: part of the SHA-256 of its size and pixels. Different pictures have different keys.
    pub fn digest(&self) -> u128 {
        let hasher = Sha256::new().chain_update(b"picture");
        key(hasher
            .chain_update(self.width.to_le_bytes())
            .chain_update(self.height.to_le_bytes())
            .chain_update(&self.rgb))
    }
}

/// The first half of a SHA-256, which is long enough that nobody finds two inputs with the same value.
pub(crate) fn key(hasher: Sha256) -> u128 {
    hasher.finalize().iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte))
}

/// Options for one picture. Those that are not set are taken from the checkpoint's [`PreprocessorConfig`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageOptions {
    /// Fewest pixels after resizing.
    pub min_pixels: Option<u64>,
    /// Most pixels after resizing.
    pub max_pixels: Option<u64>,
    /// Height to use instead of the picture's own, also rounded by [`smart_resize`]. Needs `resized_width` too.
    pub resized_height: Option<u32>,
    /// Width to use instead of the picture's own, also rounded by [`smart_resize`]. Needs `resized_height` too.
    pub resized_width: Option<u32>,
}

/// Resizes one still picture and cuts it into patches, as transformers' `Qwen2VLImageProcessor.preprocess` does.
///
/// `resized_height` and `resized_width` replace the picture's own size as the input of [`smart_resize`]
/// (qwen-vl-utils' `fetch_image`, with the limits in force here instead of that package's constants). One without the
/// other is [`Error::Invalid`]; qwen-vl-utils ignores it silently.
///
/// Also [`Error::Invalid`]: a picture that [`Picture::check`] refuses, limits that no size fits, a result of more than
/// [`MAX_PIXELS`]. [`Error::AspectRatio`]: one side is more than 200 times the other.
pub fn preprocess(p: &Picture, cfg: &PreprocessorConfig, o: &ImageOptions) -> Result<Patches> {
    p.check()?;
    let (width, height) = resized((p.width, p.height), cfg, o)?;
    let resized = resize_bicubic(p, width, height)?;
    let mut patches = patchify(&[&resized], cfg)?;
    patches.original = (p.width, p.height);
    Ok(patches)
}

/// The (width, height) to which [`preprocess`] resizes a picture of this (width, height).
///
/// # Errors
/// As for [`preprocess`].
pub fn resized(size: (u32, u32), cfg: &PreprocessorConfig, o: &ImageOptions) -> Result<(u32, u32)> {
    let (height, width) = match (o.resized_height, o.resized_width) {
        (Some(h), Some(w)) => (h, w),
        (None, None) => (size.1, size.0),
        (h, w) => {
            return Err(Error::invalid(
                "resized_height and resized_width",
                "both or neither",
                format!("resized_height {h:?}, resized_width {w:?}"),
            ));
        }
    };
    let min_pixels = o.min_pixels.unwrap_or(cfg.min_pixels);
    let max_pixels = o.max_pixels.unwrap_or(cfg.max_pixels);
    let (height, width) = smart_resize(height, width, cfg.factor()?, min_pixels, max_pixels)?;
    Ok((width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> Picture {
        let rgb = (0..width * height * 3).map(|i| (i * 7 % 251) as u8).collect();
        Picture::new(width, height, rgb).unwrap()
    }

    #[test]
    fn one_still_picture() {
        let cfg = PreprocessorConfig::default();
        let patches = preprocess(&picture(70, 40), &cfg, &ImageOptions::default()).unwrap();
        assert_eq!(patches.original, (70, 40));
        assert_eq!(patches.resized, (84, 56), "2240 pixels are fewer than 3136, so both sides are rounded up");
        assert_eq!(patches.grid_thw, [1, 4, 6]);
        assert_eq!((patches.rows(), patches.row_len(), patches.tokens(2)), (24, 1176, 6));
        assert_eq!(patches.pixel_values.len(), 24 * 1176);
    }

    #[test]
    fn wanted_sizes_are_rounded_and_limited() {
        let cfg = PreprocessorConfig::default();
        let options = |h, w| ImageOptions { resized_height: h, resized_width: w, ..Default::default() };
        let p = picture(70, 40);
        assert_eq!(preprocess(&p, &cfg, &options(Some(100), Some(200))).unwrap().resized, (196, 112));
        assert_eq!(preprocess(&p, &cfg, &options(Some(100), None)).unwrap_err().code(), "bad_request");
        assert_eq!(preprocess(&p, &cfg, &options(None, Some(100))).unwrap_err().code(), "bad_request");
        assert_eq!(preprocess(&p, &cfg, &options(Some(0), Some(100))).unwrap_err().code(), "bad_request");
        assert_eq!(preprocess(&p, &cfg, &options(Some(1), Some(300))).unwrap_err().code(), "bad_image");
        let few = ImageOptions { max_pixels: Some(4 * 784), ..options(Some(1000), Some(1000)) };
        assert_eq!(preprocess(&p, &cfg, &few).unwrap().resized, (56, 56));
    }

    #[test]
    fn hostile_limits_and_pictures_are_refused() {
        let cfg = PreprocessorConfig::default();
        let p = picture(70, 40);
        for (min, max) in [(u64::MAX, u64::MAX), (1 << 40, 1 << 41), (0, 0)] {
            let o = ImageOptions { min_pixels: Some(min), max_pixels: Some(max), ..Default::default() };
            assert_eq!(preprocess(&p, &cfg, &o).unwrap_err().code(), "bad_request", "{min} {max}");
        }
        let short = Picture { width: 1 << 31, height: 1 << 31, rgb: vec![0; 12] };
        assert_eq!(preprocess(&short, &cfg, &ImageOptions::default()).unwrap_err().code(), "bad_request");
        assert!(Picture::new(0, 5, vec![]).is_err());
    }
}
