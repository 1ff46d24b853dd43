//! Decodes the bytes of a PNG, JPEG, WebP, GIF or BMP file to an upright RGB picture.

use super::{MAX_PIXELS, Picture, exif, jpeg, png};
use crate::error::{Error, Result, room, zeros};
use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits, metadata::Orientation};
use std::io::Cursor;

/// Decodes the first frame of a file. EXIF orientation is applied, transparency is composited on white, and colour profiles
/// are ignored.
///
/// The rules are those of transformers 5 (`image_utils.load_image` for the orientation, `image_transforms.
/// convert_to_rgb` for the alpha: PIL's `alpha_composite`, to the bit). PNG, GIF, BMP and WebP give exactly
/// the pixels of PIL. A JPEG differs by up to 2 levels.
///
/// Two behaviours of PIL are not copied, because they destroy the picture. PIL clips 16-bit grey at 255; here the high byte
/// is taken, as PIL itself does for 16-bit colour. PIL fills the part of a GIF's screen that its first frame does not cover
/// with palette entry 0; here it is transparent, as in browsers.
///
/// [`Error::Image`]: the bytes have none of these formats, the file is broken or ends early, or it has more than [`MAX_PIXELS`]
/// pixels, which is known from the header before anything is decoded. [`Error::NoMemory`]: the pixels do not fit the memory.
pub fn decode(bytes: &[u8]) -> Result<Picture> {
    let format = image::guess_format(bytes).map_err(|_| not_an_image(bytes))?;
    let name = match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        _ => return Err(not_an_image(bytes)),
    };
    let broken = |e: String| Error::Image { expected: format!("a well-formed {name} file"), found: e, hint: BROKEN };
    let fits = |(width, height): (u32, u32)| {
        let pixels = u64::from(width) * u64::from(height);
        let most = format!("1 to {MAX_PIXELS} pixels ({} megapixels)", MAX_PIXELS >> 20);
        let found = format!("a {name} of {width}×{height}");
        let refused = Error::Image { expected: most, found, hint: "Make the picture smaller first." };
        usize::try_from(pixels).ok().filter(|_| (1..=MAX_PIXELS).contains(&pixels)).ok_or(refused)
    };

    let (size, orientation, (color, raw)) = match format {
        ImageFormat::Jpeg => {
            let size = jpeg::size(bytes).map_err(broken)?;
            (size, exif::of_jpeg(bytes), jpeg::pixels(bytes, fits(size)?).map_err(broken)?)
        }
        ImageFormat::Png => {
            let bytes = &*png::ended(bytes);
            let mut reader = png::open(bytes).map_err(broken)?;
            let size = reader.info().size();
            fits(size)?;
            let room = png::room(&reader, bytes.len()).map_err(broken)?;
            let mut raw = zeros(room, "a picture")?;
            let color = png::pixels(&mut reader, &mut raw).map_err(broken)?;
            (size, exif::of_png(bytes), (color, raw))
        }
        _ => {
            let broken = |e: image::ImageError| broken(e.to_string());
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(MAX_PIXELS * 4 + (64 << 20)); // RGBA of the largest picture, and the decoder's own
            let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
            reader.limits(limits);
            let decoder = reader.into_decoder().map_err(broken)?;
            let (size, color) = (decoder.dimensions(), decoder.color_type());
            let channels = usize::from(color.bytes_per_pixel());
            let mut raw = zeros(fits(size)? * channels, "a picture")?;
            decoder.read_image(&mut raw).map_err(broken)?;
            let webp = format == ImageFormat::WebP;
            (size, if webp { exif::of_webp(bytes) } else { Orientation::NoTransforms }, (color, raw))
        }
    };
    let (width, height) = size;
    let rgb = to_rgb(color, raw)?.ok_or_else(|| broken(format!("{color:?}, which is not 8 bits a channel")))?;
    upright(Picture { width, height, rgb }, orientation)
}

