//! Reads tensors back: device → staging buffer → host. This is the only asynchronous read.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::error::{Error, Result};
use crate::gpu::device::Gpu;
use crate::gpu::tensor::{Pool, Tensor};

impl Gpu {
    /// Reads `count` f32 words from word `start` of the tensor, after everything submitted so far.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is outside the tensor, and any error of the driver, see [`Gpu::check`].
    pub async fn read_f32(&self, tensor: &Tensor, start: usize, count: usize) -> Result<Vec<f32>> {
        self.read(tensor, start, count, bytemuck::pod_collect_to_vec).await
    }

    /// Reads `count` u32 words from word `start` of the tensor, after everything submitted so far.
    ///
    /// # Errors
    /// As [`Gpu::read_f32`].
    pub async fn read_u32(&self, tensor: &Tensor, start: usize, count: usize) -> Result<Vec<u32>> {
        self.read(tensor, start, count, bytemuck::pod_collect_to_vec).await
    }

    async fn read<T>(
        &self,
        tensor: &Tensor,
        start: usize,
        count: usize,
        convert: impl FnOnce(&[u8]) -> Vec<T>,
    ) -> Result<Vec<T>> {
        if start.checked_add(count).is_none_or(|end| end > tensor.len()) {
            return Err(Error::invalid(
                "readback",
                format!("a range within {} words", tensor.len()),
                format!("{count} words at {start}"),
            ));
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let bytes = 4 * count as u64;
        let device = &self.inner.device;
        let _counted = Passing::new(&self.inner.pool, bytes);
        let staging = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&tensor.memory.raw, 4 * start as u64, &staging, 0, bytes);
        self.inner.queue.submit([encoder.finish()]);

        let slot = Arc::new(Mutex::new(Slot::default()));
        let sender = slot.clone();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let mut slot = sender.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            slot.result = Some(result.map_err(|e| e.to_string()));
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        });
        // Natively, the callback runs inside this call. In a browser, the call returns at once and the event loop calls back.
        device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| Error::DeviceLost { message: format!("waiting for the device: {e}") })?;
        let mapped = std::future::poll_fn(|context| {
            let mut slot = slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match slot.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    slot.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        self.check()?;
        mapped.map_err(|message| Error::DeviceLost { message })?;
        let view = staging.get_mapped_range(..).map_err(|e| Error::Gpu { message: e.to_string() })?;
        let values = convert(&view);
        drop(view);
        staging.unmap();
        Ok(values)
    }
}

/// Counts a staging buffer as used memory for as long as it exists.
struct Passing(Rc<Pool>, u64);

impl Passing {
    fn new(pool: &Rc<Pool>, bytes: u64) -> Self {
        pool.ledger.passing(bytes as i64);
        Passing(pool.clone(), bytes)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.ledger.passing(-(self.1 as i64));
    }
}

#[derive(Default)]
struct Slot {
    result: Option<Result<(), String>>,
    waker: Option<Waker>,
}
