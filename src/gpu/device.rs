//! Opens an adapter and a device, and describes it as [`Caps`]. No other file reads features and limits.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use crate::error::{Error, Result};
use crate::gpu::counts::Counts;
use crate::gpu::execute::BindGroupKey;
use crate::gpu::shader::{Access, PipelineKey};
use crate::gpu::tensor::Pool;
use crate::weights::plan::Limits;

/// Options for opening a device. Most of them exist for tests.
#[derive(Debug, Clone, Default)]
pub struct GpuOptions {
    /// Pretend that the device lacks shader-f16, so that f16 weights are read from packed words.
    pub no_f16: bool,
    /// Pretend that the largest storage binding is this many bytes (to test sharding).
    pub max_binding: Option<u64>,
    /// Use a software adapter even if there is a GPU.
    pub software: bool,
    /// Refuse to hold more than this many bytes, as a device with that much memory would (to test the error).
    pub max_memory: Option<u64>,
}

/// What the device can do, read once.
#[derive(Debug, Clone, PartialEq)]
pub struct Caps {
    /// The adapter's name as the driver gives it.
    pub adapter: String,
    /// `Vulkan`, `Metal`, `Dx12` or `BrowserWebGpu`.
    pub backend: String,
    /// Whether the adapter computes on the CPU (lavapipe, SwiftShader, WARP).
    pub software: bool,
    /// Whether WGSL's `f16` is enabled on this device.
    pub shader_f16: bool,
    /// `maxStorageBufferBindingSize` in bytes.
    pub max_binding: u64,
    /// `maxBufferSize` in bytes.
    pub max_buffer: u64,
    /// `maxComputeWorkgroupsPerDimension`.
    pub max_groups: u32,
    /// `minUniformBufferOffsetAlignment` in bytes.
    pub uniform_alignment: u32,
}

impl Caps {
    /// The limits that a plan of buffers has to respect.
    pub fn limits(&self) -> Limits {
        Limits { max_binding: self.max_binding, max_buffer: self.max_buffer }
    }
}

/// An open device with its caches of pipelines, bind groups and buffers. Clones share the device.
#[derive(Clone)]
pub struct Gpu {
    pub(super) inner: Rc<Inner>,
}

pub(super) struct Inner {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) caps: Caps,
    pub(super) layouts: RefCell<HashMap<Vec<Access>, Rc<Layout>>>,
    pub(super) pipelines: RefCell<HashMap<PipelineKey, Rc<Pipeline>>>,
    pub(super) bind_groups: RefCell<HashMap<BindGroupKey, wgpu::BindGroup>>,
    pub(super) pool: Rc<Pool>,
    pub(super) arena: RefCell<Option<(wgpu::Buffer, u32)>>,
    pub(super) max_memory: Option<u64>,
    pub(super) next_id: Cell<u32>,
    pub(super) compile_only: Cell<bool>,
    pub(super) faults: Arc<Mutex<Faults>>,
    pub(super) counts: Cell<Counts>,
    pub(super) staging: RefCell<Vec<wgpu::Buffer>>,
}

/// The errors that the driver has reported.
#[derive(Default)]
pub(super) struct Faults {
    /// The first error that [`Gpu::check`] has not returned yet. A lost device stays here, so that every check returns it.
    first: Option<Error>,
    /// Tasks that wait in [`Gpu::lost`].
    waiting: Vec<Waker>,
}

pub(super) struct Layout {
    pub(super) bind_group: wgpu::BindGroupLayout,
    pub(super) pipeline: wgpu::PipelineLayout,
}

pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: Rc<Layout>,
    pub(super) id: u32,
}

