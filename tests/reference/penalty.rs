//! Twin of `shaders/penalty.wgsl`.

/// Divides positive and multiplies other `x[id]` by `penalty`, for the first `count` of the distinct `ids`.
pub fn penalty(x: &mut [f64], ids: &[u32], count: usize, penalty: f64) {
    for &id in &ids[..count] {
        let x = &mut x[id as usize];
        *x = if *x > 0.0 { *x / penalty } else { *x * penalty };
    }
}
