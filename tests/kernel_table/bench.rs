//! What cases are made of: inputs, weights in every format, running, comparing.

use std::fmt::Debug;

use super::engine::Result;
use super::engine::gpu::{Gpu, Kernel, Recorder, Tensor, Variant, WeightFormat};
use super::engine::ops::{Weight, WeightShard};
use super::reference::weights;

/// What a case found.
#[derive(Debug, Default)]
pub struct Report {
    /// How many values were compared.
    pub values: usize,
    /// The largest error seen, as a part of what was tolerated (above 1 is a failure).
    pub worst: f64,
    /// Where that was.
    pub worst_at: String,
    /// Every comparison that failed, in words.
    pub failures: Vec<String>,
    /// Which pipelines ran.
    pub launched: Vec<(&'static str, Variant)>,
}

/// A value may differ from its twin's by `abs + rel * size`.
///
/// The size is |ref|, or for sums the sum of the absolute values of their terms: what an f32 sum can lose is a part
/// of that, however much cancels.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    pub abs: f64,
    pub rel: f64,
}

impl Tolerance {
    /// Not a bit of difference.
    pub const EXACT: Tolerance = Tolerance { abs: 0.0, rel: 0.0 };
}

/// How inputs are distributed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Data {
    /// Uniform in -1 .. 1.
    Plain,
    /// About 1e-3, and one in a hundred about 1e4.
    Outliers,
}

/// A device, a source of pseudo-random numbers, and the report being written.
pub struct Bench {
    pub gpu: Gpu,
    pub report: Report,
    state: u64,
}

impl Bench {
    pub fn new(gpu: &Gpu) -> Self {
        Bench { gpu: gpu.clone(), report: Report::default(), state: 0x5eed }
    }

    /// The formats that this device reads.
    pub fn formats(&self) -> Vec<WeightFormat> {
        let native = self.gpu.caps().shader_f16;
        WeightFormat::ALL.into_iter().filter(|f| native || *f != WeightFormat::F16).collect()
    }

    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea and Flood 2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An integer below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Uniform in -1 .. 1.
    pub fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `count` values.
    pub fn values(&mut self, count: usize, data: Data) -> Vec<f32> {
        (0..count).map(|_| self.value(data)).collect()
    }

    fn value(&mut self, data: Data) -> f32 {
        match data {
            Data::Plain => self.signed(),
            Data::Outliers if self.below(100) == 0 => 1e4 * self.signed(),
            Data::Outliers => 1e-3 * self.signed(),
        }
    }

    /// A weight `[rows, cols]` in `format` with `stride` elements from row to row, in shards of at most
    /// `shard_rows` rows and of what one binding holds. Padding is zero up to a multiple of 4
    /// columns, which kernels may read, and NaN beyond.
    pub fn weight(&mut self, format: WeightFormat, shape: Shape, data: Data) -> Matrix {
        let Shape { rows, cols, stride, shard_rows } = shape;
        let bytes = if format == WeightFormat::F32 { 4 } else { 2 };
        let room = self.gpu.caps().max_binding as usize / (stride * bytes);
        let mut bits = Vec::with_capacity(rows * stride);
        let mut exact = Vec::with_capacity(rows * stride);
        for i in 0..rows * stride {
            let mut value = match i % stride {
                column if column < cols => self.value(data),
                column if column < cols.next_multiple_of(4) => 0.0,
                _ => f32::NAN,
            };
            if bytes == 2 && data == Data::Plain && i % 97 == 0 {
                // A subnormal binary16 (and an ordinary bfloat16).
                value *= 2e-5;
            }
            let (code, worth) = match format {
                WeightFormat::F32 => (value.to_bits(), f64::from(value)),
                WeightFormat::Bf16 => {
                    let code = half::bf16::from_f32(value).to_bits();
                    (code.into(), weights::bf16(code))
                }
                WeightFormat::F16 | WeightFormat::F16Packed => {
                    let code = half::f16::from_f32(value).to_bits();
                    (code.into(), weights::f16(code))
                }
            };
            bits.push(code);
            exact.push(worth);
        }
        Matrix { shape: Shape { shard_rows: shard_rows.min(room), ..shape }, format, bits, exact }
    }

    /// Runs a recording and notes what it launched.
    pub fn run(&mut self, rec: Recorder) -> Result<()> {
        let recording = rec.finish();
        for dispatch in &recording.dispatches {
            let pipeline = (dispatch.kernel.name, dispatch.variant.clone());
            if !self.report.launched.contains(&pipeline) {
                self.report.launched.push(pipeline);
            }
        }
        self.gpu.execute(recording)
    }

    /// Compares a whole tensor with what its twin says; the size is |ref|.
    pub async fn compare(&mut self, what: &dyn Debug, got: &Tensor, want: &[f64], tolerance: Tolerance) -> Result<()> {
        self.compare_sums(what, got, want, want, tolerance).await
    }

