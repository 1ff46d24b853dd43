//! Computes the size that the model sees ([`smart_resize`]) and resizes pictures to it ([`resize_bicubic`]).

use super::{MAX_PIXELS, Picture};
use crate::error::{Error, Result};

/// Computes from the (height, width) of a picture the (height, width) that the model sees. Both are multiples of `factor`,
/// their product is between `min_pixels` and `max_pixels` if the rounding allows it, and the aspect ratio is nearly kept.
///
/// This is transformers' `image_processing_qwen2_vl.smart_resize` in its f64 arithmetic: sides are rounded half to even, the
/// scale comes from the original sides, the comparisons are strict. `factor` is patch size · merge size.
///
/// [`Error::AspectRatio`]: one side is more than 200 times the other. [`Error::Invalid`]: a side, `factor` or
/// `max_pixels` of 0, or limits that lead to a size of 0 or of more than [`MAX_PIXELS`] pixels.
pub fn smart_resize(height: u32, width: u32, factor: u32, min_pixels: u64, max_pixels: u64) -> Result<(u32, u32)> {
    if height == 0 || width == 0 || factor == 0 || max_pixels == 0 {
        return Err(Error::invalid(
            "size of a picture",
            "a height, width, factor and max_pixels of at least 1",
            format!("height {height}, width {width}, factor {factor}, max_pixels {max_pixels}"),
        ));
    }
    let (h, w, f) = (f64::from(height), f64::from(width), f64::from(factor));
    if h.max(w) / h.min(w) > 200.0 {
        return Err(Error::AspectRatio { width, height });
    }
    let (mut h_bar, mut w_bar) = ((h / f).round_ties_even() * f, (w / f).round_ties_even() * f);
    let area = h_bar * w_bar;
    if area > max_pixels as f64 {
        let beta = (h * w / max_pixels as f64).sqrt();
        h_bar = f.max((h / beta / f).floor() * f);
        w_bar = f.max((w / beta / f).floor() * f);
    } else if area < min_pixels as f64 {
        let beta = (min_pixels as f64 / (h * w)).sqrt();
        h_bar = (h * beta / f).ceil() * f;
        w_bar = (w * beta / f).ceil() * f;
    }
    // A side below 2^26 also fits u32, whatever the other one is.
    if !(h_bar * w_bar >= 1.0 && h_bar * w_bar <= MAX_PIXELS as f64) {
        return Err(Error::invalid(
            "min_pixels and max_pixels",
            format!("limits that lead to 1 to {MAX_PIXELS} pixels"),
            format!("{min_pixels} and {max_pixels}, which make {width}×{height} into {w_bar}×{h_bar}"),
        ));
    }
    Ok((h_bar as u32, w_bar as u32))
}

/// Bits of fraction in PIL's integer weights (`PRECISION_BITS` of its `Resample.c`).
const FRACTION: u32 = 22;

/// Resamples to `width`×`height` exactly as `PIL.Image.resize(..., BICUBIC)` does with 8-bit pixels: antialiased,
/// horizontally first and rounded to bytes, then vertically. An axis that keeps its size is not resampled.
///
/// torchvision, the default backend of transformers, does the same with other integers and differs by up to 2 levels. It
/// always starts horizontally, and so does Pillow before version 13. Pillow 13 starts vertically if the height loses more
/// than twice what the width loses, `h − height > 2·max(w − width, 0)`. Since the bytes between the passes are clamped, hard
/// edges then differ by up to 30 levels. Two calls of this function, height first, give the result of Pillow 13.
///
/// [`Error::Invalid`]: [`Picture::check`] refuses the picture, or would refuse the result.
pub fn resize_bicubic(p: &Picture, width: u32, height: u32) -> Result<Picture> {
    p.check()?;
    let pixels = u64::from(width) * u64::from(height);
    // Between the passes, the picture has its new width and its old height.
    if pixels == 0 || pixels > MAX_PIXELS || u64::from(width) * u64::from(p.height) > 4 * MAX_PIXELS {
        return Err(Error::invalid(
            "size to resize to",
            format!("1 to {MAX_PIXELS} pixels"),
            format!("{}×{} to {width}×{height}", p.width, p.height),
        ));
    }
    let wide = if width == p.width { None } else { Some(resize_rows(&p.rgb, p.width, width)) };
    let rgb = wide.as_deref().unwrap_or(&p.rgb);
    let rgb = match height == p.height {
        true => rgb.to_vec(),
        false => resize_columns(rgb, width as usize * 3, p.height, height),
    };
    Ok(Picture { width, height, rgb })
}

