//! Pixels of a PNG. Colour profiles and texts, which may unpack to any size, are not unpacked.

use std::borrow::Cow;
use std::io::Cursor;

use image::ColorType;
use png::{Decoder, Limits, Reader, Transformations};

/// Bytes that the decoder itself may take, beside a row of pixels: 16-bit RGBA of the widest picture, and as much again.
const MAX_OWN: usize = 64 << 20;
/// No PNG unpacks to more bytes than this for each of its own, by the rules of deflate.
const MOST_PER_BYTE: usize = 1032;

/// Reads the header.
pub(super) fn open(file: &[u8]) -> Result<Reader<Cursor<&[u8]>>, String> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(file), Limits { bytes: MAX_OWN });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Of 16 bits the high byte is kept.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.read_info().map_err(|e| e.to_string())
}

/// Bytes that the pixels take; an error if the file is too short for its size.
pub(super) fn room(reader: &Reader<Cursor<&[u8]>>, length: usize) -> Result<usize, String> {
    let info = reader.info();
    let packed = info.raw_row_length().checked_mul(info.height as usize);
    if packed.is_none_or(|bytes| bytes / MOST_PER_BYTE > length) {
        return Err(format!("{length} bytes, which cannot hold {}×{} pixels", info.width, info.height));
    }
    reader.output_buffer_size().ok_or_else(|| "a size beyond this machine's memory".to_owned())
}

/// Decodes the first picture.
pub(super) fn pixels(reader: &mut Reader<Cursor<&[u8]>>, raw: &mut [u8]) -> Result<ColorType, String> {
    let frame = reader.next_frame(raw).map_err(|e| e.to_string())?;
    match frame.color_type {
        png::ColorType::Grayscale => Ok(ColorType::L8),
        png::ColorType::GrayscaleAlpha => Ok(ColorType::La8),
        png::ColorType::Rgb => Ok(ColorType::Rgb8),
        png::ColorType::Rgba => Ok(ColorType::Rgba8),
        png::ColorType::Indexed => Err("colours without a palette".to_owned()),
    }
}

/// The file with the end that it lacks, if all its pixels are there: Pillow and browsers read such a file.
pub(super) fn ended(file: &[u8]) -> Cow<'_, [u8]> {
    const END: &[u8] = b"\0\0\0\0IEND\xaeB`\x82";
    if file.ends_with(END) {
        return Cow::Borrowed(file);
    }
    let (mut at, mut pixels) = (8usize, false);
    while let Some(header) = file.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let [a, b, c, d, name @ ..] = *header;
        let next =
            usize::try_from(u32::from_be_bytes([a, b, c, d])).ok().and_then(|n| n.checked_add(at)?.checked_add(12));
        match next.filter(|next| *next <= file.len()) {
            Some(next) if &name != b"IEND" => {
                pixels |= &name == b"IDAT";
                at = next;
            }
            Some(_) => return Cow::Borrowed(file),
            None => break,
        }
    }
    // What is left may be a part of the last chunk, and nothing else.
    let rest = file.get(at..).unwrap_or_default();
    match pixels && END.starts_with(rest) {
        true => Cow::Owned([&file[..at], END].concat()),
        false => Cow::Borrowed(file),
    }
}
