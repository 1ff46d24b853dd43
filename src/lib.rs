pub mod dtype;
pub mod error;
pub mod generate;
pub mod gpu;
pub mod image;
pub mod model;
pub mod ops;
pub mod weights;
pub use error::{Error, Result};
