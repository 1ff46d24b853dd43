//! AWQ and GPTQ: integers of 4 or 8 bits packed into I32 words, with a scale and a zero for each group of inputs.
//!
//! Both store a linear layer as `qweight`, `qzeros`, `scales` (and GPTQ's `g_idx`) with the inputs running down, not along:
//! a row of ours is a column of theirs. The columns become rows with the same codes, scales and zeros
//! ([`Layout::G4`], [`Layout::G8`]); a whole matrix of codes is in memory while it is turned.
//!
//! Layouts: `awq/modules/linear/gemm.py` and `awq/utils/packing_utils.py` of AutoAWQ, `qlinear` of AutoGPTQ and GPTQModel.

use half::f16;
use serde_json::Value;

use crate::dtype::Layout;
use crate::error::{Error, Result};

/// Which column the nibbles of an AWQ word stand for, lowest nibble first.
const AWQ_ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// What `quantization_config` in `config.json` says of the packed layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    method: Method,
    bits: usize,
    /// Inputs that share a scale and a zero; `None`: all of them.
    group: Option<usize>,
    /// Whether groups are scattered over the inputs (`desc_act`), which no group-wise layout can hold.
    scattered: bool,
    /// Whether stored zeros are one too small (GPTQ's first format).
    zeros_less_one: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Words run along the outputs, interleaved.
    Awq,
    /// Words run down the inputs.
    Gptq,
}

impl Quantization {
    /// Reads the section; `None` for `null`.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`] for another method, version, number of bits or size of groups.
    pub fn parse(json: &Value) -> Result<Option<Self>> {
        if json.is_null() {
            return Ok(None);
        }
        let word = |name: &str, default: &str| json[name].as_str().unwrap_or(default).to_ascii_lowercase();
        let name = word("quant_method", "unnamed");
        let unsupported = |found: String, expected: &str| {
            Err(Error::UnsupportedModel { found: format!("{name} weights with {found}"), expected: expected.into() })
        };
        let method = match name.as_str() {
            "awq" => Method::Awq,
            "gptq" => Method::Gptq,
            _ => {
                let expected = "weights in f32, f16, bf16, AWQ or GPTQ, or a GGUF file".to_owned();
                return Err(Error::UnsupportedModel { found: format!("{} weights", super::brief(&name)), expected });
            }
        };
        let bits = json["bits"].as_u64().unwrap_or(4);
        if !(bits == 4 || (bits == 8 && method == Method::Gptq)) {
            return unsupported(format!("{bits} bits"), "4 bits, or 8 in GPTQ");
        }
        let group = match json["group_size"].as_i64().unwrap_or(128) {
            -1 => None,
            n if n > 0 && n % 32 == 0 => Some(n as usize),
            n => return unsupported(format!("group_size {n}"), "-1 or a multiple of 32"),
        };
        let mut zeros_less_one = false;
        if method == Method::Awq {
            let version = word("version", "gemm");
            if version != "gemm" {
                return unsupported(format!("version {version}"), "version gemm");
            }
        } else {
            match word("checkpoint_format", "gptq").as_str() {
                "gptq" => zeros_less_one = true,
                "gptq_v2" => {}
                other => return unsupported(format!("checkpoint_format {other}"), "gptq or gptq_v2"),
            }
        }
        let scattered = json["desc_act"].as_bool().unwrap_or(false) && method == Method::Gptq;
        Ok(Some(Quantization { method, bits: bits as usize, group, scattered, zeros_less_one }))
    }

    /// How rows lie on the device. Layers whose groups are scattered are widened to f32, which holds code × scale exactly.
    pub fn layout(&self) -> Layout {
        if self.scattered {
            return Layout::F32;
        }
        let group = match self.group {
            None => 128u16,
            Some(n) => [128, 64].into_iter().find(|unit| n.is_multiple_of(usize::from(*unit))).unwrap_or(32),
        };
        if self.bits == 4 { Layout::G4 { group } } else { Layout::G8 { group } }
    }

