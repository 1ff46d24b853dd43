//! AWQ and GPTQ: integers of 4 or 8 bits packed into I32 words, with a scale and a zero for each group of inputs.
//!
//! Both store a linear layer as `qweight`, `qzeros`, `scales` (and GPTQ's `g_idx`), with one row for each input where the
//! kernels want one row for each output. Codes, scales and zeros stay as they are ([`Layout::G4`], [`Layout::G8`]) and only
//! change places: [`Turning`] makes columns of words, a few MiB at a time, and a kernel on the device puts them into rows.
//! So the whole matrix is never in memory.
//!
//! Layouts: `awq/modules/linear/gemm.py` and `awq/utils/packing_utils.py` of AutoAWQ, `qlinear` of AutoGPTQ and GPTQModel.

use half::f16;
use serde_json::Value;

use crate::dtype::Layout;
use crate::error::{Error, Result, brief};

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
                return Err(Error::UnsupportedModel { found: format!("{} weights", brief(&name)), expected });
            }
        };
        let bits = json["bits"].as_u64().unwrap_or(4);
        if !(bits == 4 || (bits == 8 && method == Method::Gptq)) {
            return unsupported(format!("{bits} bits"), "4 bits, or 8 in GPTQ");
        }
        let group = match json["group_size"].as_i64().unwrap_or(128) {
            -1 => None,
            // As large a group as no layer has would divide by zero where a usize has 32 bits.
            n if n > 0 && n % 32 == 0 && n <= 1 << 20 => usize::try_from(n).ok(),
            n => return unsupported(format!("group_size {n}"), "-1 or a multiple of 32 up to 2^20"),
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

    /// Columns that a run becomes, see [`Turning`].
    pub(super) fn columns_of_run(&self) -> usize {
        if self.scattered { self.per_word() } else { 1 }
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

    /// Whether `g_idx` lists the groups in order, as if there were no such list.
    fn in_order(&self, g_idx: &[i32]) -> bool {
        let group = self.group.unwrap_or(usize::MAX);
        g_idx.iter().enumerate().all(|(i, &g)| g as usize == i / group)
    }
}

/// A file's bytes as little-endian words.
pub(super) fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Takes columns of words, `[n, rows]`: the first of them is column `first` of every row.
pub type Put<'a> = dyn FnMut(usize, &[u32]) -> Result<()> + 'a;

/// A layer that is being read and becomes columns of words. This holds what was read before its codes.
///
/// `qweight` is a list of *runs* in both methods: `rows` words that hold the same few inputs of every row, and become one
/// column (or, as f32, a column for each input).
pub struct Turning<'a> {
    quantization: &'a Quantization,
    rows: usize,
    cols: usize,
    /// `[groups, rows]`, as are the zeros.
    scales: Vec<f32>,
    zeros: Vec<u8>,
    /// The group of each input, for scattered groups alone.
    group_of: Vec<usize>,
    /// Most columns that are handed over at a time.
    most: usize,
    out: Vec<u32>,
}

