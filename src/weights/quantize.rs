//! Floats become q8 or q4 while they are loaded, for a device that has no room for the floats.
//!
//! Both work on 32 elements of a row at a time. **q8** has one scale, `max |x| / 127`, as GGUF's Q8_0. **q4** has a scale and
//! a minimum, as Q4_1: the weights of a block are seldom centred around zero, and without a minimum, which costs half a bit, the error
//! would be about a third larger. Scale and minimum first follow from the block's range. They are then fitted once to the codes
//! by least squares, and the better of the two pairs is taken.

use std::fmt;
use std::str::FromStr;

use half::f16;

use crate::dtype::{Dtype, Layout};
use crate::error::{Error, Result};
use crate::weights::repack::repack_row;

/// Elements that share a scale.
const BLOCK: usize = 32;

/// What floats become on the device, by the part of the model that they belong to. `None` keeps them; tensors that are
/// quantized already are never touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Formats {
    /// The vision tower and its merger.
    pub vision: Option<Layout>,
    /// The decoder's layers.
    pub text: Option<Layout>,
    /// The embedding and the `lm_head`.
    pub embeddings: Option<Layout>,
}

impl Formats {
    /// What `auto` tries, from the heaviest to the lightest. The vision tower always keeps its floats: it is small, and the decoder
    /// cannot make up for what the tower does not see.
    pub const LADDER: [Formats; 5] = [
        Formats { vision: None, text: None, embeddings: None },
        Formats { vision: None, text: Some(Layout::Q8), embeddings: None },
        Formats { vision: None, text: Some(Layout::Q4), embeddings: None },
        Formats { vision: None, text: Some(Layout::Q4), embeddings: Some(Layout::Q8) },
        Formats { vision: None, text: Some(Layout::Q4), embeddings: Some(Layout::Q4) },
    ];

    /// The format of a matrix by the model's name for it.
    pub fn of(&self, name: &str) -> Option<Layout> {
        match name {
            "text.embed" | "lm_head" => self.embeddings,
            _ if name.starts_with("vision.") => self.vision,
            _ => self.text,
        }
    }
}

/// `q8`, `q4` or `keep` for everything, or a list such as `text=q4,vision=keep,embeddings=q8`, in which parts that are not
/// named are kept.
impl FromStr for Formats {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let layout = |name: &str| match name {
            "keep" => Ok(None),
            "q8" => Ok(Some(Layout::Q8)),
            "q4" => Ok(Some(Layout::Q4)),
            other => Err(Error::invalid("weight format", "keep, q8 or q4", other)),
        };
        if !text.contains('=') {
            let all = layout(text)?;
            return Ok(Formats { vision: all, text: all, embeddings: all });
        }
        let mut formats = Formats::default();
        for item in text.split(',') {
            match item.split_once('=') {
                Some(("vision", name)) => formats.vision = layout(name)?,
                Some(("text", name)) => formats.text = layout(name)?,
                Some(("embeddings", name)) => formats.embeddings = layout(name)?,
                _ => return Err(Error::invalid("weight formats", "vision=…, text=… or embeddings=…", item)),
            }
        }
        Ok(formats)
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |layout: Option<Layout>| layout.map_or("keep", Layout::name);
        write!(f, "vision={},text={},embeddings={}", name(self.vision), name(self.text), name(self.embeddings))
    }
}

/// Appends one row of `cols` floats of type `dtype` as it lies on the device in `layout`.
///
/// # Errors
/// [`Error::Malformed`] for a weight that is infinite or no number, [`Error::Invalid`] for a row of another length or a
/// layout that floats cannot become.
pub fn convert_row(dtype: Dtype, layout: Layout, src: &[u8], cols: usize, out: &mut Vec<u8>) -> Result<()> {
    if layout == dtype.layout() {
        return repack_row(dtype, src, cols, out);
    }
    let Some(target) = blocks_of(layout) else {
        return Err(Error::invalid("row", "floats to become q8 or q4", layout.name()));
    };
    // First blocks as a GGUF file has them, which repack_row then takes apart. So only that function knows the planes.
    let mut row = Vec::new();
    quantize_row(dtype, target, src, cols, &mut row)?;
    repack_row(target, &row, cols.div_ceil(BLOCK) * BLOCK, out)
}

