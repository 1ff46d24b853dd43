//! Devices, tensors, recordings and readback. Only this module names wgpu, and it knows nothing about models.
//!
//! A forward pass is first *recorded* as plain data ([`Recorder`] → [`Recording`]) and then *executed*
//! ([`Gpu::execute`]) as one command encoder. Reading back ([`Gpu::read_f32`], [`Gpu::read_u32`]) is the only
//! asynchronous step.

mod counts;
mod device;
mod execute;
mod memory;
mod readback;
mod recorder;
pub mod shader;
mod tensor;

pub use counts::Counts;
pub use device::{Caps, Gpu, GpuOptions};
pub use memory::{Lease, MemoryUse, Meter, Rehearsal};
pub use readback::{Range, Readback};
pub use recorder::{Dispatch, Recorder, Recording};
pub use shader::{Access, Kernel, Variant, WeightFormat};
pub use tensor::{Element, Run, Tensor};
