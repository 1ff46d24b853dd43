//! Runs a recording in one encoder and one compute pass, with pipelines and bind groups from caches.

use std::rc::Rc;

use crate::error::Result;
use crate::gpu::device::{Gpu, Layout, Pipeline};
use crate::gpu::recorder::{Dispatch, Recording};
use crate::gpu::shader::{self, Access, PipelineKey};

/// The key of a cached bind group: the layout of its pipeline, the parameter buffer, and the buffers that it binds.
pub(super) type BindGroupKey = (u32, u32, Vec<u32>);

/// If there are more cached bind groups than this, all are dropped. Otherwise prompts of ever new lengths would grow the
/// cache without end.
const MAX_BIND_GROUPS: usize = 8192;

/// Size of the buffer that holds `params` bytes of parameter blocks.
pub(super) fn arena_bytes(params: u64) -> u64 {
    (params + 256).next_power_of_two().max(1 << 16)
}

impl Gpu {
    /// Submits everything in the recording as one command buffer.
    ///
    /// # Errors
    /// An error that the driver reported earlier, see [`Gpu::check`]. Errors of this submission are reported by the next
    /// check or readback.
    pub fn execute(&self, recording: Recording) -> Result<()> {
        if let Some(encoder) = self.encode(recording)? {
            self.submit(Some(encoder.finish()));
        }
        Ok(())
    }

    /// Everything in the recording in one pass, not yet submitted. `None` while pipelines are only compiled.
    pub(super) fn encode(&self, recording: Recording) -> Result<Option<wgpu::CommandEncoder>> {
        self.check()?;
        let inner = &self.inner;
        if inner.compile_only.get() {
            recording.dispatches.iter().for_each(|dispatch| drop(self.pipeline(dispatch)));
            return Ok(None);
        }
        let (arena, arena_id) = self.arena(recording.params.len() as u64);
        if !recording.params.is_empty() {
            let mut params = recording.params;
            params.resize(params.len().next_multiple_of(4), 0);
            self.write_buffer(&arena, 0, &params);
        }
        let mut encoder = inner.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for dispatch in &recording.dispatches {
                let pipeline = self.pipeline(dispatch);
                let group = self.bind_group(&pipeline, dispatch, &recording.memory, &arena, arena_id);
                pass.set_pipeline(&pipeline.raw);
                pass.set_bind_group(0, &group, &[dispatch.params_offset]);
                let [x, y, z] = dispatch.groups;
                pass.dispatch_workgroups(x, y, z);
            }
        }
        self.count(|counts| counts.dispatches += recording.dispatches.len() as u64);
        Ok(Some(encoder))
    }

    /// Runs `record`. Meanwhile, [`Gpu::execute`] only compiles the pipelines of a recording and does not run it.
    ///
    /// # Errors
    /// Those of `record`.
    pub fn compile_only<T>(&self, record: impl FnOnce() -> Result<T>) -> Result<T> {
        self.inner.compile_only.set(true);
        let result = record();
        self.inner.compile_only.set(false);
        result
    }

    /// The uniform buffer that holds all parameter blocks of a recording.
    fn arena(&self, bytes: u64) -> (wgpu::Buffer, u32) {
        let mut arena = self.inner.arena.borrow_mut();
        match &*arena {
            // The last block needs room behind it, since every binding has the length that its layout says.
            Some((buffer, id)) if buffer.size() >= bytes + 256 => (buffer.clone(), *id),
            _ => {
                let size = arena_bytes(bytes);
                let before = arena.as_ref().map_or(0, |(buffer, _)| buffer.size());
                self.inner.pool.ledger.passing(size as i64 - before as i64);
                let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
                let buffer = self.create_buffer("params", size, usage);
                let id = self.fresh_id();
                *arena = Some((buffer.clone(), id));
                self.inner.bind_groups.borrow_mut().clear();
                (buffer, id)
            }
        }
    }

    fn layout(&self, storage: &[Access]) -> Rc<Layout> {
        if let Some(layout) = self.inner.layouts.borrow().get(storage) {
            return layout.clone();
        }
        let device = &self.inner.device;
        let mut entries = vec![wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: true,
                min_binding_size: None,
            },
            count: None,
        }];
        entries.extend(storage.iter().enumerate().map(|(i, access)| wgpu::BindGroupLayoutEntry {
            binding: i as u32 + 1,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: *access == Access::Read },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        }));
        let bind_group =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&bind_group)],
            immediate_size: 0,
        });
        let layout = Rc::new(Layout { bind_group, pipeline });
        self.inner.layouts.borrow_mut().insert(storage.to_vec(), layout.clone());
        layout
    }

    fn pipeline(&self, dispatch: &Dispatch) -> Rc<Pipeline> {
        let key = PipelineKey { kernel: dispatch.kernel.name, variant: dispatch.variant.clone() };
        if let Some(pipeline) = self.inner.pipelines.borrow().get(&key) {
            return pipeline.clone();
        }
        let device = &self.inner.device;
        let source = shader::assemble(dispatch.kernel, dispatch.variant.weight);
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(dispatch.kernel.name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let layout = self.layout(dispatch.kernel.storage);
        let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(dispatch.kernel.name),
            layout: Some(&layout.pipeline),
            module: &module,
            entry_point: Some(dispatch.kernel.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &dispatch.variant.overrides,
                // Every kernel writes its shared memory before reading it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        let pipeline = Rc::new(Pipeline { raw, layout, id: self.fresh_id() });
        self.inner.pipelines.borrow_mut().insert(key, pipeline.clone());
        pipeline
    }

    fn bind_group(
        &self,
        pipeline: &Pipeline,
        dispatch: &Dispatch,
        memory: &[(wgpu::Buffer, u32)],
        arena: &wgpu::Buffer,
        arena_id: u32,
    ) -> wgpu::BindGroup {
        let ids = dispatch.bindings.iter().map(|&i| memory[i].1).collect();
        let key: BindGroupKey = (pipeline.id, arena_id, ids);
        if let Some(group) = self.inner.bind_groups.borrow().get(&key) {
            return group.clone();
        }
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: arena,
                offset: 0,
                size: std::num::NonZeroU64::new(dispatch.params_bytes.into()),
            }),
        }];
        entries.extend(dispatch.bindings.iter().enumerate().map(|(slot, &i)| wgpu::BindGroupEntry {
            binding: slot as u32 + 1,
            resource: memory[i].0.as_entire_binding(),
        }));
        let group = self.inner.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout.bind_group,
            entries: &entries,
        });
        self.count(|counts| counts.bind_groups += 1);
        let mut cache = self.inner.bind_groups.borrow_mut();
        if cache.len() >= MAX_BIND_GROUPS {
            cache.clear();
        }
        cache.insert(key, group.clone());
        group
    }
}