/// The type of a file's blocks that lie on the device in this layout, for those that floats can become.
pub fn blocks_of(layout: Layout) -> Option<Dtype> {
    match layout {
        Layout::Q8 => Some(Dtype::Q8_0),
        Layout::Q4 => Some(Dtype::Q4_1),
        _ => None,
    }
}

/// Appends one row of `cols` floats of type `dtype` as blocks of `target`, the last one filled up.
///
/// # Errors
/// [`Error::Malformed`] for a weight that is infinite or no number, [`Error::Invalid`] for a row of another length or a
/// target other than Q8_0 and Q4_1.
pub fn quantize_row(dtype: Dtype, target: Dtype, src: &[u8], cols: usize, out: &mut Vec<u8>) -> Result<()> {
    let values = dtype.to_f32(src)?;
    if values.len() != cols || !matches!(target, Dtype::Q8_0 | Dtype::Q4_1) {
        let expected = format!("{cols} floats to become Q8_0 or Q4_1");
        return Err(Error::invalid("row", expected, format!("{} to become {target}", values.len())));
    }
    if let Some(bad) = values.iter().find(|x| !x.is_finite()) {
        return Err(Error::malformed("weights", "finite numbers", bad.to_string()));
    }
    for block in values.chunks(BLOCK) {
        match target {
            Dtype::Q8_0 => encode_q8(block, out),
            _ => encode_q4(block, out),
        }
    }
    Ok(())
}

/// One block of Q8_0; missing elements are zero.
fn encode_q8(x: &[f32], out: &mut Vec<u8>) {
    let largest = x.iter().fold(0f32, |m, v| m.max(v.abs()));
    let d = f16::from_f32(largest / 127.0);
    out.extend(d.to_le_bytes());
    let inverse = if d.to_f32() > 0.0 { 1.0 / d.to_f32() } else { 0.0 };
    let mut codes = [0u8; BLOCK];
    for (code, v) in codes.iter_mut().zip(x) {
        *code = (v * inverse).round().clamp(-127.0, 127.0) as i8 as u8;
    }
    out.extend(codes);
}

/// One block of Q4_1; missing elements have the code nearest to zero.
fn encode_q4(x: &[f32], out: &mut Vec<u8>) {
    let (low, high) = x.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let first = Affine::new((high - low) / 15.0, low);
    let mut codes = [0u8; BLOCK];
    let error = first.encode(x, &mut codes);
    let mut best = first;
    if let Some(refined) = Affine::fit(x, &codes) {
        let mut other = [0u8; BLOCK];
        if refined.encode(x, &mut other) < error {
            (best, codes) = (refined, other);
        }
    }
    let zero = best.code(0.0);
    codes[x.len()..].fill(zero);
    out.extend(best.d.to_le_bytes());
    out.extend(best.m.to_le_bytes());
    out.extend((0..BLOCK / 2).map(|j| codes[j] | codes[j + BLOCK / 2] << 4));
}

/// `x ≈ d · code + m`.
#[derive(Clone, Copy)]
struct Affine {
    d: f16,
    m: f16,
}

impl Affine {
    fn new(d: f32, m: f32) -> Self {
        Affine { d: f16::from_f32(d), m: f16::from_f32(m) }
    }

    fn code(self, x: f32) -> u8 {
        let d = self.d.to_f32();
        if d > 0.0 { ((x - self.m.to_f32()) / d).round().clamp(0.0, 15.0) as u8 } else { 0 }
    }

    /// Fills the codes in and gives the sum of squared errors.
    fn encode(self, x: &[f32], codes: &mut [u8; BLOCK]) -> f32 {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        codes.iter_mut().zip(x).fold(0.0, |sum, (code, &v)| {
            *code = self.code(v);
            let off = d * f32::from(*code) + m - v;
            sum + off * off
        })
    }

