//! A forward pass as plain data: a list of dispatches over tensors, with all parameters in one block.

use std::collections::HashMap;

use crate::error::Result;
use crate::gpu::device::Gpu;
use crate::gpu::shader::{Kernel, Variant};
use crate::gpu::tensor::{Element, Tensor};

/// One kernel launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch {
    /// Which kernel.
    pub kernel: &'static Kernel,
    /// Which of its variants.
    pub variant: Variant,
    /// Where its parameters begin in [`Recording::params`].
    pub params_offset: u32,
    /// How many bytes of parameters it takes.
    pub params_bytes: u32,
    /// The buffers bound at 1, 2, … as indices into the recording's memory table.
    pub bindings: Vec<usize>,
    /// Workgroups in x, y, z.
    pub groups: [u32; 3],
}

/// What [`Recorder::finish`] yields and [`Gpu::execute`] runs.
#[derive(Default)]
pub struct Recording {
    /// The launches in order.
    pub dispatches: Vec<Dispatch>,
    /// The parameter blocks, each at the device's uniform alignment. Launches with equal parameters share one.
    pub params: Vec<u8>,
    pub(super) memory: Vec<(wgpu::Buffer, u32)>,
    /// Uploaded tensors, which are kept until the recording is submitted.
    pub(super) uploads: Vec<Tensor>,
}

/// Builds a [`Recording`].
pub struct Recorder {
    gpu: Gpu,
    recording: Recording,
    /// Where each parameter block begins. The layers of a model differ in few of them.
    blocks: HashMap<Box<[u8]>, u32>,
}

impl Recorder {
    /// Starts an empty recording for this device.
    pub fn new(gpu: &Gpu) -> Self {
        Recorder { gpu: gpu.clone(), recording: Recording::default(), blocks: HashMap::new() }
    }

    /// The device that this is recorded for.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// A tensor for an intermediate result `[rows, cols]` of f32, with undefined content.
    ///
    /// # Errors
    /// [`crate::Error::DeviceTooSmall`] if one binding cannot hold it.
    pub fn scratch(&mut self, what: &str, rows: usize, cols: usize) -> Result<Tensor> {
        self.gpu.pooled(what, rows, cols, Element::F32, false)
    }

    /// Uploads f32 values `[rows, values.len() / rows]`, before anything of this recording runs.
    ///
    /// # Errors
    /// [`crate::Error::DeviceTooSmall`] if one binding cannot hold them.
    pub fn upload_f32(&mut self, what: &str, rows: usize, values: &[f32]) -> Result<Tensor> {
        self.upload(what, rows, Element::F32, bytemuck::cast_slice(values))
    }

    /// Uploads u32 values `[rows, values.len() / rows]`, before anything of this recording runs.
    ///
    /// # Errors
    /// [`crate::Error::DeviceTooSmall`] if one binding cannot hold them.
    pub fn upload_u32(&mut self, what: &str, rows: usize, values: &[u32]) -> Result<Tensor> {
        self.upload(what, rows, Element::U32, bytemuck::cast_slice(values))
    }

    fn upload(&mut self, what: &str, rows: usize, element: Element, bytes: &[u8]) -> Result<Tensor> {
        let cols = (bytes.len() / 4).checked_div(rows).unwrap_or(0);
        let tensor = self.gpu.pooled(what, rows, cols, element, true)?;
        self.gpu.write(&tensor, 0, bytes)?;
        self.recording.uploads.push(tensor.clone());
        Ok(tensor)
    }

    /// Records one launch. A launch of zero workgroups is left out.
    pub fn dispatch<P: bytemuck::Pod>(
        &mut self,
        kernel: &'static Kernel,
        variant: Variant,
        params: &P,
        bindings: &[&Tensor],
        groups: [u32; 3],
    ) {
        debug_assert_eq!(bindings.len(), kernel.storage.len(), "bindings of {}", kernel.name);
        if groups.contains(&0) {
            return;
        }
        let r = &mut self.recording;
        let block = bytemuck::bytes_of(params);
        let params_offset = match self.blocks.get(block) {
            Some(offset) => *offset,
            None => {
                let alignment = self.gpu.caps().uniform_alignment as usize;
                r.params.resize(r.params.len().next_multiple_of(alignment), 0);
                let offset = r.params.len() as u32;
                r.params.extend_from_slice(block);
                self.blocks.insert(block.into(), offset);
                offset
            }
        };
        let bindings = bindings
            .iter()
            .map(|tensor| {
                r.memory.push((tensor.memory.raw.clone(), tensor.memory.id));
                r.memory.len() - 1
            })
            .collect();
        let params_bytes = size_of::<P>() as u32;
        r.dispatches.push(Dispatch { kernel, variant, params_offset, params_bytes, bindings, groups });
    }

    /// Spreads `n` workgroups over x and y if x alone would exceed the device's limit. The kernel takes the index
    /// `workgroup_id.y * num_workgroups.x + workgroup_id.x` and leaves surplus groups idle.
    pub fn grid(&self, n: usize) -> [u32; 3] {
        let limit = self.gpu.caps().max_groups as usize;
        if n <= limit {
            return [n as u32, 1, 1];
        }
        let y = n.div_ceil(limit);
        [n.div_ceil(y) as u32, y as u32, 1]
    }

    /// The finished recording.
    pub fn finish(self) -> Recording {
        self.recording
    }
}