    /// Whether every zero in these words of `qzeros` is the middle of the codes, 8 or 128: signed numbers in disguise.
    pub fn symmetric(&self, qzeros: &[u32]) -> bool {
        let middle = (1u32 << (self.bits - 1)) - u32::from(self.zeros_less_one);
        let word = (0..self.per_word()).fold(0u32, |word, n| word | middle << (n * self.bits));
        qzeros.iter().all(|zeros| *zeros == word)
    }

    /// Groups in a layer of `cols` inputs.
    fn groups(&self, cols: usize) -> usize {
        self.group.map_or(1, |n| cols.div_ceil(n))
    }

    /// Codes in a word.
    fn per_word(&self) -> usize {
        32 / self.bits
    }

    /// The shapes of `qweight`, `qzeros` and `scales` of a layer; `None` if it cannot be packed.
    pub fn shapes(&self, rows: usize, cols: usize) -> Option<[[u64; 2]; 3]> {
        let pack = self.per_word();
        let (groups, packed_rows) = (self.groups(cols), rows / pack);
        let qweight = match self.method {
            Method::Awq => [cols, packed_rows],
            Method::Gptq if cols.is_multiple_of(pack) => [cols / pack, rows],
            Method::Gptq => return None,
        };
        rows.is_multiple_of(pack)
            .then(|| [qweight, [groups, packed_rows], [groups, rows]].map(|shape| shape.map(|n| n as u64)))
    }

    /// Whether `g_idx` is what groups in order give, so that it says nothing.
    fn in_order(&self, g_idx: &[i32]) -> bool {
        let group = self.group.unwrap_or(usize::MAX);
        g_idx.iter().enumerate().all(|(i, &g)| g as usize == i / group)
    }
}

/// A layer on its way: what came before its codes, and its rows as far as they are filled.
pub struct Turning<'a> {
    quantization: &'a Quantization,
    rows: usize,
    cols: usize,
    /// `[groups, rows]`
    scales: Vec<f32>,
    zeros: Vec<u16>,
    /// The group of each input, for scattered groups alone.
    group_of: Vec<usize>,
    row_bytes: usize,
    out: Vec<u8>,
}

impl<'a> Turning<'a> {
    /// Begins with scales `[groups, rows]`, the words of `qzeros`, and GPTQ's `g_idx`.
    ///
    /// # Errors
    /// [`Error::Malformed`] for groups out of order that the configuration does not announce, or out of range, and for a
    /// scale that a half float does not hold.
    pub fn new(
        quantization: &'a Quantization,
        (rows, cols): (usize, usize),
        scales: Vec<f32>,
        qzeros: &[u32],
        g_idx: Option<&[i32]>,
    ) -> Result<Self> {
        let q = quantization;
        let (groups, layout) = (q.groups(cols), q.layout());
        if let Some(found) = scales.iter().find(|s| f16::from_f32(**s).to_f32() != **s) {
            return Err(Error::malformed("scales", "numbers that a half float holds", found.to_string()));
        }
        let group_of = match g_idx {
            Some(g_idx) if q.scattered => g_idx.iter().map(|&g| g as usize).collect(),
            Some(g_idx) if !q.in_order(g_idx) => {
                let expected = "groups in order, since desc_act is false";
                return Err(Error::malformed("g_idx", expected, "groups in another order"));
            }
            _ if q.scattered => (0..cols).map(|i| i / q.group.unwrap_or(usize::MAX)).collect(),
            _ => Vec::new(),
        };
        if let Some(bad) = group_of.iter().find(|g| **g >= groups) {
            return Err(Error::malformed("g_idx", format!("groups below {groups}"), bad.to_string()));
        }
        // Zeros are packed along the outputs, AWQ's in its own order.
        let (pack, bits) = (q.per_word(), q.bits);
        let mask = (1u32 << bits) - 1;
        let order: Vec<usize> = if q.method == Method::Awq { AWQ_ORDER.to_vec() } else { (0..pack).collect() };
        let mut zeros = vec![0u16; groups * rows];
        for (at, word) in qzeros.iter().enumerate().take(groups * rows / pack) {
            for (n, place) in order.iter().enumerate() {
                let stored = word >> (n * bits) & mask;
                let zero = if q.zeros_less_one { (stored + 1) & mask } else { stored };
                zeros[at * pack + place] = zero as u16;
            }
        }
        // Fits in memory: the device holds it too, as the plan has checked.
        let row_bytes = layout.row_words(cols as u64).unwrap_or(0) as usize * 4;
        let mut turning =
            Turning { quantization, rows, cols, scales, zeros, group_of, row_bytes, out: vec![0; rows * row_bytes] };
        turning.write_pairs(layout);
        Ok(turning)
    }

