//! The picture path against transformers and PIL: fixtures of `tests/golden/goldenlib/preprocess.py`.

use fanlight::image::{
    ImageOptions, Picture, PreprocessorConfig, decode, patchify, preprocess, resize_bicubic, smart_resize,
};
use serde_json::Value;
use std::path::PathBuf;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("fixture {}: {e}", path.display()))
}

fn rows(name: &str) -> Vec<Value> {
    let rows: Vec<Value> = serde_json::from_slice(&golden(name)).unwrap();
    assert!(!rows.is_empty(), "{name} is empty");
    rows
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    value.as_u64().and_then(|n| T::try_from(n).ok()).unwrap_or_else(|| panic!("not a number: {value}"))
}

fn bytes(values: &Value) -> Vec<u8> {
    values.as_array().unwrap().iter().map(number).collect()
}

/// The limits of the hub's checkpoints, which the fixtures use.
fn hub() -> PreprocessorConfig {
    PreprocessorConfig { max_pixels: 12_845_056, ..Default::default() }
}

#[test]
fn smart_resize_is_transformers() {
    let rows = rows("smart_resize.json");
    for row in &rows {
        let n = |i: usize| number::<u32>(&row[i]);
        let got = smart_resize(n(0), n(1), n(4), number(&row[2]), number(&row[3]));
        match row[5] {
            Value::Null => assert!(got.is_err(), "{row}: {got:?}"),
            _ => assert_eq!(got, Ok((n(5), n(6))), "{row}"),
        }
    }
    println!("{} sizes", rows.len());
}

#[test]
fn resize_is_pil_to_the_bit() {
    for row in rows("resize.json") {
        let rgb = bytes(&row["pixels"]).iter().flat_map(|&v| [v; 3]).collect();
        let p = Picture::new(number(&row["width"]), number(&row["height"]), rgb).unwrap();
        let got = resize_bicubic(&p, number(&row["to_width"]), number(&row["to_height"])).unwrap();
        let got: Vec<u8> = got.rgb.chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(got, bytes(&row["expected"]), "{}", row["note"]);
    }
}

/// JPEGs of unusual build (tests/golden/make_jpeg.py): each has Pillow's pixels, or is refused as by Pillow.
#[test]
fn jpegs_of_any_build() {
    let cases: Vec<Value> = serde_json::from_slice(&golden("jpeg/cases.json")).unwrap();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let got = decode(&golden(&format!("jpeg/{name}.jpg")));
        if case["error"].is_string() {
            let error = got.expect_err(name);
            assert_eq!((error.code(), error.hint().contains("broken")), ("bad_image", true), "{name}: {error}");
            continue;
        }
        let (got, pil) = (got.unwrap(), decode(&golden(&format!("jpeg/{name}.png"))).unwrap());
        assert_eq!((got.width, got.height), (pil.width, pil.height), "{name}");
        let (max, _) = difference(&got.rgb, &pil.rgb);
        assert!(max <= 3, "{name}: {max} levels away");
    }
    assert!(cases.len() > 20);
}

#[test]
fn pictures_are_decoded_and_resized_as_by_transformers() {
    let rows = rows("preprocess.json");
    for row in &rows {
        let name = row["image"].as_str().unwrap();
        let label = format!("{name} {}", row["options"]);
        let picture = decode(&golden(&format!("images/{name}"))).unwrap_or_else(|e| panic!("{label}: {e}"));
        let size = (number(&row["decoded_size"][0]), number(&row["decoded_size"][1]));
        assert_eq!((picture.width, picture.height), size, "{label}");

        // JPEG decoders differ by a few levels: judge the decoder by that, and what follows from PIL's pixels.
        let jpeg = name.ends_with(".jpg");
        let decoded = rows.iter().filter(|r| r["image"] == name).find_map(|r| r["decoded"].as_str());
        let source = match decoded {
            Some(file) if jpeg => {
                let pil = decode(&golden(file)).unwrap();
                let (max, mean) = difference(&picture.rgb, &pil.rgb);
                assert!(max <= 3 && mean < 0.5, "{label}: decoded {max} levels away, {mean} on average");
                pil
            }
            Some(file) => {
                assert_eq!(picture, decode(&golden(file)).unwrap(), "{label}: decoded pixels");
                picture
            }
            None => picture,
        };
        assert_eq!(sha256(&source.rgb), row["decoded_sha256"].as_str().unwrap(), "{label}: decoded pixels");

        let option = |key: &str| row["options"].get(key).map(number::<u32>);
        let options = ImageOptions {
            min_pixels: option("min_pixels").map(u64::from),
            max_pixels: option("max_pixels").map(u64::from),
            resized_height: option("resized_height"),
            resized_width: option("resized_width"),
        };
        let got = preprocess(&source, &hub(), &options).unwrap();
        let (width, height) = (number::<u32>(&row["resized_width"]), number::<u32>(&row["resized_height"]));
        assert_eq!((got.original, got.resized), (size, (width, height)), "{label}");
        assert_eq!(got.grid_thw.to_vec(), bytes(&row["grid_thw"]).iter().map(|&n| n.into()).collect::<Vec<u32>>());

        let pil = match row["pil"].as_str() {
            Some(file) => decode(&golden(file)).unwrap(),
            None => source.clone(),
        };
        assert_eq!(resize_bicubic(&source, width, height).unwrap(), pil, "{label}: resized pixels");
        assert_rows(&got.pixel_values, &pil, &hub());
        // Equal to PIL's arithmetic, so this is our distance from transformers' default backend.
        assert!(number::<u8>(&row["torchvision_max_difference"]) <= 2, "{label}");
        assert!(row["torchvision_mean_difference"].as_f64().unwrap() < 0.2, "{label}");
    }
}