impl Gpu {
    /// Opens the best adapter with all limits that it offers.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if there is none, [`Error::DeviceTooSmall`] if its limits are below what every kernel needs
    /// (8 storage buffers, 256 invocations and 16 KiB per workgroup: WebGPU's own minimum).
    pub async fn open(options: &GpuOptions) -> Result<Gpu> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter = instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                force_fallback_adapter: options.software,
                compatible_surface: None,
                ..Default::default()
            })
            .await
            .map_err(|e| Error::NoAdapter { message: e.to_string() })?;
        let info = adapter.get_info();
        let mut limits = wgpu::Limits::default();
        let offered = adapter.limits();
        for (name, needed, available) in [
            ("maxStorageBuffersPerShaderStage", 8, offered.max_storage_buffers_per_shader_stage),
            ("maxComputeInvocationsPerWorkgroup", 256, offered.max_compute_invocations_per_workgroup),
            ("maxComputeWorkgroupStorageSize", 16384, offered.max_compute_workgroup_storage_size),
        ] {
            if available < needed {
                return Err(Error::DeviceTooSmall {
                    limit: name.into(),
                    needed: needed.into(),
                    available: available.into(),
                    what: "every kernel".into(),
                });
            }
        }
        limits.max_storage_buffer_binding_size = offered.max_storage_buffer_binding_size;
        limits.max_buffer_size = offered.max_buffer_size;
        limits.max_compute_workgroups_per_dimension = offered.max_compute_workgroups_per_dimension.min(65535);
        limits.min_uniform_buffer_offset_alignment = offered.min_uniform_buffer_offset_alignment;
        limits.min_storage_buffer_offset_alignment = offered.min_storage_buffer_offset_alignment;
        let shader_f16 = adapter.features().contains(wgpu::Features::SHADER_F16) && !options.no_f16;
        let features = if shader_f16 { wgpu::Features::SHADER_F16 } else { wgpu::Features::empty() };
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("fanlight"),
                required_features: features,
                required_limits: limits.clone(),
                ..Default::default()
            })
            .await
            .map_err(|e| Error::NoAdapter {
                message: format!("the adapter {} could not open a device: {e}", info.name),
            })?;

        let faults = Arc::new(Mutex::new(Faults::default()));
        let slot = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error| note(&slot, from_wgpu(&error))));
        let slot = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                note(&slot, Error::DeviceLost { message });
            }
        });

        let max_binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let caps = Caps {
            adapter: if info.name.is_empty() { "WebGPU adapter".into() } else { info.name },
            backend: format!("{:?}", info.backend),
            software: info.device_type == wgpu::DeviceType::Cpu,
            shader_f16,
            max_binding: options.max_binding.unwrap_or(u64::MAX).min(max_binding),
            max_buffer: limits.max_buffer_size,
            max_groups: limits.max_compute_workgroups_per_dimension,
            uniform_alignment: limits.min_uniform_buffer_offset_alignment.max(32),
        };
        let inner = Inner {
            device,
            queue,
            caps,
            layouts: RefCell::default(),
            pipelines: RefCell::default(),
            bind_groups: RefCell::default(),
            pool: Rc::default(),
            arena: RefCell::default(),
            max_memory: options.max_memory,
            next_id: Cell::new(1),
            compile_only: Cell::new(false),
            faults,
            counts: Cell::default(),
            staging: RefCell::default(),
        };
        Ok(Gpu { inner: Rc::new(inner) })
    }

    /// What this device can do.
    pub fn caps(&self) -> &Caps {
        &self.inner.caps
    }

    /// How many pipelines have been compiled so far.
    pub fn pipeline_count(&self) -> usize {
        self.inner.pipelines.borrow().len()
    }

    /// The first fault that the driver reported since the last call, if any.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::OutOfMemory`] or [`Error::Gpu`].
    pub fn check(&self) -> Result<()> {
        let first = &mut locked(&self.inner.faults).first;
        if let Some(Error::OutOfMemory { held, .. }) = first {
            *held = self.memory().total.current;
        }
        match first {
            // A lost device stays lost: every later call says so too.
            Some(lost @ Error::DeviceLost { .. }) => Err(lost.clone()),
            Some(_) => first.take().map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    /// Waits until the device is lost and returns the reason. The future does not keep the device open.
    pub fn lost(&self) -> impl Future<Output = String> + 'static {
        let faults = self.inner.faults.clone();
        std::future::poll_fn(move |context| {
            let mut faults = locked(&faults);
            match &faults.first {
                Some(Error::DeviceLost { message }) => Poll::Ready(message.clone()),
                _ => {
                    faults.waiting.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    /// Destroys the device and everything on it. From now on it counts as lost, for the reason `why`.
    pub fn close(&self, why: &str) {
        note(&self.inner.faults, Error::DeviceLost { message: why.into() });
        self.inner.device.destroy();
    }

    /// Whether both are the same device.
    pub fn is(&self, other: &Gpu) -> bool {
        Rc::ptr_eq(&self.inner, &other.inner)
    }

    /// Whether the driver has reported a failed allocation. The report is removed, so [`Gpu::check`] does not return it.
    pub(super) fn take_out_of_memory(&self) -> bool {
        locked(&self.inner.faults).first.take_if(|fault| matches!(fault, Error::OutOfMemory { .. })).is_some()
    }

    /// Waits until the device has processed everything submitted so far, then reports errors as [`Gpu::check`] does. In a
    /// browser there is no other way to learn of a failed allocation.
    ///
    /// # Errors
    /// As [`Gpu::check`].
    pub async fn settle(&self) -> Result<()> {
        let probe = self.persistent("probe", 1, 4, crate::gpu::Element::U32)?;
        self.submit(None);
        self.read_u32(&probe, 0, 1).await.map(|_| ())
    }

    /// Submits pending writes to the device. Natively, it also waits until their staging memory is free again.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or as [`Gpu::check`].
    pub fn flush(&self) -> Result<()> {
        self.submit(None);
        // In a browser this returns at once, and the browser itself limits the staging memory.
        let waited = self.inner.device.poll(wgpu::PollType::wait_indefinitely());
        waited.map_err(|e| Error::DeviceLost { message: format!("waiting for the device: {e}") })?;
        self.check()
    }

    /// Drops all cached bind groups. They would keep buffers alive that nothing else uses any more.
    pub fn forget_bind_groups(&self) {
        self.inner.bind_groups.borrow_mut().clear();
    }

    pub(super) fn fresh_id(&self) -> u32 {
        let id = self.inner.next_id.get();
        self.inner.next_id.set(id + 1);
        id
    }
}

fn locked(faults: &Mutex<Faults>) -> MutexGuard<'_, Faults> {
    faults.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn note(faults: &Mutex<Faults>, error: Error) {
    let mut faults = locked(faults);
    let lost = |error: &Error| matches!(error, Error::DeviceLost { .. });
    // Errors before a loss are usually its consequences, so the loss replaces them. The first report of a loss is kept.
    if faults.first.is_none() || (lost(&error) && !faults.first.as_ref().is_some_and(lost)) {
        faults.first = Some(error);
    }
    if faults.first.as_ref().is_some_and(lost) {
        faults.waiting.drain(..).for_each(Waker::wake);
    }
}

/// A browser reports this long after the allocation and does not say which one failed.
fn out_of_memory() -> Error {
    Error::OutOfMemory { what: "a GPU allocation".into(), bytes: 0, held: 0, advice: String::new() }
}

fn from_wgpu(error: &wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => out_of_memory(),
        other => Error::Gpu { message: other.to_string() },
    }
}
