//! Pixels of a JPEG, by the crate `jpeg-decoder`.
//!
//! `image`'s own decoder (zune-jpeg, up to 0.5.16-rc3) reads some files wrongly without an error: colours in scans of their own,
//! restart markers in such scans, colours finer than the luma. It refuses sampling factors of 3, and fills in what a file that
//! breaks off does not have. `jpeg-decoder` gives Pillow's pixels for all of these, up to 2 levels, and refuses the last.

use image::ColorType;
use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

use super::MAX_PIXELS;
use super::exif::jpeg_segments;

/// No JPEG has more pixels than this for each of its bytes: a block of 64 pixels takes at least a bit.
const MOST_PER_BYTE: usize = 64 * 8 * 2;

/// The size from the header.
pub(super) fn size(file: &[u8]) -> Result<(u32, u32), String> {
    let mut decoder = Decoder::new(file);
    decoder.read_info().map_err(|e| e.to_string())?;
    let info = decoder.info().ok_or("no frame")?;
    Ok((info.width.into(), info.height.into()))
}

/// Decodes a file whose size was found to be all right.
pub(super) fn pixels(file: &[u8], pixels: usize) -> Result<(ColorType, Vec<u8>), String> {
    if pixels / MOST_PER_BYTE > file.len() {
        return Err(format!("{} bytes, which cannot hold that many pixels", file.len()));
    }
    let mut decoder = Decoder::new(file);
    decoder.set_max_decoding_buffer_size(usize::try_from(MAX_PIXELS * 4).unwrap_or(usize::MAX));
    if let Some(transform) = transform(file) {
        decoder.set_color_transform(transform);
    }
    let raw = decoder.decode().map_err(|e| e.to_string())?;
    match decoder.info().ok_or("no frame")?.pixel_format {
        PixelFormat::L8 => Ok((ColorType::L8, raw)),
        PixelFormat::RGB24 => Ok((ColorType::Rgb8, raw)),
        PixelFormat::CMYK32 => Ok((ColorType::Rgb8, from_cmyk(&raw))),
        PixelFormat::L16 => Err("16 bits a sample".to_owned()),
    }
}

/// What three or four components mean, by the rules of libjpeg (`default_decompress_parms` in jdapimin.c).
fn transform(file: &[u8]) -> Option<ColorTransform> {
    let (mut jfif, mut adobe, mut ids) = (false, None, Vec::new());
    for (marker, body) in jpeg_segments(file) {
        match marker {
            0xE0 if body.starts_with(b"JFIF\0") => jfif = true,
            0xEE if body.starts_with(b"Adobe") && body.len() >= 12 => adobe = Some(body[11]),
            0xC0..=0xC2 => ids = body.get(6..).unwrap_or_default().iter().step_by(3).copied().collect(),
            _ => {}
        }
    }
    match (&ids[..], jfif, adobe) {
        ([_, _, _], true, _) => Some(ColorTransform::YCbCr),
        ([_, _, _], false, Some(0)) => Some(ColorTransform::RGB),
        ([_, _, _], false, Some(_)) => Some(ColorTransform::YCbCr),
        (b"RGB", false, None) => Some(ColorTransform::RGB),
        ([_, _, _], false, None) => Some(ColorTransform::YCbCr),
        ([_, _, _, _], _, Some(0) | None) => Some(ColorTransform::CMYK),
        ([_, _, _, _], _, Some(_)) => Some(ColorTransform::YCCK),
        _ => None,
    }
}

/// Pillow's conversion (`cmyk2rgb` in Convert.c).
fn from_cmyk(raw: &[u8]) -> Vec<u8> {
    let over = |ink: u8, white: u32| {
        let product = u32::from(ink) * white + 128;
        u8::try_from(white - ((product + (product >> 8)) >> 8)).unwrap_or(0)
    };
    let pixels = raw.chunks_exact(4).map(|pixel| {
        let white = 255 - u32::from(pixel[3]);
        [over(pixel[0], white), over(pixel[1], white), over(pixel[2], white)]
    });
    pixels.collect::<Vec<_>>().into_flattened()
}
