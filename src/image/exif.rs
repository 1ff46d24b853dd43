//! Which way up a picture is, as its file's metadata says: EXIF, and XMP where EXIF does not say.
//!
//! The rules are Pillow's (`Image.getexif`, with what its JPEG, PNG and WebP plugins put there), as far as they concern the
//! orientation. All lengths in a file are checked against what is left of it before anything is copied, and no more than
//! [`MAX_METADATA`] is.

use image::metadata::Orientation;

/// Most bytes of metadata that are read, all segments of a file together.
const MAX_METADATA: usize = 1 << 20;

/// The orientation of a JPEG. EXIF in several segments is joined.
pub(super) fn of_jpeg(file: &[u8]) -> Orientation {
    let (mut exif, mut xmp) = (Vec::new(), None);
    for (marker, body) in jpeg_segments(file) {
        if marker != 0xE1 {
            continue;
        }
        if let Some(part) = body.strip_prefix(b"Exif\0\0") {
            join(&mut exif, part);
        } else if let Some(text) = body.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
            xmp = Some(text);
        }
    }
    choose(&exif, xmp)
}

/// The segments of a JPEG before its first scan: marker and body.
pub(super) fn jpeg_segments(file: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = file.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        // Other bytes before a marker, and several 0xFF, are skipped as every decoder does.
        let at = rest.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF))?;
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        match marker {
            0xDA | 0xD9 => None,
            // These have no body.
            0x01 | 0xD0..=0xD8 => Some((marker, &[][..])),
            _ => {
                let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
                let body = rest.get(2..length)?;
                rest = &rest[length..];
                Some((marker, body))
            }
        }
    })
}

/// The orientation of a PNG: its `eXIf` chunk, or else ImageMagick's `Raw profile type exif` in a text.
pub(super) fn of_png(file: &[u8]) -> Orientation {
    let (mut exif, mut profile, mut xmp) = (&[][..], None, None);
    let mut rest = file.get(8..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<4>()
        && let Some((name, after)) = after.split_first_chunk::<4>()
        && let Ok(length) = usize::try_from(u32::from_be_bytes(*length))
        && let Some(body) = after.get(..length)
    {
        match name {
            b"eXIf" => exif = body,
            b"tEXt" | b"zTXt" | b"iTXt" => match text(name, body) {
                Some((b"Raw profile type exif", text)) => profile = Some(text),
                Some((b"XML:com.adobe.xmp", text)) => xmp = Some(text),
                _ => {}
            },
            _ => {}
        }
        // The checksum takes four bytes.
        rest = after.get(length.saturating_add(4)..).unwrap_or_default();
    }
    let unpacked = profile.and_then(|text| profile_bytes(&text)).unwrap_or_default();
    choose(if exif.is_empty() { &unpacked } else { exif }, xmp.as_deref())
}

/// Keyword and text of a text chunk of a PNG, unpacked if it is one of the two that may say the orientation.
fn text<'a>(name: &[u8; 4], body: &'a [u8]) -> Option<(&'a [u8], Vec<u8>)> {
    let mut fields = body.splitn(2, |byte| *byte == 0);
    let (keyword, rest) = (fields.next()?, fields.next()?);
    if !matches!(keyword, b"Raw profile type exif" | b"XML:com.adobe.xmp") {
        return None;
    }
    let (packed, text) = match name {
        b"tEXt" => (false, rest),
        b"zTXt" => (true, rest.get(1..)?),
        // Two bytes say whether and how it is packed; a language and a translated keyword follow, each ended by a zero.
        _ => (rest.first() == Some(&1), rest.get(2..)?.splitn(3, |byte| *byte == 0).nth(2)?),
    };
    let text = match packed {
        true => fdeflate::decompress_to_vec_bounded(text, MAX_METADATA).ok()?,
        false => text.get(..text.len().min(MAX_METADATA))?.to_vec(),
    };
    Some((keyword, text))
}

/// The bytes of ImageMagick's profile: an empty line, a name, a length, and then hexadecimal digits in lines.
fn profile_bytes(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.split(|byte| *byte == b'\n').skip(3).flatten().copied().collect();
    let digits: Vec<u8> = digits.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |digit: u8| char::from(digit).to_digit(16);
    digits.chunks(2).map(|pair| u8::try_from(value(*pair.first()?)? << 4 | value(*pair.get(1)?)?).ok()).collect()
}

