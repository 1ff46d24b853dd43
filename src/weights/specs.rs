//! What a model wants on the device: matrices and vectors, each made of tensors that the checkpoint has to hold.
//! [`super::plan`] turns these wishes into buffers.

/// One tensor that becomes part of a matrix (`rows` × `cols`) or of a vector (`rows` elements, `cols` 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The tensor's canonical name.
    pub tensor: String,
    /// The shape that it must have, outermost first.
    pub shape: Vec<usize>,
    /// Its first dimension: output features.
    pub rows: usize,
    /// The product of its other dimensions: input features.
    pub cols: usize,
    /// Rows that it takes in the matrix; those from `rows` on are zero.
    pub padded_rows: usize,
}

impl Piece {
    /// A tensor of shape `[rows, cols]`.
    pub fn matrix(tensor: impl Into<String>, rows: usize, cols: usize) -> Self {
        Piece { tensor: tensor.into(), shape: vec![rows, cols], rows, cols, padded_rows: rows }
    }

    /// A tensor of shape `[len]`.
    pub fn vector(tensor: impl Into<String>, len: usize) -> Self {
        Piece { tensor: tensor.into(), shape: vec![len], rows: len, cols: 1, padded_rows: len }
    }

    /// The same with this shape in the file instead, e.g. a convolution's `[rows, 3, 2, 14, 14]` for `[rows, 1176]`.
    pub fn shaped(mut self, shape: &[usize]) -> Self {
        self.shape = shape.to_vec();
        self
    }

    /// The same with zero rows appended up to a multiple of `unit`.
    pub fn padded(mut self, unit: usize) -> Self {
        self.padded_rows = self.rows.checked_next_multiple_of(unit).unwrap_or(usize::MAX);
        self
    }
}

/// A matrix that the model wants on the device: `sources` stacked on top of each other, e.g. q, k and v.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixSpec {
    /// The model's name for it. [`Plan::device_bytes`](super::plan::Plan::device_bytes) counts it under the part of this name
    /// before the first `.`.
    pub name: String,
    /// Its pieces, topmost first.
    pub sources: Vec<Piece>,
    /// Output features: the sum of the pieces' padded rows.
    pub rows: usize,
    /// Input features: the same for all pieces.
    pub cols: usize,
}

impl MatrixSpec {
    /// A matrix of these pieces.
    pub fn new(name: impl Into<String>, sources: Vec<Piece>) -> Self {
        let rows = sources.iter().fold(0, |n: usize, p| n.saturating_add(p.padded_rows));
        let cols = sources.first().map_or(0, |p| p.cols);
        MatrixSpec { name: name.into(), sources, rows, cols }
    }
}

/// A vector that the model wants on the device as f32: `sources` one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorSpec {
    /// The model's name for it; see [`MatrixSpec::name`].
    pub name: String,
    /// Its pieces in order.
    pub sources: Vec<Piece>,
    /// Elements: the sum of the pieces' padded rows.
    pub len: usize,
}

impl VectorSpec {
    /// A vector of these pieces.
    pub fn new(name: impl Into<String>, sources: Vec<Piece>) -> Self {
        let len = sources.iter().fold(0, |n: usize, p| n.saturating_add(p.padded_rows));
        VectorSpec { name: name.into(), sources, len }
    }
}