/// The order of rows and columns and the normalisation, number for number.
#[test]
fn pixel_values_are_transformers() {
    let file = golden("preprocess/pixel_values.safetensors");
    let (_, rgb) = tensor(&file, "rgb", "U8");
    let (shape, expected) = tensor(&file, "pixel_values", "F32");
    let (_, grid) = tensor(&file, "image_grid_thw", "I32");
    let grid: Vec<i32> = grid.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
    let expected: Vec<f32> = expected.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();

    let (height, width) = (grid[1] as u32 * 14, grid[2] as u32 * 14);
    let picture = Picture::new(width, height, rgb.to_vec()).unwrap();
    let got = preprocess(&picture, &hub(), &ImageOptions::default()).unwrap();
    assert_eq!(got.grid_thw.map(|n| n as i32).to_vec(), grid);
    assert_eq!([got.rows(), got.row_len()].to_vec(), shape);
    assert_eq!(got.tokens(2), got.rows() / 4);
    assert_eq!(got.pixel_values, expected, "the same f32, bit for bit");
    assert_eq!(patchify(&[&picture, &picture], &hub()).unwrap().pixel_values, expected, "a still is two equal frames");
}

/// A plain second implementation of §2.4 and §2.5 of the reference: where each value of each row comes from.
fn assert_rows(values: &[f32], p: &Picture, cfg: &PreprocessorConfig) {
    let across = p.width as usize / 28;
    for (i, value) in values.iter().enumerate() {
        let (row, column) = (i / 1176, i % 1176);
        let (token, inner) = (row / 4, row % 4);
        let (block_y, block_x) = (token / across, token % across);
        let (channel, within) = (column / 392, column % 196);
        let y = (block_y * 2 + inner / 2) * 14 + within / 14;
        let x = (block_x * 2 + inner % 2) * 14 + within % 14;
        let byte = f64::from(p.rgb[(y * p.width as usize + x) * 3 + channel]);
        let expected = (byte / 255.0 - f64::from(cfg.image_mean[channel])) / f64::from(cfg.image_std[channel]);
        assert!((f64::from(*value) - expected).abs() < 1e-6, "row {row} column {column}: {value}, not {expected}");
    }
    assert_eq!(values.len(), p.rgb.len() * 2);
}

fn difference(a: &[u8], b: &[u8]) -> (u8, f64) {
    assert_eq!(a.len(), b.len());
    let differences = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    (differences().max().unwrap(), differences().map(f64::from).sum::<f64>() / a.len() as f64)
}

/// Shape and bytes of one tensor of a safetensors file.
fn tensor<'a>(file: &'a [u8], name: &str, dtype: &str) -> (Vec<usize>, &'a [u8]) {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let (json, data) = file[8..].split_at(header);
    let json: Value = serde_json::from_slice(json).unwrap();
    let entry = &json[name];
    assert_eq!(entry["dtype"], dtype, "{name}");
    let shape = entry["shape"].as_array().unwrap().iter().map(number).collect();
    (shape, &data[number(&entry["data_offsets"][0])..number(&entry["data_offsets"][1])])
}

/// FIPS 180-4, in hexadecimal.
fn sha256(data: &[u8]) -> String {
    let primes = || (2u32..).filter(|n| (2..*n).all(|d| n % d != 0));
    // The first 32 bits of the fraction of a root; f64 has enough of them for the first 64 primes.
    let fraction = |root: f64| (root.fract() * 4_294_967_296.0) as u32;
    let k: Vec<u32> = primes().take(64).map(|p| fraction(f64::from(p).cbrt())).collect();
    let mut state: Vec<u32> = primes().take(8).map(|p| fraction(f64::from(p).sqrt())).collect();
    let mut message = data.to_vec();
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend((data.len() as u64 * 8).to_be_bytes());
    for block in message.chunks(64) {
        let mut w: Vec<u32> = block.chunks(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect();
        for i in 16..64 {
            let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ (w[i - 15] >> 3);
            let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ (w[i - 2] >> 10);
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut s = state.clone();
        for i in 0..64 {
            let s1 = s[4].rotate_right(6) ^ s[4].rotate_right(11) ^ s[4].rotate_right(25);
            let choice = (s[4] & s[5]) ^ (!s[4] & s[6]);
            let t1 = s[7].wrapping_add(s1).wrapping_add(choice).wrapping_add(k[i]).wrapping_add(w[i]);
            let s0 = s[0].rotate_right(2) ^ s[0].rotate_right(13) ^ s[0].rotate_right(22);
            let majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
            s.rotate_right(1);
            s[4] = s[4].wrapping_add(t1);
            s[0] = t1.wrapping_add(s0).wrapping_add(majority);
        }
        state.iter_mut().zip(s).for_each(|(a, b)| *a = a.wrapping_add(b));
    }
    state.iter().map(|word| format!("{word:08x}")).collect()
}

#[test]
fn the_hash_of_this_test_is_right() {
    assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let long = [b'a'; 119];
    assert_eq!(sha256(&long), "31eba51c313a5c08226adf18d4a359cfdfd8d2e816b13f4af952f7ea6584dcfb");
}
