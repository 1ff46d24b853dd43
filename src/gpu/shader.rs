//! Assembles shaders. A WGSL module is a concatenation of parts: enable lines, weight fragment (with
//! what it shares with others), shared helpers, kernel.
//!
//! There is no template language. Variants differ in `override` constants or in the choice of a fragment.

use crate::dtype::Layout;

/// How a kernel uses a storage buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    Write,
}

/// How a kernel reads the elements of a weight matrix: by which fragment of `shaders/weight/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// Half floats read as WGSL `f16`, which needs the shader-f16 feature.
    NativeF16,
    /// A layout that every device can read. Half floats are unpacked with `unpack2x16float`.
    Plain(Layout),
}

impl WeightFormat {
    /// How this device reads a layout.
    pub fn of(layout: Layout, shader_f16: bool) -> Self {
        match layout {
            Layout::F16 if shader_f16 => WeightFormat::NativeF16,
            other => WeightFormat::Plain(other),
        }
    }

    /// All formats, for tests.
    pub fn all() -> impl Iterator<Item = WeightFormat> {
        std::iter::once(WeightFormat::NativeF16).chain(Layout::ALL.into_iter().map(WeightFormat::Plain))
    }

    /// The layout that this format reads.
    pub fn layout(self) -> Layout {
        match self {
            WeightFormat::NativeF16 => Layout::F16,
            WeightFormat::Plain(layout) => layout,
        }
    }

    /// The parts of `shaders/weight/` and `shaders/shared/` by which a kernel reads weights of this format.
    fn parts(self) -> &'static [&'static str] {
        const WORDS: &str = include_str!("../../shaders/shared/words.wgsl");
        const NIBBLES: &str = include_str!("../../shaders/shared/nibbles.wgsl");
        const FIFTH_BITS: &str = include_str!("../../shaders/shared/fifth_bits.wgsl");
        const IQ4: &str = include_str!("../../shaders/shared/iq4.wgsl");
        const HALVES: &str = include_str!("../../shaders/shared/halves.wgsl");
        match self {
            WeightFormat::NativeF16 => &[include_str!("../../shaders/weight/f16.wgsl")],
            WeightFormat::Plain(layout) => match layout {
                Layout::F32 => &[include_str!("../../shaders/weight/f32.wgsl")],
                Layout::F16 => &[HALVES, include_str!("../../shaders/weight/f16_packed.wgsl")],
                Layout::Bf16 => &[HALVES, include_str!("../../shaders/weight/bf16.wgsl")],
                Layout::Q8 => &[WORDS, include_str!("../../shaders/weight/q8.wgsl")],
                Layout::Q4 => &[WORDS, NIBBLES, include_str!("../../shaders/weight/q4.wgsl")],
                Layout::Q5 => &[WORDS, FIFTH_BITS, include_str!("../../shaders/weight/q5.wgsl")],
                Layout::Q2K => &[WORDS, include_str!("../../shaders/weight/q2_k.wgsl")],
                Layout::Q3K => &[WORDS, include_str!("../../shaders/weight/q3_k.wgsl")],
                Layout::Q4K => &[WORDS, NIBBLES, include_str!("../../shaders/weight/q4_k.wgsl")],
                Layout::Q5K => &[WORDS, FIFTH_BITS, include_str!("../../shaders/weight/q5_k.wgsl")],
                Layout::Q6K => &[WORDS, include_str!("../../shaders/weight/q6_k.wgsl")],
                Layout::Iq4Nl => &[WORDS, IQ4, include_str!("../../shaders/weight/iq4_nl.wgsl")],
                Layout::Iq4Xs => &[WORDS, IQ4, include_str!("../../shaders/weight/iq4_xs.wgsl")],
                Layout::G4 { .. } => &[WORDS, NIBBLES, include_str!("../../shaders/weight/g4.wgsl")],
                Layout::G8 { .. } => &[WORDS, include_str!("../../shaders/weight/g8.wgsl")],
            },
        }
    }
}

/// A kernel: its WGSL text, its bindings and its variants. Each is declared as a `static` beside its op.
#[derive(Debug, PartialEq)]
pub struct Kernel {
    /// Unique name: that of the file, followed by `/what` if the file has several kernels.
    pub name: &'static str,
    /// The kernel file's text.
    pub source: &'static str,
    /// Helper parts that are placed before the kernel.
    pub shared: &'static [&'static str],
    /// Entry point.
    pub entry: &'static str,
    /// Whether the kernel needs a weight fragment. If so, the weight is the first storage binding.
    pub weight: bool,
    /// Storage bindings 1, 2, … in order; binding 0 is the uniform `Params`.
    pub storage: &'static [Access],
    /// Size in bytes of the `repr(C)` struct that mirrors `Params`.
    pub params_bytes: usize,
    /// Sets of override constants to compile and to test.
    pub variants: &'static [&'static [(&'static str, f64)]],
}

/// Selects a pipeline of a kernel: its weight fragment and override constants.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Variant {
    /// The weight fragment, for kernels that read weights.
    pub weight: Option<WeightFormat>,
    /// Values of `override` declarations, by name.
    pub overrides: Vec<(&'static str, f64)>,
}

impl Variant {
    /// A variant with these constants and without a weight fragment.
    pub fn with(overrides: &[(&'static str, f64)]) -> Self {
        Variant { weight: None, overrides: overrides.to_vec() }
    }

    /// A variant with a weight fragment and these constants.
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

/// The WGSL module of a kernel with a weight fragment, exactly as it is passed to the device.
pub fn assemble(kernel: &Kernel, weight: Option<WeightFormat>) -> String {
    let mut text = String::new();
    if weight == Some(WeightFormat::NativeF16) {
        text.push_str("enable f16;\n");
    }
    if kernel.weight {
        weight.unwrap_or(WeightFormat::Plain(Layout::F32)).parts().iter().for_each(|part| text.push_str(part));
    }
    for part in kernel.shared {
        text.push_str(part);
    }
    text.push_str(kernel.source);
    text
}
