//! Twin of `shaders/columns.wgsl`.

/// Which words of x go where in y.
pub struct Columns {
    pub n: usize,
    pub rows: usize,
    pub from_row: usize,
    pub to_row: usize,
    pub count: usize,
    pub stride: usize,
    pub first: usize,
}

/// x `[n, rows]`, y `[.., stride]`: rows `from_row .. from_row + count` of x's transpose go to y's rows from `to_row` on,
/// as words `first .. first + n`. Other words of y stay as they are.
pub fn columns(x: &[u32], y: &mut [u32], p: &Columns) {
    for r in 0..p.count {
        for c in 0..p.n {
            y[(p.to_row + r) * p.stride + p.first + c] = x[c * p.rows + p.from_row + r];
        }
    }
}