/// The orientation of a WebP. As in libwebp, metadata counts only where the extended header announces it.
pub(super) fn of_webp(file: &[u8]) -> Orientation {
    const EXIF: u8 = 8;
    const XMP: u8 = 4;
    let (mut exif, mut xmp) = (&[][..], None);
    let mut rest = file.get(12..).unwrap_or_default();
    let mut announced = None;
    while let Some((name, after)) = rest.split_first_chunk::<4>()
        && let Some((length, after)) = after.split_first_chunk::<4>()
        && let Ok(length) = usize::try_from(u32::from_le_bytes(*length))
        && let Some(body) = after.get(..length)
    {
        let flags = *announced.get_or_insert(if name == b"VP8X" { body.first().copied().unwrap_or(0) } else { 0 });
        match name {
            b"EXIF" if flags & EXIF != 0 && exif.is_empty() => exif = body,
            b"XMP " if flags & XMP != 0 && xmp.is_none() => xmp = Some(body),
            _ => {}
        }
        rest = after.get(length.saturating_add(length & 1)..).unwrap_or_default();
    }
    choose(exif, xmp)
}

/// Adds a part within [`MAX_METADATA`].
fn join(whole: &mut Vec<u8>, part: &[u8]) {
    let room = MAX_METADATA - whole.len();
    whole.extend_from_slice(&part[..part.len().min(room)]);
}

/// What EXIF says, or else what XMP says. A value that no orientation has counts as upright, and hides XMP as in Pillow.
fn choose(exif: &[u8], xmp: Option<&[u8]>) -> Orientation {
    let value = from_tiff(exif).or_else(|| xmp.and_then(from_xmp));
    value.and_then(|value| Orientation::from_exif(u8::try_from(value).ok()?)).unwrap_or(Orientation::NoTransforms)
}

/// Tag 0x0112 of the first directory of a TIFF header, which some writers put `Exif\0\0` in front of.
fn from_tiff(mut exif: &[u8]) -> Option<u32> {
    while let Some(rest) = exif.strip_prefix(b"Exif\0\0") {
        exif = rest;
    }
    let exif = &exif[..exif.len().min(MAX_METADATA)];
    let little = match exif.get(..4)? {
        b"II*\0" | b"II\0*" => true,
        b"MM\0*" | b"MM*\0" => false,
        _ => return None,
    };
    let number = |at: usize, bytes: usize| {
        let digits = exif.get(at..at.checked_add(bytes)?)?;
        let shift = |all: u32, digit: &u8| all << 8 | u32::from(*digit);
        Some(if little { digits.iter().rev().fold(0, shift) } else { digits.iter().fold(0, shift) })
    };
    let directory = usize::try_from(number(4, 4)?).ok()?;
    let entries = usize::try_from(number(directory, 2)?).ok()?;
    (0..entries).find_map(|entry| {
        let at = directory.checked_add(2 + entry * 12)?;
        let (tag, kind, count) = (number(at, 2)?, number(at + 2, 2)?, number(at + 4, 4)?);
        match (tag, kind, count) {
            (0x0112, 3 | 8, 1) => number(at + 8, 2),
            (0x0112, 4 | 9, 1) => number(at + 8, 4),
            _ => None,
        }
    })
}