/// For one output pixel: the first input pixel that it reads, and the fixed-point weights of this and the following pixels.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// The taps of every output pixel of an axis that is resized from `from` to `to` pixels (PIL's `precompute_coeffs` and
/// `normalize_coeffs_8bpc`).
fn taps(from: u32, to: u32) -> Vec<Taps> {
    let scale = f64::from(from) / f64::from(to);
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let one_over_stretch = 1.0 / stretch;
    let tap = |i: u32| {
        let centre = (f64::from(i) + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as u32;
        let end = ((centre + support + 0.5) as u32).min(from);
        let weight = |x: u32| cubic((f64::from(x) - centre + 0.5) * one_over_stretch);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |w: &f64| (w / sum * f64::from(1 << FRACTION)).round() as i32;
        Taps { first: first as usize, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(tap).collect()
}

/// The Keys kernel with a = −0.5, in the order of operations of PIL's `bicubic_filter`.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Half a level, so that the shift of [`to_byte`] rounds.
const HALF: i32 = 1 << (FRACTION - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> FRACTION).clamp(0, 255) as u8
}

/// [h, from, 3] → [h, to, 3].
fn resize_rows(rgb: &[u8], from: u32, to: u32) -> Vec<u8> {
    let taps = taps(from, to);
    let stride = from as usize * 3;
    let mut out = Vec::with_capacity(rgb.len() / stride * to as usize * 3);
    for row in rgb.chunks_exact(stride) {
        for tap in &taps {
            let mut sum = [HALF; 3];
            for (pixel, &w) in row[tap.first * 3..].chunks_exact(3).zip(&tap.weights) {
                for (s, &v) in sum.iter_mut().zip(pixel) {
                    *s += i32::from(v) * w; // at most 255 · 2^22 · the kernel's positive sum (< 1.3): fits
                }
            }
            out.extend(sum.map(to_byte));
        }
    }
    out
}

/// [from, stride] → [to, stride], `stride` bytes a row.
fn resize_columns(rgb: &[u8], stride: usize, from: u32, to: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(stride * to as usize);
    let mut sums = vec![0i32; stride];
    for tap in taps(from, to) {
        sums.fill(HALF);
        for (row, &w) in rgb[tap.first * stride..].chunks_exact(stride).zip(&tap.weights) {
            for (s, &v) in sums.iter_mut().zip(row) {
                *s += i32::from(v) * w;
            }
        }
        out.extend(sums.iter().map(|&s| to_byte(s)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: u64 = 3136;
    const MAX: u64 = 12_845_056;

    #[test]
    fn sizes_of_the_reference() {
        // (h, w) → (h, w) at the limits of the hub's configuration; transformers 5.23.
        for (from, to) in [
            ((1532, 1014), (1540, 1008)),
            ((1398, 870), (1400, 868)),
            ((2400, 1080), (2408, 1092)),
            ((1280, 720), (1288, 728)),
            ((480, 640), (476, 644)),
            ((1080, 1920), (1092, 1932)),
            ((2160, 3840), (2156, 3836)),
            ((4000, 6000), (2912, 4368)),
            ((14, 14), (56, 56)),
            ((30, 30), (56, 56)),
            ((42, 70), (56, 56)),
            ((70, 98), (56, 112)),
            ((20, 4000), (28, 4004)),
            ((10, 1000), (28, 560)),
            ((1, 200), (28, 812)),
        ] {
            assert_eq!(smart_resize(from.0, from.1, 28, MIN, MAX), Ok(to), "{from:?}");
        }
        assert_eq!(smart_resize(1080, 1920, 28, MIN, 1280 * 784), Ok((728, 1316)));
    }

    #[test]
    fn sizes_that_are_refused() {
        assert_eq!(smart_resize(1, 201, 28, MIN, MAX), Err(Error::AspectRatio { width: 201, height: 1 }));
        assert_eq!(smart_resize(u32::MAX, 1, 28, MIN, MAX), Err(Error::AspectRatio { width: 1, height: u32::MAX }));
        assert!(smart_resize(u32::MAX, u32::MAX, 28, MIN, MAX).is_ok());
        for (h, w, f, min, max) in [
            (0, 5, 28, MIN, MAX),
            (5, 0, 28, MIN, MAX),
            (5, 5, 0, MIN, MAX),
            (5, 5, 28, MIN, 0),
            (5, 5, 28, 0, MAX), // rounds to nothing
            (5, 5, 28, u64::MAX, u64::MAX),
            (u32::MAX, u32::MAX, 28, 0, u64::MAX),
            (u32::MAX, u32::MAX, u32::MAX, 0, u64::MAX),
        ] {
            assert_eq!(smart_resize(h, w, f, min, max).unwrap_err().code(), "bad_request", "{h} {w} {f} {min} {max}");
        }
    }

    fn row(values: &[u8]) -> Picture {
        Picture::new(values.len() as u32, 1, values.iter().flat_map(|&v| [v, 255 - v, v]).collect()).unwrap()
    }

    #[test]
    fn rows_of_the_reference() {
        for (from, to) in [
            (&[0, 50, 100, 150, 200, 255][..], &[14, 85, 164, 239][..]),
            (&[0, 255, 0, 255], &[0, 135, 236, 19, 120, 255]),
            (&[10, 200, 30, 90, 250, 0, 60, 128], &[90, 120, 78]),
        ] {
            let wide = resize_bicubic(&row(from), to.len() as u32, 1).unwrap();
            assert_eq!(wide.rgb.iter().step_by(3).copied().collect::<Vec<_>>(), to);
            let column = Picture::new(1, from.len() as u32, row(from).rgb).unwrap();
            let tall = resize_bicubic(&column, 1, to.len() as u32).unwrap();
            assert_eq!(tall.rgb, wide.rgb, "both axes follow one rule");
        }
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let p = row(&[1, 2, 250, 3]);
        assert_eq!(resize_bicubic(&p, 4, 1).unwrap(), p);
        let flat = Picture::new(5, 3, vec![77; 45]).unwrap();
        assert!(resize_bicubic(&flat, 31, 17).unwrap().rgb.iter().all(|&v| v == 77), "weights sum to one");
    }

    #[test]
    fn hostile_sizes_are_refused() {
        let p = row(&[1, 2, 3]);
        for (w, h) in [(0, 1), (1, 0), (u32::MAX, u32::MAX), (u32::MAX, 1)] {
            assert_eq!(resize_bicubic(&p, w, h).unwrap_err().code(), "bad_request");
        }
        assert!(resize_bicubic(&Picture { width: 9, height: 9, rgb: vec![0; 3] }, 2, 2).is_err());
    }
}
