//! Twin of `shaders/matvec.wgsl`: the formula and the parameters of matmul.

pub use super::matmul::matmul as matvec;