    /// Scale and zero of every group, behind each row's codes.
    fn write_pairs(&mut self, layout: Layout) {
        let per = match layout {
            Layout::G4 { group } | Layout::G8 { group } => usize::from(group),
            _ => return,
        };
        let start = layout.groups(self.cols as u64).unwrap_or(0) as usize * layout.planes().low as usize;
        let group = self.quantization.group.unwrap_or(usize::MAX);
        for row in 0..self.rows {
            for pair in 0..self.cols.div_ceil(per) {
                let at = pair * per / group * self.rows + row;
                let bytes = &mut self.out[row * self.row_bytes + start + 4 * pair..][..4];
                bytes[..2].copy_from_slice(&f16::from_f32(self.scales[at]).to_le_bytes());
                // Whole numbers up to 256 are exact.
                bytes[2..].copy_from_slice(&f16::from_f32(f32::from(self.zeros[at])).to_le_bytes());
            }
        }
    }

    /// Takes in words of `qweight`, the first of which is number `first` of the tensor.
    pub fn words(&mut self, first: usize, words: &[u32]) {
        let q = self.quantization;
        let (pack, bits) = (q.per_word(), q.bits);
        let mask = (1u32 << bits) - 1;
        let across = if q.method == Method::Awq { self.rows / pack } else { self.rows };
        for (n, &word) in words.iter().enumerate() {
            let (down, along) = ((first + n) / across, (first + n) % across);
            if q.scattered {
                for k in 0..pack {
                    let input = down * pack + k;
                    let at = self.group_of[input] * self.rows + along;
                    let code = (word >> (k * bits) & mask) as f32;
                    let value = self.scales[at] * (code - f32::from(self.zeros[at]));
                    self.out[along * self.row_bytes + 4 * input..][..4].copy_from_slice(&value.to_le_bytes());
                }
            } else if q.method == Method::Gptq {
                // A word holds neighbours of one row in order: as the device has it.
                self.out[along * self.row_bytes + 4 * down..][..4].copy_from_slice(&word.to_le_bytes());
            } else {
                for (k, place) in AWQ_ORDER.into_iter().enumerate() {
                    let code = (word >> (4 * k) & 15) as u8;
                    self.out[(along * pack + place) * self.row_bytes + down / 2] |= code << (down % 2 * 4);
                }
            }
        }
    }

