//! What cases are made of: inputs, weights in every format, running, comparing.

use std::fmt::Debug;

use super::engine::Result;
use super::engine::dtype::Layout;
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
    pub fn all_formats(&self) -> Vec<WeightFormat> {
        let native = self.gpu.caps().shader_f16;
        WeightFormat::all().filter(|f| native || *f != WeightFormat::NativeF16).collect()
    }

    /// The floats and one quantized format, for cases that turn many other things.
    pub fn formats(&self) -> Vec<WeightFormat> {
        let mut formats = self.all_formats();
        formats.retain(|f| matches!(f.layout(), Layout::F32 | Layout::F16 | Layout::Bf16 | Layout::Q4));
        formats
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

    /// A weight `[rows, cols]` in `format`, in shards of at most `shard_rows` rows and of what one binding holds. Floats
    /// are zero up to a multiple of 4 columns, which kernels may read, and NaN beyond; codes of quantized formats are
    /// anything. Behind each row lie `slack` times 16 bytes that nobody may read.
    pub fn weight(&mut self, format: WeightFormat, shape: Shape, data: Data) -> Matrix {
        let Shape { rows, cols, slack, shard_rows } = shape;
        let layout = format.layout();
        let groups = layout.groups(cols as u64).unwrap() as usize;
        let used = layout.row_words(cols as u64).unwrap() as usize;
        let stride = used + 4 * slack;
        let room = self.gpu.caps().max_binding as usize / (4 * stride);
        let mut words = Vec::with_capacity(rows * stride);
        let mut exact = Vec::with_capacity(rows * 16 * groups);
        for row in 0..rows {
            let start = words.len();
            match layout {
                Layout::F32 | Layout::F16 | Layout::Bf16 => {
                    self.float_row(layout, row, cols, 16 * groups, data, &mut words, &mut exact)
                }
                _ => {
                    self.quantized_row(layout, groups, data, &mut words);
                    exact.extend(weights::decode(layout.name(), &words[start..], groups, layout.group() as usize));
                }
            }
            assert_eq!(words.len(), start + used);
            words.resize(start + stride, u32::MAX);
        }
        let (values, sizes) = exact.into_iter().unzip();
        let shape = Shape { shard_rows: shard_rows.min(room), ..shape };
        Matrix { shape, format, groups, stride, words, values, sizes }
    }

    #[expect(clippy::too_many_arguments, reason = "one row of `weight`")]
    fn float_row(
        &mut self,
        layout: Layout,
        row: usize,
        cols: usize,
        width: usize,
        data: Data,
        words: &mut Vec<u32>,
        exact: &mut Vec<(f64, f64)>,
    ) {
        let mut codes = Vec::with_capacity(width);
        for column in 0..width {
            let mut value = match column {
                _ if column < cols => self.value(data),
                _ if column < cols.next_multiple_of(4) => 0.0,
                _ => f32::NAN,
            };
            if layout != Layout::F32 && data == Data::Plain && (row * width + column).is_multiple_of(97) {
                // A subnormal binary16 (and an ordinary bfloat16).
                value *= 2e-5;
            }
            let (code, worth) = match layout {
                Layout::F32 => (value.to_bits(), f64::from(value)),
                Layout::Bf16 => {
                    let code = half::bf16::from_f32(value).to_bits();
                    (code.into(), weights::bf16(code))
                }
                _ => {
                    let code = half::f16::from_f32(value).to_bits();
                    (code.into(), weights::f16(code))
                }
            };
            codes.push(code);
            exact.push((worth, worth.abs()));
        }
        match layout {
            Layout::F32 => words.extend(codes),
            _ => words.extend(codes.chunks(2).map(|pair| pair[0] | pair[1] << 16)),
        }
    }

    /// Any codes and sub-scales with scales that give values of the size that `data` asks for.
    fn quantized_row(&mut self, layout: Layout, groups: usize, data: Data, words: &mut Vec<u32>) {
        let planes = layout.planes();
        let start = words.len();
        let used = layout.row_words(16 * groups as u64).unwrap() as usize;
        words.extend((0..used).map(|_| self.state_word()));
        // Where the f16 are: behind everything for super-blocks, else in place of the sub-scales.
        let codes = groups * (planes.low + planes.high) as usize / 4;
        let subs = (groups * planes.sub_halves as usize / 2).div_ceil(4);
        let floats = if planes.super_block { codes + subs..codes + subs + groups / 16 } else { codes..codes + subs };
        // Largest code times largest sub-scale, so that values stay near 1 (or the outlier).
        let largest = match layout {
            Layout::Q8 | Layout::Iq4Nl => 128.0,
            Layout::Q4 | Layout::Q5 | Layout::G4 { .. } => 16.0,
            Layout::G8 { .. } => 256.0,
            Layout::Q2K => 45.0,
            Layout::Q3K => 500.0,
            Layout::Iq4Xs | Layout::Q6K | Layout::Q4K => 4000.0,
            _ => 8000.0,
        };
        for word in &mut words[start..][floats] {
            let [low, high] = [0, 1].map(|_| u32::from(half::f16::from_f32(self.value(data) / largest).to_bits()));
            *word = low | high << 16;
        }
    }

    fn state_word(&mut self) -> u32 {
        (self.next() >> 32) as u32
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
    /// 16-byte units behind each row.
    pub slack: usize,
    pub shard_rows: usize,
}

/// A weight on the host: the words that go to the device and what they are worth.
pub struct Matrix {
    pub shape: Shape,
    pub format: WeightFormat,
    /// Groups of 16 elements in a row: [`Matrix::values`] has rows of 16 times this.
    pub groups: usize,
    /// Words of a row.
    pub stride: usize,
    words: Vec<u32>,
    values: Vec<f64>,
    sizes: Vec<f64>,
}

impl Matrix {
    /// Elements from one row of [`Matrix::values`] to the next.
    pub fn width(&self) -> usize {
        16 * self.groups
    }

    /// The values of a shard.
    pub fn values(&self, row_start: usize, rows: usize) -> &[f64] {
        &self.values[row_start * self.width()..][..rows * self.width()]
    }

    /// The sums of the absolute terms of [`Matrix::values`].
    pub fn sizes(&self, row_start: usize, rows: usize) -> &[f64] {
        &self.sizes[row_start * self.width()..][..rows * self.width()]
    }

    /// First row and number of rows of each shard.
    pub fn shards(&self) -> impl Iterator<Item = (usize, usize)> {
        let Shape { rows, shard_rows, .. } = self.shape;
        (0..rows).step_by(shard_rows).map(move |start| (start, shard_rows.min(rows - start)))
    }

    /// Rows `row_start ..` of it, as a matrix of its own.
    pub fn slice(&self, row_start: usize, rows: usize) -> Matrix {
        Matrix {
            shape: Shape { rows, shard_rows: rows, ..self.shape },
            words: self.words[row_start * self.stride..][..rows * self.stride].to_vec(),
            values: self.values(row_start, rows).to_vec(),
            sizes: self.sizes(row_start, rows).to_vec(),
            ..*self
        }
    }

    /// Puts it on the device.
    pub fn upload(&self, rec: &mut Recorder) -> Result<Weight> {
        let Shape { rows, cols, .. } = self.shape;
        let Matrix { format, groups, stride, .. } = *self;
        let mut shards = Vec::new();
        for (row_start, rows) in self.shards() {
            let words = &self.words[row_start * stride..][..rows * stride];
            let tensor = rec.upload_u32("weight", rows, words)?;
            shards.push(WeightShard { tensor, row_start, rows, stride, groups, format });
        }
        Ok(Weight { shards, rows, cols })
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