/// Width and height of a file as it is stored, from its header. They are not checked against [`MAX_PIXELS`].
///
/// [`Error::Image`]: the bytes have none of the formats of [`decode`], or their header is broken.
pub fn size(bytes: &[u8]) -> Result<(u32, u32)> {
    let broken = |found: String| Error::Image { expected: "a well-formed header".to_owned(), found, hint: BROKEN };
    match image::guess_format(bytes).map_err(|_| not_an_image(bytes))? {
        ImageFormat::Jpeg => jpeg::size(bytes).map_err(broken),
        ImageFormat::Png => png::open(bytes).map(|reader| reader.info().size()).map_err(broken),
        format @ (ImageFormat::WebP | ImageFormat::Gif | ImageFormat::Bmp) => {
            let reader = ImageReader::with_format(Cursor::new(bytes), format);
            reader.into_decoder().map(|decoder| decoder.dimensions()).map_err(|e| broken(e.to_string()))
        }
        _ => Err(not_an_image(bytes)),
    }
}

/// Turns a picture according to its EXIF orientation. `DynamicImage` could do this too, but would add 10 KB of gzipped wasm
/// for its conversions between all pixel formats.
fn upright(p: Picture, orientation: Orientation) -> Result<Picture> {
    let (right, bottom) = (p.width - 1, p.height - 1);
    // Maps (x, y) of the result to (x, y) of the stored picture.
    let source: fn(u32, u32, u32, u32) -> (u32, u32) = match orientation {
        Orientation::NoTransforms => return Ok(p),
        Orientation::FlipHorizontal => |x, y, right, _| (right - x, y),
        Orientation::Rotate180 => |x, y, right, bottom| (right - x, bottom - y),
        Orientation::FlipVertical => |x, y, _, bottom| (x, bottom - y),
        Orientation::Rotate90FlipH => |x, y, _, _| (y, x),
        Orientation::Rotate90 => |x, y, _, bottom| (y, bottom - x),
        Orientation::Rotate270FlipH => |x, y, right, bottom| (right - y, bottom - x),
        Orientation::Rotate270 => |x, y, right, _| (right - y, x),
    };
    let turned =
        !matches!(orientation, Orientation::FlipHorizontal | Orientation::Rotate180 | Orientation::FlipVertical);
    let (width, height) = if turned { (p.height, p.width) } else { (p.width, p.height) };
    let mut rgb = room(p.rgb.len(), "a turned picture")?;
    for y in 0..height {
        for x in 0..width {
            let (x, y) = source(x, y, right, bottom);
            let at = (y as usize * p.width as usize + x as usize) * 3;
            rgb.extend_from_slice(&p.rgb[at..at + 3]);
        }
    }
    Ok(Picture { width, height, rgb })
}

const FORMATS: &str = "a PNG, JPEG, WebP, GIF or BMP file";

const BROKEN: &str = "The file is broken, or of a rare kind: open it in another program and save it as PNG or JPEG.";