impl<'a> Turning<'a> {
    /// Starts with scales `[groups, rows]`, the words of `qzeros`, and GPTQ's `g_idx`. At most `bytes` (at least one
    /// column) are handed over at a time.
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
        bytes: u64,
    ) -> Result<Self> {
        let q = quantization;
        let groups = q.groups(cols);
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
        let mut zeros = vec![0u8; groups * rows];
        for (zeros, word) in zeros.chunks_exact_mut(pack).zip(qzeros) {
            for (n, place) in order.iter().enumerate() {
                let stored = word >> (n * bits) & mask;
                zeros[*place] = (if q.zeros_less_one { stored + 1 } else { stored } & mask) as u8;
            }
        }
        let most = ((bytes / 4) as usize / rows).max(1);
        // Enough for the codes, and there are fewer columns of scales and zeros.
        let columns = cols.div_ceil(pack) * q.columns_of_run();
        let out = Vec::with_capacity(most.min(columns) * rows);
        Ok(Turning { quantization, rows, cols, scales, zeros, group_of, most, out })
    }

    /// Hands over the columns of scales and zeros, which lie behind the codes. For scattered groups there are none. Scales and
    /// zeros are dropped then.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn pairs(&mut self, put: &mut Put) -> Result<()> {
        let layout = self.quantization.layout();
        let per = match layout {
            Layout::G4 { group } | Layout::G8 { group } => usize::from(group),
            _ => return Ok(()),
        };
        let start = (layout.groups(self.cols as u64).unwrap_or(0) * layout.planes().low / 4) as usize;
        let group = self.quantization.group.unwrap_or(usize::MAX);
        let (scales, zeros) = (std::mem::take(&mut self.scales), std::mem::take(&mut self.zeros));
        let half = |x: f32| u32::from(f16::from_f32(x).to_bits());
        let count = self.cols.div_ceil(per);
        for first in (0..count).step_by(self.most) {
            self.out.clear();
            for pair in first..count.min(first + self.most) {
                let at = pair * per / group * self.rows;
                let pairs = scales[at..].iter().zip(&zeros[at..]).take(self.rows);
                // Zeros are whole numbers up to 256, which half floats hold exactly.
                self.out.extend(pairs.map(|(scale, zero)| half(*scale) | half(f32::from(*zero)) << 16));
            }
            put(start + first, &self.out)?;
        }
        Ok(())
    }

    /// Hands over the columns of whole runs of `qweight`. The first of these runs is number `first` of the tensor.
    ///
    /// # Errors
    /// Those of `put`.
    pub fn runs(&mut self, first: usize, bytes: &[u8], put: &mut Put) -> Result<()> {
        let Turning { quantization: q, rows, .. } = *self;
        let (pack, bits) = (q.per_word(), q.bits);
        let mask = (1u32 << bits) - 1;
        // The column with which `out` begins.
        let mut at = first * q.columns_of_run();
        self.out.clear();
        for (run, bytes) in (first..).zip(bytes.chunks(4 * rows)) {
            let words = words(bytes);
            for k in 0..q.columns_of_run() {
                if self.out.len() == self.most * rows {
                    put(at, &self.out)?;
                    at += self.most;
                    self.out.clear();
                }
                if q.scattered {
                    let of = self.group_of[run * pack + k] * rows;
                    let pairs = self.scales[of..].iter().zip(&self.zeros[of..]);
                    let codes = words.iter().map(|word| (word >> (k * bits) & mask) as f32);
                    let values = codes.zip(pairs).map(|(code, (scale, zero))| scale * (code - f32::from(*zero)));
                    self.out.extend(values.map(f32::to_bits));
                } else if q.method == Method::Gptq {
                    // A word holds neighbouring inputs of one row, in order, just as on the device.
                    self.out.extend(&words);
                } else {
                    self.interleaved(&words);
                }
            }
        }
        if self.out.is_empty() { Ok(()) } else { put(at, &self.out) }
    }

    /// One column of AWQ's words, `[8, rows / 8]` (fewer inputs at the end): the nibbles of eight inputs of eight rows
    /// change places as in a transposed matrix.
    fn interleaved(&mut self, words: &[u32]) {
        let across = self.rows / 8;
        for along in 0..across {
            let mut square = [0u32; 8];
            for (to, from) in square.iter_mut().zip(words.iter().skip(along).step_by(across)) {
                *to = *from;
            }
            for (step, mask) in [(4, 0x0000_ffff), (2, 0x00ff_00ff), (1, 0x0f0f_0f0f)] {
                for low in (0..8).filter(|low| low & step == 0) {
                    let swapped = (square[low] >> (4 * step) ^ square[low + step]) & mask;
                    square[low + step] ^= swapped;
                    square[low] ^= swapped << (4 * step);
                }
            }
            let mut column = [0u32; 8];
            for (word, place) in square.into_iter().zip(AWQ_ORDER) {
                column[place] = word;
            }
            self.out.extend(column);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(json: Value) -> Quantization {
        Quantization::parse(&json).unwrap().unwrap()
    }

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The rows that these runs become, in pieces of any size.
    fn rows(mut turning: Turning, runs: &[u32]) -> Vec<Vec<u32>> {
        let words = turning.quantization.layout().row_words(turning.cols as u64).unwrap() as usize;
        let count = turning.rows;
        let mut out = vec![vec![0; words]; count];
        let mut put = |first: usize, words: &[u32]| {
            for (i, column) in words.chunks_exact(count).enumerate() {
                out.iter_mut().zip(column).for_each(|(row, word)| row[first + i] = *word);
            }
            Ok(())
        };
        turning.pairs(&mut put).unwrap();
        for (n, part) in runs.chunks(3 * count).enumerate() {
            turning.runs(3 * n, &bytes(part), &mut put).unwrap();
        }
        out
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
            json!({"quant_method": "awq", "group_size": 4_294_967_296u64}),
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
        let turning = Turning::new(&awq, (8, 32), vec![0.5; 8], &[0x7531_6420], None, 64).unwrap();
        let out = rows(turning, &[[0x7531_6420; 31].as_slice(), &[0]].concat());
        for (row, words) in out.iter().enumerate() {
            let nibbles = 0x1111_1111 * row as u32;
            assert_eq!(words[..4], [nibbles, nibbles, nibbles, nibbles & 0x0fff_ffff], "row {row}");
            let pair = [f16::from_f32(0.5), f16::from_f32(row as f32)].map(f16::to_bits);
            assert_eq!(words[4], u32::from(pair[0]) | u32::from(pair[1]) << 16, "the zero as it is stored");
        }

        let gptq = parse(json!({"quant_method": "gptq", "group_size": 32}));
        assert_eq!(gptq.shapes(8, 32), Some([[4, 8], [1, 1], [1, 8]]));
        let turning = Turning::new(&gptq, (8, 32), vec![0.5; 8], &[0x7777_7777], Some(&[0; 32]), 1 << 20).unwrap();
        let out = &rows(turning, &(0..32).map(|n| 0x7654_3210 + n).collect::<Vec<u32>>())[0];
        assert_eq!(out[..4], [0x7654_3210, 0x7654_3218, 0x7654_3220, 0x7654_3228], "one row: every eighth word");
        assert_eq!(out[4] >> 16, u32::from(f16::from_f32(8.0).to_bits()), "one more than is stored");
        let v2 = parse(json!({"quant_method": "gptq", "group_size": 32, "checkpoint_format": "gptq_v2"}));
        let out = rows(Turning::new(&v2, (8, 32), vec![0.5; 8], &[0x7777_7777], None, 0).unwrap(), &[]);
        assert_eq!(out[0][4] >> 16, u32::from(f16::from_f32(7.0).to_bits()));
    }

    #[test]
    fn scattered_groups_and_what_is_refused() {
        let q = parse(json!({"quant_method": "gptq", "group_size": 32, "desc_act": true}));
        let g_idx: Vec<i32> = (0..64).map(|i| i % 2).collect();
        let scales: Vec<f32> = [vec![0.5; 8], vec![2.0; 8]].concat();
        let turning = Turning::new(&q, (8, 64), scales.clone(), &[0x7777_7777, 0x0], Some(&g_idx), 100).unwrap();
        for row in rows(turning, &[0x7654_3210; 64]) {
            assert_eq!([0, 1, 2, 3].map(|i| f32::from_bits(row[i])), [-4.0, 0.0, -3.0, 4.0]);
        }

        let plain = parse(json!({"quant_method": "gptq", "group_size": 32}));
        let refuse = |q: &Quantization, scales: Vec<f32>, g_idx: &[i32]| {
            Turning::new(q, (8, 64), scales, &[0, 0], Some(g_idx), 64).map(|_| ()).unwrap_err().code()
        };
        assert_eq!(refuse(&plain, scales.clone(), &g_idx), "bad_model", "scattered without notice");
        assert_eq!(refuse(&q, scales.clone(), &[7; 64]), "bad_model", "no such group");
        assert_eq!(refuse(&q, scales, &[-1; 64]), "bad_model");
        assert_eq!(refuse(&q, vec![1e-9; 16], &g_idx), "bad_model", "no half float");
        assert_eq!(plain.shapes(12, 64), None);
        assert_eq!(plain.shapes(8, 65), None);
    }

    /// Nibble by nibble where AutoAWQ says, with a last run of fewer than eight inputs.
    #[test]
    fn interleaved_nibbles() {
        let q = parse(json!({"quant_method": "awq", "group_size": 32}));
        let (count, cols) = (24, 43);
        let stored: Vec<u32> = (0..(cols * 3) as u32).map(|n| (n + 1).wrapping_mul(0x9e37_79b9)).collect();
        let out = rows(Turning::new(&q, (count, cols), vec![1.0; 48], &[0; 6], None, 0).unwrap(), &stored);
        for (row, words) in out.iter().enumerate() {
            for col in 0..48 {
                let nibble = AWQ_ORDER.iter().position(|place| *place == row % 8).unwrap();
                let want = if col < cols { stored[col * 3 + row / 8] >> (4 * nibble) & 15 } else { 0 };
                assert_eq!(words[col / 8] >> (col % 8 * 4) & 15, want, "row {row}, column {col}");
            }
        }
    }

    /// Whatever the layer's size and however much comes at once: as much as was asked for, or one column.
    #[test]
    fn no_more_than_asked_for() {
        let methods = [
            json!({"quant_method": "awq", "group_size": 32}),
            json!({"quant_method": "gptq", "group_size": 32}),
            json!({"quant_method": "gptq", "group_size": 32, "bits": 8}),
            json!({"quant_method": "gptq", "group_size": 32, "desc_act": true}),
        ];
        for (q, bytes) in methods.into_iter().map(parse).flat_map(|q| [0, 1000, 9_999, 1 << 20].map(|bytes| (q, bytes)))
        {
            let (count, cols) = (104, 640);
            let (most, mut columns) = ((bytes as usize / 4).max(count), 0);
            let mut put = |_: usize, words: &[u32]| {
                assert!(!words.is_empty() && words.len() <= most && words.len().is_multiple_of(count), "{q:?}");
                columns += words.len() / count;
                Ok(())
            };
            let qzeros = vec![0; 20 * count / q.per_word()];
            let mut turning = Turning::new(&q, (count, cols), vec![1.0; 20 * count], &qzeros, None, bytes).unwrap();
            turning.pairs(&mut put).unwrap();
            turning.runs(0, &vec![0; count * cols * q.bits / 8], &mut put).unwrap();
            assert_eq!(columns, if q.scattered { cols } else { cols / q.per_word() + 20 }, "{q:?}");
        }
    }
}
