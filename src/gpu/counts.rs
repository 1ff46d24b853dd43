//! Counts what is asked of the device ([`Gpu::counts`]). Tests hold the cost of a token to these numbers.

use crate::gpu::device::Gpu;

/// How often each thing was done since the device was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Launches of kernels.
    pub dispatches: u64,
    /// Submissions to the queue.
    pub submits: u64,
    /// Writes into buffers.
    pub writes: u64,
    /// Bytes of those writes.
    pub written: u64,
    /// Bytes that were read back.
    pub read: u64,
    /// Buffers that were made.
    pub buffers: u64,
    /// Bind groups that were made.
    pub bind_groups: u64,
}

impl Counts {
    /// What was done after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            dispatches: self.dispatches - earlier.dispatches,
            submits: self.submits - earlier.submits,
            writes: self.writes - earlier.writes,
            written: self.written - earlier.written,
            read: self.read - earlier.read,
            buffers: self.buffers - earlier.buffers,
            bind_groups: self.bind_groups - earlier.bind_groups,
        }
    }
}

impl Gpu {
    /// What was asked of this device so far.
    pub fn counts(&self) -> Counts {
        self.inner.counts.get()
    }

    pub(super) fn count(&self, note: impl FnOnce(&mut Counts)) {
        let mut counts = self.inner.counts.get();
        note(&mut counts);
        self.inner.counts.set(counts);
    }

    /// Submits a command buffer, or only the writes that wait.
    pub(super) fn submit(&self, commands: Option<wgpu::CommandBuffer>) {
        self.count(|counts| counts.submits += 1);
        self.inner.queue.submit(commands);
    }

    pub(super) fn write_buffer(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        self.count(|counts| {
            counts.writes += 1;
            counts.written += bytes.len() as u64;
        });
        self.inner.queue.write_buffer(buffer, offset, bytes);
    }

    pub(super) fn create_buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.count(|counts| counts.buffers += 1);
        let label = Some(label);
        self.inner.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
    }
}
