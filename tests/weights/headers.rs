//! Headers of safetensors files, compared with the `safetensors` crate.

use std::ops::Range;

use fanlight::Error;
use fanlight::weights::{Memory, TensorInfo, safetensors as ours};

use crate::support::{Random, Written, block_on, memory, write};

fn random_tensors(random: &mut Random) -> Vec<Written> {
    const TYPES: [(&str, usize); 8] =
        [("F32", 4), ("F16", 2), ("BF16", 2), ("I32", 4), ("U8", 1), ("I64", 8), ("BOOL", 1), ("F8_E4M3", 1)];
    let count = random.below(5);
    (0..count)
        .map(|i| {
            let (dtype, size) = TYPES[random.below(TYPES.len())];
            let rank = random.below(4);
            let shape: Vec<u64> = (0..rank).map(|_| random.below(5) as u64).collect();
            let bytes = shape.iter().product::<u64>() as usize * size;
            (format!("layer.{i}\u{e9}\"{}", random.below(10)), dtype, shape, random.bytes(bytes))
        })
        .collect()
}

fn read(file: &[u8]) -> fanlight::Result<Vec<TensorInfo>> {
    block_on(ours::read_header(&memory(&[("f", file)]), "f"))
}

/// Name, type, shape, range in the file: what both parsers should agree on.
pub type Facts = Vec<(String, String, Vec<u64>, Range<u64>)>;

pub fn our_facts(tensors: Vec<TensorInfo>) -> Facts {
    let mut facts: Facts = tensors.into_iter().map(|t| (t.name, t.dtype.name().to_owned(), t.shape, t.range)).collect();
    facts.sort_by(|a, b| a.0.cmp(&b.0));
    facts
}

pub fn their_facts(file: &[u8]) -> Result<Facts, safetensors::SafeTensorError> {
    let (header, metadata) = safetensors::SafeTensors::read_metadata(file)?;
    let start = header as u64 + 8;
    let facts = metadata.tensors().into_iter().map(|(name, info)| {
        let (begin, end) = (start + info.data_offsets.0 as u64, start + info.data_offsets.1 as u64);
        (name, format!("{:?}", info.dtype), info.shape.iter().map(|&d| d as u64).collect(), begin..end)
    });
    let mut facts: Facts = facts.collect();
    facts.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(facts)
}

#[test]
fn what_we_write_the_crate_reads() {
    let mut random = Random(1);
    for _ in 0..300 {
        let tensors = random_tensors(&mut random);
        let file = write(&tensors);
        let theirs = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(theirs.len(), tensors.len());
        for (name, dtype, shape, bytes) in &tensors {
            let view = theirs.tensor(name).unwrap();
            assert_eq!(view.data(), bytes);
            assert_eq!(&format!("{:?}", view.dtype()), dtype);
            assert!(view.shape().iter().map(|&d| d as u64).eq(shape.iter().copied()));
        }
        assert_eq!(our_facts(read(&file).unwrap()), their_facts(&file).unwrap());
    }
}

#[test]
fn what_the_crate_writes_we_read() {
    let mut random = Random(2);
    for _ in 0..300 {
        let tensors = random_tensors(&mut random);
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            let dtype = serde_json::from_value(serde_json::Value::from(*dtype)).unwrap();
            let shape = shape.iter().map(|&d| d as usize).collect();
            (name.clone(), safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap())
        });
        let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
        let file = safetensors::serialize(views, metadata).unwrap();
        assert_eq!(our_facts(read(&file).unwrap()), their_facts(&file).unwrap());
    }
}

#[test]
fn damaged_headers_are_judged_as_the_crate_judges_them() {
    let mut random = Random(3);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..60_000 {
        let mut file = write(&random_tensors(&mut random));
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        for _ in 0..1 + random.below(2) {
            let at = 8 + random.below(header);
            match random.below(9) {
                0 => file[at] = random.next() as u8,
                1 => file[at] = b"0123456789{}[],:\" -.eFn"[random.below(23)],
                // A digit for a digit keeps the JSON whole and makes the numbers lie.
                2..=4 => {
                    let digits: Vec<usize> = (8..8 + header).filter(|&i| file[i].is_ascii_digit()).collect();
                    if !digits.is_empty() {
                        file[digits[random.below(digits.len())]] = b'0' + random.below(10) as u8;
                    }
                }
                5 => file.truncate(random.below(file.len() + 1).max(8 + header)),
                6 => file.push(0),
                7 => file[random.below(8)] = random.next() as u8,
                _ => {
                    let (a, b) = (8 + random.below(header), 8 + random.below(header));
                    file.swap(a, b);
                }
            }
        }
        let text = String::from_utf8_lossy(&file[8..]).into_owned();
        match (read(&file), their_facts(&file)) {
            (Ok(ours), Ok(theirs)) => {
                good += 1;
                assert_eq!(our_facts(ours), theirs, "{text}");
            }
            (Err(_), Err(_)) => bad += 1,
            // We let a type that nobody knows pass, because nobody has to use the tensor.
            (Ok(ours), Err(e)) => assert!(ours.iter().any(|t| t.dtype.bits().is_none()), "{e}: {text}"),
            // And we are strict where a second reader could see another file.
            (Err(e), Ok(_)) => {
                let e = e.to_string();
                assert!(e.contains("duplicate") || e.contains("starts with {"), "{e}: {text}");
            }
        }
    }
    assert!(good > 5_000 && bad > 5_000, "{good} good, {bad} bad");
}

#[test]
fn lengths_that_lie_allocate_nothing() {
    for (first, rest) in [
        (u64::MAX, &b"{}"[..]),
        (100_000_001, b"{}"),
        (99_999_999, b"{}"),
        (3, b"{}"),
        (0, b"{}"),
        (0, b""),
        (1 << 63, b""),
    ] {
        let file = [&first.to_le_bytes()[..], rest].concat();
        assert!(matches!(read(&file), Err(Error::Malformed { .. })), "{first}");
    }
    for short in 0..8 {
        assert!(matches!(read(&vec![0; short]), Err(Error::Malformed { .. })));
    }
    assert!(matches!(block_on(ours::read_header(&Memory::new(), "f")), Err(Error::Missing { .. })));
    assert!(matches!(block_on(ours::read_header(&Memory::new(), "../f")), Err(Error::Malformed { .. })));
}