/// The error for bytes that begin like none of the formats. It names those that people have, but that are not read here.
fn not_an_image(bytes: &[u8]) -> Error {
    let brand = bytes.get(8..12).filter(|_| bytes.get(4..8) == Some(b"ftyp"));
    let known = match (bytes.get(..4), brand) {
        (_, Some(b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1" | b"heim")) => "a HEIC file",
        (_, Some(b"avif" | b"avis")) => "an AVIF file",
        (Some(b"II*\0" | b"MM\0*"), _) => "a TIFF file",
        (Some(b"\0\0\x01\0"), _) => "an ICO file",
        (Some(b"%PDF"), _) => "a PDF file",
        _ => "",
    };
    let head: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
    let found = match known {
        "" => format!("{} bytes starting with [{}]", bytes.len(), head.join(" ")),
        name => name.to_owned(),
    };
    Error::Image { expected: FORMATS.to_owned(), found, hint: "Use a PNG, JPEG, WebP, GIF or BMP file." }
}

/// Converts decoded samples to RGB bytes, with alpha composited on white. `None` for samples that are not bytes, which none of
/// the formats has here.
fn to_rgb(color: ColorType, raw: Vec<u8>) -> Result<Option<Vec<u8>>> {
    let channels = match color {
        ColorType::L8 => 1,
        ColorType::La8 => 2,
        ColorType::Rgb8 => return Ok(Some(raw)),
        ColorType::Rgba8 => 4,
        _ => return Ok(None),
    };
    let mut rgb = room(raw.len() / channels * 3, "a picture")?;
    for sample in raw.chunks_exact(channels) {
        match *sample {
            [grey] => rgb.extend([grey; 3]),
            [grey, a] => rgb.extend([over_white(grey, a); 3]),
            [r, g, b, a] => rgb.extend([over_white(r, a), over_white(g, a), over_white(b, a)]),
            _ => return Ok(None),
        }
    }
    Ok(Some(rgb))
}

/// One channel of a pixel over opaque white, in the integers of PIL's `AlphaComposite.c`: there the background's
/// alpha of 255 makes coef1 = 128·alpha and coef2 = 128·(255 − alpha), and the sum is divided by 255 and 128.
fn over_white(value: u8, alpha: u8) -> u8 {
    if alpha == 0 {
        return 255;
    }
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    let sum = value * (alpha << 7) + 255 * ((255 - alpha) << 7) + (0x80 << 7);
    ((((sum >> 8) + sum) >> 8) >> 7) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, RgbImage};

    fn file(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    /// A PNG with these header fields and rows (stored, filter 0).
    fn png(width: u32, height: u32, depth: u8, color: u8, chunks: &[(&[u8; 4], &[u8])], rows: &[&[u8]]) -> Vec<u8> {
        fn crc(bytes: &[u8]) -> u32 {
            !bytes.iter().fold(!0u32, |mut c, &b| {
                c ^= u32::from(b);
                (0..8).for_each(|_| c = (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg()));
                c
            })
        }
        let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
        let mut chunk = |name: &[u8; 4], data: &[u8]| {
            out.extend((data.len() as u32).to_be_bytes());
            let body = [name.as_slice(), data].concat();
            out.extend(&body);
            out.extend(crc(&body).to_be_bytes());
        };
        let mut ihdr = [width.to_be_bytes(), height.to_be_bytes()].concat();
        ihdr.extend([depth, color, 0, 0, 0]);
        chunk(b"IHDR", &ihdr);
        chunks.iter().for_each(|(name, data)| chunk(name, data));
        let scan: Vec<u8> = rows.iter().flat_map(|row| [&[0], *row].concat()).collect();
        let (a, b) = scan.iter().fold((1u32, 0u32), |(a, b), &x| {
            let a = (a + u32::from(x)) % 65521;
            (a, (a + b) % 65521)
        });
        let length = (scan.len() as u16).to_le_bytes();
        let mut zlib = vec![0x78, 0x01, 1, length[0], length[1], !length[0], !length[1]];
        zlib.extend(&scan);
        zlib.extend(((b << 16) | a).to_be_bytes());
        chunk(b"IDAT", &zlib);
        chunk(b"IEND", &[]);
        out
    }

    #[test]
    fn alpha_over_white_is_pils() {
        // PIL 13: Image.alpha_composite(white, Image.new("RGBA", (1, 1), (v, v, v, a)))
        for (v, a, expected) in ALPHA_VECTORS {
            assert_eq!(over_white(v, a), expected, "value {v} alpha {a}");
        }
        // The sum over all 65,536 pairs of value·256 + alpha, weighted so that a swap shows.
        let mut sum = 0u64;
        for v in 0..=255u8 {
            for a in 0..=255u8 {
                sum += u64::from(over_white(v, a)) * (u64::from(v) * 257 + u64::from(a) + 1);
            }
        }
        assert_eq!(sum, ALPHA_SUM);
    }
    const ALPHA_VECTORS: [(u8, u8, u8); 6] =
        [(0, 0, 255), (0, 255, 0), (0, 128, 127), (200, 1, 255), (17, 90, 171), (254, 254, 254)];
    const ALPHA_SUM: u64 = 458_122_854_400;

    #[test]
    fn sixteen_bits_keep_the_high_byte() {
        let grey = png(2, 1, 16, 0, &[], &[&[0x12, 0xFF, 0xFF, 0x00]]);
        assert_eq!(decode(&grey).unwrap().rgb, [0x12, 0x12, 0x12, 0xFF, 0xFF, 0xFF]);
        let colour = png(1, 1, 16, 2, &[], &[&[0x00, 0xFF, 0x7F, 0xFF, 0x80, 0x00]]);
        assert_eq!(decode(&colour).unwrap().rgb, [0x00, 0x7F, 0x80]);
        let grey_alpha = png(1, 1, 16, 4, &[], &[&[0x00, 0xFF, 0x80, 0xFF]]);
        assert_eq!(decode(&grey_alpha).unwrap().rgb, [127; 3]);
    }

    #[test]
    fn palettes_with_and_without_transparency() {
        let palette: &[u8] = &[10, 20, 30, 40, 50, 60];
        let opaque = png(2, 1, 8, 3, &[(b"PLTE", palette)], &[&[1, 0]]);
        assert_eq!(decode(&opaque).unwrap().rgb, [40, 50, 60, 10, 20, 30]);
        let clear = png(2, 1, 8, 3, &[(b"PLTE", palette), (b"tRNS", &[0])], &[&[1, 0]]);
        assert_eq!(decode(&clear).unwrap().rgb, [40, 50, 60, 255, 255, 255]);
        let bits = png(8, 1, 1, 0, &[], &[&[0b1011_0000]]);
        assert_eq!(decode(&bits).unwrap().rgb[..9], [255, 255, 255, 0, 0, 0, 255, 255, 255]);
    }

    /// How pixels come from a page (`www/src/page/media.ts`): rows from the top, red first, alpha not multiplied in.
    #[test]
    fn a_bmp_of_rgba_rows() {
        let rgba = [200u8, 1, 7, 255, 17, 90, 254, 255, 0, 0, 0, 0, 17, 200, 0, 90];
        let mut bmp = b"BM".to_vec();
        let words: [i32; 12] = [122 + 16, 0, 122, 108, 2, -2, 1 | 32 << 16, 3, 16, 0, 0, 0];
        let masks = [0, 0xFF, 0xFF00, 0xFF_0000, 0xFF00_0000, 0x7352_4742];
        words.iter().for_each(|word| bmp.extend(word.to_le_bytes()));
        masks.iter().for_each(|word: &u32| bmp.extend(word.to_le_bytes()));
        bmp.resize(122, 0);
        bmp.extend(rgba);
        let p = decode(&bmp).unwrap();
        let last = [17, 200, 0].map(|value| over_white(value, 90));
        assert_eq!((p.width, p.height), (2, 2));
        assert_eq!(p.rgb, [&[200, 1, 7, 17, 90, 254, 255, 255, 255], last.as_slice()].concat());
    }

    #[test]
    fn every_format_and_orientation() {
        let rgb = RgbImage::from_fn(6, 4, |x, y| image::Rgb([x as u8 * 40, y as u8 * 60, 200]));
        let image = DynamicImage::ImageRgb8(rgb.clone());
        for format in [ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::WebP] {
            let p = decode(&file(&image, format)).unwrap();
            assert_eq!((p.width, p.height, p.rgb.as_slice()), (6, 4, rgb.as_raw().as_slice()), "{format:?}");
        }
        assert_eq!(decode(&file(&image, ImageFormat::Jpeg)).unwrap().width, 6);
    }

    /// EXIF 1 to 8 on a picture of 1 2 3 over 4 5 6. Expected values: PIL's `ImageOps.exif_transpose`.
    #[test]
    fn all_orientations() {
        let expected: [(u32, [u8; 6]); 8] = [
            (3, [1, 2, 3, 4, 5, 6]),
            (3, [3, 2, 1, 6, 5, 4]),
            (3, [6, 5, 4, 3, 2, 1]),
            (3, [4, 5, 6, 1, 2, 3]),
            (2, [1, 4, 2, 5, 3, 6]),
            (2, [4, 1, 5, 2, 6, 3]),
            (2, [6, 3, 5, 2, 4, 1]),
            (2, [3, 6, 2, 5, 1, 4]),
        ];
        for (tag, (width, pixels)) in (1u8..).zip(expected) {
            // A little-endian EXIF block whose only entry is the orientation.
            let mut exif = *b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
            exif[18] = tag;
            let p = decode(&png(3, 2, 8, 0, &[(b"eXIf", &exif)], &[&[1, 2, 3], &[4, 5, 6]])).unwrap();
            assert_eq!((p.width, p.height), (width, 6 / width), "orientation {tag}");
            assert_eq!(p.rgb.iter().step_by(3).copied().collect::<Vec<_>>(), pixels, "orientation {tag}");
        }
    }

    #[test]
    fn what_is_no_picture_is_refused_with_words() {
        for bytes in [&b""[..], b"\x89PNG", b"<html><body>", b"II*\0\x08\0\0\0", &[0; 64]] {
            let error = decode(bytes).unwrap_err();
            assert!(matches!(&error, Error::Image { expected, .. } if expected.contains("PNG, JPEG")), "{error}");
        }
        let mut cut = file(&DynamicImage::new_rgb8(30, 30), ImageFormat::Png);
        cut.truncate(60);
        assert!(matches!(decode(&cut), Err(Error::Image { .. })));
    }

    /// Pillow reads a PNG that lacks its end, and refuses one that lacks pixels.
    #[test]
    fn a_png_without_its_end() {
        let image =
            DynamicImage::ImageRgb8(RgbImage::from_fn(19, 17, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8])));
        let whole = file(&image, ImageFormat::Png);
        let expected = decode(&whole).unwrap();
        for cut in 1..=12 {
            assert_eq!(decode(&whole[..whole.len() - cut]).unwrap(), expected, "{cut}");
        }
        for cut in [30, 60] {
            assert_eq!(decode(&whole[..whole.len() - cut]).unwrap_err().code(), "bad_image", "{cut}");
        }
    }

    /// A name for what people have and what is not read here, and a hint that fits the fault.
    #[test]
    fn errors_say_what_it_is_and_what_to_do() {
        let error = |bytes: &[u8]| decode(bytes).unwrap_err();
        assert!(error(b"II*\0\x08\0\0\0").to_string().contains("a TIFF file"));
        assert!(error(b"\0\0\0\x18ftypheic\0\0").to_string().contains("a HEIC file"));
        let large = error(&png(30_000, 30_000, 8, 2, &[], &[&[]]));
        assert!(large.hint().contains("smaller") && !large.hint().contains("JPEG"), "{}", large.hint());
        // A header alone is refused before memory is taken for its pixels.
        let empty = error(&png(8192, 8192, 8, 2, &[], &[&[]]));
        assert!(empty.to_string().contains("cannot hold") && empty.hint().contains("broken"), "{empty}");
    }

    #[test]
    fn the_size_is_read_before_the_pixels() {
        let bomb = png(30_000, 30_000, 8, 2, &[], &[&[]]);
        let text = decode(&bomb).unwrap_err().to_string();
        assert!(text.contains("64 megapixels") && text.contains("30000×30000"), "{text}");
        let mut gif = b"GIF89a".to_vec();
        gif.extend([0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, b';']);
        assert!(matches!(decode(&gif), Err(Error::Image { .. })));
    }

    /// No input may panic: every truncation and many corruptions of a small file of each format.
    #[test]
    fn corrupted_files_never_panic() {
        let image = DynamicImage::ImageRgb8(RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8, y as u8, 9])));
        let mut seed = 1u64;
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp] {
            let good = file(&image, format);
            for end in 0..good.len() {
                let _ = decode(&good[..end]);
            }
            for _ in 0..400 {
                let mut bad = good.clone();
                for _ in 0..3 {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let at = (seed >> 33) as usize % bad.len();
                    bad[at] = (seed >> 24) as u8;
                }
                let _ = decode(&bad);
            }
        }
    }
}