    /// The rows as they lie on the device.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(json: Value) -> Quantization {
        Quantization::parse(&json).unwrap().unwrap()
    }

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    #[test]
    fn configurations() {
        assert_eq!(Quantization::parse(&Value::Null), Ok(None));
        let awq =
            parse(json!({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": "gemm"}));
        assert_eq!(awq.layout(), Layout::G4 { group: 128 });
        let gptq = json!({"quant_method": "gptq", "bits": 8, "group_size": 32, "desc_act": false});
        assert_eq!(parse(gptq).layout(), Layout::G8 { group: 32 });
        assert_eq!(parse(json!({"quant_method": "gptq", "group_size": -1})).layout(), Layout::G4 { group: 128 });
        assert_eq!(parse(json!({"quant_method": "gptq", "group_size": 192})).layout(), Layout::G4 { group: 64 });
        assert_eq!(parse(json!({"quant_method": "gptq", "desc_act": true})).layout(), Layout::F32);
        for bad in [
            json!({"quant_method": "bitsandbytes"}),
            json!({"quant_method": "awq", "bits": 8}),
            json!({"quant_method": "gptq", "bits": 3}),
            json!({"quant_method": "gptq", "group_size": 48}),
            json!({"quant_method": "gptq", "group_size": 0}),
            json!({"quant_method": "awq", "version": "gemv"}),
            json!({"quant_method": "gptq", "checkpoint_format": "marlin"}),
            json!({}),
        ] {
            assert_eq!(Quantization::parse(&bad).unwrap_err().code(), "unsupported", "{bad}");
        }
    }

    // Words of the reference sheet: values 0 to 7 of columns 0 to 7 pack to 0x75316420 in AWQ; of rows 0 to 7 to
    // 0x76543210 in GPTQ.
    #[test]
    fn words_of_both_methods() {
        let awq = parse(json!({"quant_method": "awq", "group_size": 32}));
        assert_eq!(awq.shapes(8, 32), Some([[32, 1], [1, 1], [1, 8]]));
        let mut turning = Turning::new(&awq, (8, 32), vec![0.5; 8], &[0x7531_6420], None).unwrap();
        turning.words(0, &[0x7531_6420; 31]);
        turning.words(31, &[0]);
        let out = turning.finish();
        for (row, bytes) in out.chunks_exact(Layout::G4 { group: 32 }.row_words(32).unwrap() as usize * 4).enumerate() {
            let nibbles = 0x1111_1111 * row as u32;
            assert_eq!(words(bytes)[..4], [nibbles, nibbles, nibbles, nibbles & 0x0fff_ffff], "row {row}");
            let pair = [f16::from_f32(0.5), f16::from_f32(row as f32)].map(f16::to_bits);
            assert_eq!(words(bytes)[4], u32::from(pair[0]) | u32::from(pair[1]) << 16, "the zero as it is stored");
        }

        let gptq = parse(json!({"quant_method": "gptq", "group_size": 32}));
        assert_eq!(gptq.shapes(8, 32), Some([[4, 8], [1, 1], [1, 8]]));
        let mut turning = Turning::new(&gptq, (8, 32), vec![0.5; 8], &[0x7777_7777], Some(&[0; 32])).unwrap();
        turning.words(0, &(0..32).map(|n| 0x7654_3210 + n).collect::<Vec<u32>>());
        let out = words(&turning.finish());
        assert_eq!(out[..4], [0x7654_3210, 0x7654_3218, 0x7654_3220, 0x7654_3228], "one row: every eighth word");
        assert_eq!(out[4] >> 16, u32::from(f16::from_f32(8.0).to_bits()), "one more than is stored");
        let v2 = parse(json!({"quant_method": "gptq", "group_size": 32, "checkpoint_format": "gptq_v2"}));
        let out = words(&Turning::new(&v2, (8, 32), vec![0.5; 8], &[0x7777_7777], None).unwrap().finish());
        assert_eq!(out[4] >> 16, u32::from(f16::from_f32(7.0).to_bits()));
    }

    #[test]
    fn scattered_groups_and_what_is_refused() {
        let q = parse(json!({"quant_method": "gptq", "group_size": 32, "desc_act": true}));
        let g_idx: Vec<i32> = (0..64).map(|i| i % 2).collect();
        let scales: Vec<f32> = [vec![0.5; 8], vec![2.0; 8]].concat();
        let mut turning = Turning::new(&q, (8, 64), scales.clone(), &[0x7777_7777, 0x0], Some(&g_idx)).unwrap();
        turning.words(0, &[0x7654_3210; 64]);
        let out = turning.finish();
        let value = |i: usize| f32::from_le_bytes([out[4 * i], out[4 * i + 1], out[4 * i + 2], out[4 * i + 3]]);
        assert_eq!([value(0), value(1), value(2), value(3)], [-4.0, 0.0, -3.0, 4.0]);

        let plain = parse(json!({"quant_method": "gptq", "group_size": 32}));
        let refuse = |q: &Quantization, scales: Vec<f32>, g_idx: &[i32]| {
            Turning::new(q, (8, 64), scales, &[0, 0], Some(g_idx)).map(|_| ()).unwrap_err().code()
        };
        assert_eq!(refuse(&plain, scales.clone(), &g_idx), "bad_model", "scattered without notice");
        assert_eq!(refuse(&q, scales.clone(), &[7; 64]), "bad_model", "no such group");
        assert_eq!(refuse(&q, scales, &[-1; 64]), "bad_model");
        assert_eq!(refuse(&q, vec![1e-9; 16], &g_idx), "bad_model", "no half float");
        assert_eq!(plain.shapes(12, 64), None);
        assert_eq!(plain.shapes(8, 65), None);
    }
}