    /// Compares a whole tensor with what its twin says, given the size of each value.
    pub async fn compare_sums(
        &mut self,
        what: &dyn Debug,
        got: &Tensor,
        want: &[f64],
        size: &[f64],
        tolerance: Tolerance,
    ) -> Result<()> {
        let got = self.gpu.read_f32(got, 0, got.len()).await?;
        self.compare_values(what, &got, want, size, tolerance);
        Ok(())
    }

    /// Compares values that are already here.
    pub fn compare_values(&mut self, what: &dyn Debug, got: &[f32], want: &[f64], size: &[f64], tolerance: Tolerance) {
        let mut bad = 0;
        let mut first = String::new();
        for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
            let allowed = tolerance.abs + tolerance.rel * size[i].abs();
            let error = (f64::from(got) - want).abs();
            // Equal infinities and equal exact values are right; a NaN never is.
            let ratio = match () {
                () if f64::from(got) == want => 0.0,
                () if error.is_nan() || allowed == 0.0 => f64::INFINITY,
                () => error / allowed,
            };
            if ratio > self.report.worst {
                self.report.worst = ratio;
                self.report.worst_at = format!("{what:?} [{i}]: {got} for {want}, tolerated {allowed:e}");
            }
            if ratio > 1.0 {
                bad += 1;
                if bad == 1 {
                    first = format!("first [{i}]: {got} for {want}, tolerated {allowed:e}");
                }
            }
        }
        self.report.values += want.len();
        if got.len() != want.len() {
            self.report.failures.push(format!("{what:?}: {} values for {}", got.len(), want.len()));
        }
        if bad > 0 {
            self.report.failures.push(format!("{what:?}: {bad} of {} values are off, {first}", want.len()));
        }
    }

    /// Compares integers.
    pub fn compare_ids(&mut self, what: &dyn Debug, got: &[u32], want: &[u32]) {
        self.report.values += want.len();
        if got != want {
            self.report.failures.push(format!("{what:?}: {got:?} for {want:?}"));
        }
    }
}

/// Dimensions of a weight.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
    pub shard_rows: usize,
}

/// A weight on the host: the bits that go to the device and what they are worth.
pub struct Matrix {
    pub shape: Shape,
    pub format: WeightFormat,
    bits: Vec<u32>,
    exact: Vec<f64>,
}

impl Matrix {
    /// The values of a shard, `[rows, stride]`.
    pub fn values(&self, row_start: usize, rows: usize) -> &[f64] {
        &self.exact[row_start * self.shape.stride..][..rows * self.shape.stride]
    }

    /// First row and number of rows of each shard.
    pub fn shards(&self) -> impl Iterator<Item = (usize, usize)> {
        let Shape { rows, shard_rows, .. } = self.shape;
        (0..rows).step_by(shard_rows).map(move |start| (start, shard_rows.min(rows - start)))
    }

    /// Rows `row_start ..` of it, as a matrix of its own.
    pub fn slice(&self, row_start: usize, rows: usize) -> Matrix {
        let words = row_start * self.shape.stride..(row_start + rows) * self.shape.stride;
        let shape = Shape { rows, shard_rows: rows, ..self.shape };
        Matrix {
            shape,
            format: self.format,
            bits: self.bits[words.clone()].to_vec(),
            exact: self.exact[words].to_vec(),
        }
    }

    /// Puts it on the device.
    pub fn upload(&self, rec: &mut Recorder) -> Result<Weight> {
        let Shape { rows, cols, stride, .. } = self.shape;
        let mut shards = Vec::new();
        for (row_start, rows) in self.shards() {
            let bits = &self.bits[row_start * stride..][..rows * stride];
            let words: Vec<u32> = match self.format {
                WeightFormat::F32 => bits.to_vec(),
                _ => bits.chunks(2).map(|pair| pair[0] | pair[1] << 16).collect(),
            };
            shards.push(WeightShard { tensor: rec.upload_u32("weight", rows, &words)?, row_start, rows });
        }
        Ok(Weight { shards, rows, cols, stride, format: self.format })
    }
}

/// An override constant of a variant, or 0.
pub fn constant(overrides: &[(&'static str, f64)], name: &str) -> usize {
    overrides.iter().find(|(n, _)| *n == name).map_or(0, |(_, v)| *v as usize)
}

/// Every combination of a kernel's variants with formats.
pub fn variants(kernel: &Kernel, formats: &[WeightFormat]) -> Vec<Variant> {
    let weights: Vec<_> = if kernel.weight { formats.iter().copied().map(Some).collect() } else { vec![None] };
    let with = |&weight: &Option<WeightFormat>| {
        kernel.variants.iter().map(move |overrides| Variant { weight, overrides: overrides.to_vec() })
    };
    weights.iter().flat_map(with).collect()
}

/// As the twins take it.
pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Absolute values: the twin of these gives the sizes of its sums.
pub fn absolute(values: &[f64]) -> Vec<f64> {
    values.iter().map(|v| v.abs()).collect()
}
