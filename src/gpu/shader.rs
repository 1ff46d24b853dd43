//! Shader assembly: a module is a list of WGSL parts put one after the other.
//!
//! enable lines · weight fragment · shared helpers · kernel. There is no template language; what varies is an
//! `override` constant or the choice of a fragment.

use crate::dtype::Dtype;

/// How a kernel uses a storage buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    Write,
}

/// How a weight matrix lies in device memory, and so which fragment reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// 32-bit floats.
    F32,
    /// Half floats, two in a word, unpacked with `unpack2x16float`: works on every device.
    F16Packed,
    /// Half floats read as WGSL `f16`: needs the shader-f16 feature.
    F16,
    /// bfloat16, two in a word: a shift makes each an exact f32.
    Bf16,
}

impl WeightFormat {
    /// All of them, for tests.
    pub const ALL: [WeightFormat; 4] =
        [WeightFormat::F32, WeightFormat::F16Packed, WeightFormat::F16, WeightFormat::Bf16];

    /// The format in which a checkpoint's elements are kept on a device.
    pub fn of(dtype: Dtype, shader_f16: bool) -> Self {
        match dtype {
            Dtype::F32 => WeightFormat::F32,
            Dtype::F16 if shader_f16 => WeightFormat::F16,
            Dtype::F16 => WeightFormat::F16Packed,
            Dtype::BF16 => WeightFormat::Bf16,
        }
    }

    fn fragment(self) -> &'static str {
        match self {
            WeightFormat::F32 => include_str!("../../shaders/weight/f32.wgsl"),
            WeightFormat::F16Packed => include_str!("../../shaders/weight/f16_packed.wgsl"),
            WeightFormat::F16 => include_str!("../../shaders/weight/f16.wgsl"),
            WeightFormat::Bf16 => include_str!("../../shaders/weight/bf16.wgsl"),
        }
    }
}

/// A kernel: its text, what it binds, and which variants exist. Declared as a `static` beside its op.
#[derive(Debug, PartialEq)]
pub struct Kernel {
    /// Unique name: the file, and `/entry` where a file has several entry points.
    pub name: &'static str,
    /// The kernel file's text.
    pub source: &'static str,
    /// Helper parts that go before it.
    pub shared: &'static [&'static str],
    /// Entry point.
    pub entry: &'static str,
    /// Whether a weight fragment goes before it; the weight is then the first storage binding.
    pub weight: bool,
    /// Storage bindings 1, 2, … in order; binding 0 is the uniform `Params`.
    pub storage: &'static [Access],
    /// Size of the `repr(C)` mirror of `Params`.
    pub params_bytes: usize,
    /// Sets of override constants to compile and to test.
    pub variants: &'static [&'static [(&'static str, f64)]],
}

/// Which pipeline of a kernel: weight fragment and override constants.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Variant {
    /// The weight fragment, for kernels that read weights.
    pub weight: Option<WeightFormat>,
    /// Values of `override` declarations, by name.
    pub overrides: Vec<(&'static str, f64)>,
}

impl Variant {
    /// No weight fragment, these constants.
    pub fn with(overrides: &[(&'static str, f64)]) -> Self {
        Variant { weight: None, overrides: overrides.to_vec() }
    }

    /// A weight fragment and constants.
    pub fn weighted(weight: WeightFormat, overrides: &[(&'static str, f64)]) -> Self {
        Variant { weight: Some(weight), overrides: overrides.to_vec() }
    }
}

#[derive(Clone, PartialEq)]
pub(super) struct PipelineKey {
    pub(super) kernel: &'static str,
    pub(super) variant: Variant,
}

impl Eq for PipelineKey {}

impl std::hash::Hash for PipelineKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.kernel.hash(state);
        self.variant.weight.hash(state);
        for (name, value) in &self.variant.overrides {
            name.hash(state);
            value.to_bits().hash(state);
        }
    }
}

/// The WGSL module of a kernel with a weight fragment, exactly as the device gets it.
pub fn assemble(kernel: &Kernel, weight: Option<WeightFormat>) -> String {
    let mut text = String::new();
    if weight == Some(WeightFormat::F16) {
        text.push_str("enable f16;\n");
    }
    if kernel.weight {
        text.push_str(weight.unwrap_or(WeightFormat::F32).fragment());
    }
    for part in kernel.shared {
        text.push_str(part);
    }
    text.push_str(kernel.source);
    text
}
