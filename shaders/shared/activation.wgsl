// erf as in Numerical Recipes (erfcc); the relative error of erfc is below 1.2e-7 everywhere.
fn erf1(x: f32) -> f32 {
    let z = abs(x);
    let t = 1.0 / (1.0 + 0.5 * z);
    let p = t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 + t * (0.27886807
        + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
    let erfc = t * exp(max(-z * z - 1.26551223 + p, -87.0));
    return sign(x) * (1.0 - erfc);
}

// GELU with the exact erf, as torch.nn.GELU().
fn gelu1(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf1(x * 0.70710678118654752));
}

// GELU by tanh, as torch.nn.GELU("tanh"). (1 + tanh(u)) / 2 is sigmoid(2u), which loses no precision for small values.
fn gelu_tanh1(x: f32) -> f32 {
    let u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
    return x / (1.0 + exp(min(-2.0 * u, 80.0)));
}

// x sigmoid(1.702 x), as transformers' quick_gelu.
fn quick_gelu1(x: f32) -> f32 {
    return x / (1.0 + exp(min(-1.702 * x, 80.0)));
}

// The activation with this number in ops::Activation.
fn activation1(x: f32, act: u32) -> f32 {
    switch act {
        case 1u: { return gelu1(x); }
        case 2u: { return gelu_tanh1(x); }
        case 3u: { return quick_gelu1(x); }
        default: { return x; }
    }
}

// SiLU. The clamp keeps exp finite; the result is 0 there anyway.
fn silu4(x: vec4<f32>) -> vec4<f32> {
    return x / (1.0 + exp(min(-x, vec4<f32>(80.0))));
}