/// Pillow's search in XMP: `tiff:Orientation="6"` or `<tiff:Orientation>6`.
fn from_xmp(xmp: &[u8]) -> Option<u32> {
    let xmp = &xmp[..xmp.len().min(MAX_METADATA)];
    const NAME: &[u8] = b"tiff:Orientation";
    let mut places = xmp.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    places.find_map(|(at, _)| {
        let rest = &xmp[at + NAME.len()..];
        let digit = *rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?.first()?;
        char::from(digit).to_digit(10)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF header with the orientation 6 as its only entry.
    fn tiff(little: bool, kind: u8) -> Vec<u8> {
        let value = [6, 0, 0, 0];
        let big = if kind == 3 { [0, 6, 0, 0] } else { [0, 0, 0, 6] };
        match little {
            true => [b"II*\0\x08\0\0\0\x01\0\x12\x01", &[kind, 0, 1, 0, 0, 0][..], &value].concat(),
            false => [b"MM\0*\0\0\0\x08\0\x01\x01\x12", &[0, kind, 0, 0, 0, 1][..], &big].concat(),
        }
    }

    fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
        [&[0xFF, marker], &length[..], body].concat()
    }

    fn jpeg(segments: &[&[u8]]) -> Vec<u8> {
        let marked = segments.iter().flat_map(|body| segment(0xE1, body));
        [0xFF, 0xD8].into_iter().chain(marked).chain([0xFF, 0xDA]).collect()
    }

    // Expected values are those of Pillow 13 (`ImageOps.exif_transpose`) for files built alike.
    #[test]
    fn in_jpeg() {
        let xmp = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation=\"8\"/>";
        let exif = |tiff: &[u8]| [b"Exif\0\0", tiff].concat();
        for (little, kind) in [(true, 3), (true, 4), (false, 3), (false, 4)] {
            let whole = tiff(little, kind);
            assert_eq!(of_jpeg(&jpeg(&[&exif(&whole)])), Orientation::Rotate90, "{little} {kind}");
            // In two segments, cut anywhere; other segments before, and between.
            for cut in 0..whole.len() {
                let (a, b) = whole.split_at(cut);
                let parts = jpeg(&[xmp, &exif(a), b"else", &exif(b)]);
                assert_eq!(of_jpeg(&parts), Orientation::Rotate90, "{cut}");
            }
        }
        // A second EXIF segment of its own does not replace the first.
        let other = tiff(true, 3).iter().map(|b| if *b == 6 { 3 } else { *b }).collect::<Vec<_>>();
        assert_eq!(of_jpeg(&jpeg(&[&exif(&tiff(true, 3)), &exif(&other)])), Orientation::Rotate90);
        assert_eq!(of_jpeg(&jpeg(&[xmp])), Orientation::Rotate270);
        assert_eq!(of_jpeg(&jpeg(&[])), Orientation::NoTransforms);
        for end in 0..40 {
            let file = jpeg(&[&exif(&tiff(true, 3))]);
            of_jpeg(&file[..end.min(file.len())]);
        }
    }

    #[test]
    fn in_webp() {
        let webp = |flags: u8, name: &[u8; 4], length: u32, body: &[u8]| {
            let vp8x = [b"VP8X\x0a\0\0\0", &[flags, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]].concat();
            [b"RIFF\0\0\0\0WEBP", &vp8x[..], name, &length.to_le_bytes(), body].concat()
        };
        let whole = tiff(true, 3);
        let length = u32::try_from(whole.len()).unwrap();
        assert_eq!(of_webp(&webp(8, b"EXIF", length, &whole)), Orientation::Rotate90);
        let prefixed = [b"Exif\0\0", &whole[..]].concat();
        assert_eq!(of_webp(&webp(8, b"EXIF", length + 6, &prefixed)), Orientation::Rotate90);
        assert_eq!(of_webp(&webp(0, b"EXIF", length, &whole)), Orientation::NoTransforms, "not announced");
        assert_eq!(of_webp(&webp(8, b"EXIF", 0xF000_0000, &whole)), Orientation::NoTransforms, "longer than the file");
        let xmp = b"<tiff:Orientation>3</tiff:Orientation>";
        assert_eq!(of_webp(&webp(4, b"XMP ", 38, xmp)), Orientation::Rotate180);
    }

    #[test]
    fn in_png() {
        let chunk = |name: &[u8; 4], body: &[u8]| {
            [&u32::try_from(body.len()).unwrap().to_be_bytes(), &name[..], body, &[0; 4]].concat()
        };
        let png = |chunks: &[Vec<u8>]| [b"\x89PNG\r\n\x1a\n", &chunks.concat()[..]].concat();
        let whole = tiff(false, 3);
        assert_eq!(of_png(&png(&[chunk(b"eXIf", &whole)])), Orientation::Rotate90);
        let hex: String = [b"Exif\0\0", &whole[..]].concat().iter().map(|b| format!("{b:02x}")).collect();
        let (a, b) = hex.split_at(20);
        let profile = format!("\nexif\n      {}\n{a}\n{b}\n", hex.len() / 2);
        let stored = [b"Raw profile type exif\0", profile.as_bytes()].concat();
        assert_eq!(of_png(&png(&[chunk(b"tEXt", &stored)])), Orientation::Rotate90);
        let packed = [b"Raw profile type exif\0\0", &fdeflate::compress_to_vec(profile.as_bytes())[..]].concat();
        assert_eq!(of_png(&png(&[chunk(b"zTXt", &packed)])), Orientation::Rotate90);
        let xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation=\"6\"/>";
        assert_eq!(of_png(&png(&[chunk(b"iTXt", xmp)])), Orientation::Rotate90);
        assert_eq!(
            of_png(&png(&[chunk(b"zTXt", b"Raw profile type exif\0\0\x78\x9c\xff")])),
            Orientation::NoTransforms
        );
        let mut long = png(&[chunk(b"eXIf", &whole)]);
        long[8..12].copy_from_slice(&[0xFF; 4]);
        assert_eq!(of_png(&long), Orientation::NoTransforms);
    }
}
