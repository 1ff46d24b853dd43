//! Twin of `shaders/matmul.wgsl`.

/// What follows the product: torch's `GELU()`, `GELU("tanh")`, transformers' `quick_gelu`.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    None,
    Gelu,
    GeluTanh,
    QuickGelu,
}

/// What the kernel takes besides its buffers.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    pub n: usize,
    pub m: usize,
    pub k: usize,
    pub stride: usize,
    pub row_start: usize,
    pub rows: usize,
    pub x_row: usize,
    pub y_row: usize,
    pub bias: bool,
    pub add: bool,
    pub act: Act,
}

/// w: shard `[rows, stride]`, x `[.., k]`, bias `[m]`, y `[.., m]`.
pub fn matmul(w: &[f64], x: &[f64], bias: &[f64], y: &mut [f64], p: &Linear) {
    for i in 0..p.n {
        let input = &x[(p.x_row + i) * p.k..][..p.k];
        for o in 0..p.rows {
            let mut v: f64 = input.iter().zip(&w[o * p.stride..]).map(|(a, b)| a * b).sum();
            if p.bias {
                v += bias[p.row_start + o];
            }
            v = match p.act {
                Act::None => v,
                Act::Gelu => gelu(v),
                Act::GeluTanh => {
                    0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh())
                }
                Act::QuickGelu => v / (1.0 + (-1.702 * v).exp()),
            };
            let to = &mut y[(p.y_row + i) * p.m + p.row_start + o];
            *to = if p.add { *to + v } else { v };
        }
    }
}

/// GELU with the exact error function, as `torch.nn.GELU()`.
pub fn gelu(x: f64) -> f64 {
    0.5 * x * erfc(-x / 2f64.sqrt())
}

/// The complementary error function: Maclaurin series near 0, Laplace's continued fraction beyond.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    let scale = 2.0 / std::f64::consts::PI.sqrt();
    if x < 2.5 {
        let mut term = x;
        let mut sum = x;
        for k in 1..80 {
            let k = f64::from(k);
            term *= -x * x / k;
            sum += term / (2.0 * k + 1.0);
        }
        return 1.0 - scale * sum;
    }
    let mut fraction = x;
    for k in (1..200).rev() {
        fraction = x + 0.5 * f64::from(k) / fraction;
    }
    0.5 * scale * (-x * x).exp() / fraction
}