    /// The scale and minimum that have the least error with given codes.
    fn fit(x: &[f32], codes: &[u8; BLOCK]) -> Option<Self> {
        let n = x.len() as f32;
        let (mut q, mut qq, mut s, mut qs) = (0.0, 0.0, 0.0, 0.0);
        for (&code, v) in codes.iter().zip(x) {
            let code = f32::from(code);
            (q, qq, s, qs) = (q + code, qq + code * code, s + v, qs + code * v);
        }
        let determinant = n * qq - q * q;
        let d = (n * qs - q * s) / determinant;
        (determinant > 0.0 && d > 0.0 && d.is_finite()).then(|| Affine::new(d, (s - d * q) / n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::repack::dequantize;

    /// Numbers of about a normal distribution.
    fn normal(count: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    fn through(x: &[f32], layout: Layout) -> Vec<f32> {
        let mut blocks = Vec::new();
        for block in x.chunks(BLOCK) {
            if layout == Layout::Q8 { encode_q8(block, &mut blocks) } else { encode_q4(block, &mut blocks) }
        }
        let mut values = dequantize(if layout == Layout::Q8 { Dtype::Q8_0 } else { Dtype::Q4_1 }, &blocks).unwrap();
        values.truncate(x.len());
        values
    }

    /// Root of the mean squared error, relative to the root of the mean square.
    fn loss(x: &[f32], layout: Layout) -> f64 {
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let back = through(x, layout);
        let off = square(&mut x.iter().zip(&back).map(|(a, b)| f64::from(a - b)));
        (off / square(&mut x.iter().map(|v| f64::from(*v)))).sqrt()
    }

    #[test]
    fn losses_are_what_the_documentation_says() {
        let x = normal(32 * 512);
        let (q8, q4) = (loss(&x, Layout::Q8), loss(&x, Layout::Q4));
        assert!(q8 < 0.006, "{q8}");
        assert!(q4 < 0.085, "{q4}");
        // All of one sign: where a symmetric code wastes half of its codes.
        let positive: Vec<f32> = x.iter().map(|v| 10.0 + v).collect();
        assert!(loss(&positive, Layout::Q4) < 0.01, "{}", loss(&positive, Layout::Q4));
    }

    #[test]
    fn special_blocks() {
        for layout in [Layout::Q8, Layout::Q4] {
            assert_eq!(through(&[0.0; 32], layout), [0.0; 32], "{layout}");
            let equal = through(&[0.5; 32], layout);
            assert!(equal.iter().all(|v| (v - 0.5).abs() < 1e-3), "{layout} {equal:?}");
            let mut one = [0.0; 32];
            one[7] = -3.0;
            let back = through(&one, layout);
            assert!((back[7] + 3.0).abs() < 2e-3 && back[0].abs() < 2e-3, "{layout} {back:?}");
            let short = through(&[1.0, -1.0, 0.25], layout);
            assert!((short[2] - 0.25).abs() < 0.1, "{layout} {short:?}");
        }
    }

    #[test]
    fn rows_of_any_width() {
        let x = normal(45);
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        for layout in [Layout::Q8, Layout::Q4] {
            let mut out = Vec::new();
            convert_row(Dtype::F32, layout, &bytes, 45, &mut out).unwrap();
            assert_eq!(out.len() as u64, 4 * layout.row_words(45).unwrap());
        }
        let mut kept = Vec::new();
        convert_row(Dtype::F32, Layout::F32, &bytes, 45, &mut kept).unwrap();
        assert_eq!(kept[..180], bytes);
        assert!(convert_row(Dtype::F32, Layout::Q6K, &bytes, 45, &mut kept).is_err());
        assert!(convert_row(Dtype::F32, Layout::Q4, &bytes, 44, &mut kept).is_err());
        let nan = f32::NAN.to_le_bytes();
        assert_eq!(convert_row(Dtype::F32, Layout::Q4, &nan, 1, &mut kept).unwrap_err().code(), "bad_model");
    }

    #[test]
    fn formats_in_words() {
        let q4: Formats = "q4".parse().unwrap();
        assert_eq!((q4.of("lm_head"), q4.of("vision.merger.fc1")), (Some(Layout::Q4), Some(Layout::Q4)));
        let mixed: Formats = "text=q4,embeddings=q8".parse().unwrap();
        assert_eq!(mixed.of("text.layers.0.qkv"), Some(Layout::Q4));
        assert_eq!((mixed.of("text.embed"), mixed.of("vision.patch_embed")), (Some(Layout::Q8), None));
        assert_eq!(mixed.to_string().parse::<Formats>().unwrap(), mixed);
        for bad in ["q5", "text", "text=q5", "audio=q4", "text=q4;vision=q4", ""] {
            assert_eq!(bad.parse::<Formats>().unwrap_err().code(), "bad_request", "{bad}");
        }
    }
}
