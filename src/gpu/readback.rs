//! Reads tensors back: device → staging buffer → host. This is the only asynchronous read. Staging buffers are used again, and
//! what a recording yields is copied to one of them in its own command buffer.

use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::error::{Error, Result};
use crate::gpu::device::{Gpu, Inner};
use crate::gpu::recorder::Recording;
use crate::gpu::tensor::Tensor;

/// A run of words that is read: from word `start` of `tensor`, `count` of them.
#[derive(Clone, Copy)]
pub struct Range<'a> {
    /// The tensor.
    pub tensor: &'a Tensor,
    /// The first word.
    pub start: usize,
    /// The number of words.
    pub count: usize,
}

/// Words on their way from the device.
#[must_use = "nothing is read until this is awaited"]
pub struct Readback {
    gpu: Gpu,
    /// `None` if no word was asked for, or if nothing ran ([`Gpu::compile_only`]).
    staging: Option<Staging>,
    bytes: u64,
}

/// At most so many staging buffers wait to be used again.
const MOST_STAGING: usize = 4;
/// A larger staging buffer is not kept.
const LARGEST_STAGING: u64 = 4 << 20;

/// Size of the staging buffer for so many bytes.
pub(super) fn staging_bytes(bytes: u64) -> u64 {
    bytes.next_multiple_of(256)
}

impl Gpu {
    /// Reads `count` f32 words from word `start` of the tensor, after everything submitted so far.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range is outside the tensor, and any error of the driver, see [`Gpu::check`].
    pub async fn read_f32(&self, tensor: &Tensor, start: usize, count: usize) -> Result<Vec<f32>> {
        self.read(&[Range { tensor, start, count }])?.f32s().await
    }

    /// Reads `count` u32 words from word `start` of the tensor, after everything submitted so far.
    ///
    /// # Errors
    /// As [`Gpu::read_f32`].
    pub async fn read_u32(&self, tensor: &Tensor, start: usize, count: usize) -> Result<Vec<u32>> {
        self.read(&[Range { tensor, start, count }])?.u32s().await
    }

    fn read(&self, ranges: &[Range<'_>]) -> Result<Readback> {
        let mut encoder = self.inner.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let readback = self.copy_out(&mut encoder, ranges)?;
        if readback.staging.is_some() {
            self.submit(Some(encoder.finish()));
        }
        Ok(readback)
    }

    /// Submits everything in the recording and what reads these words after it as one command buffer.
    ///
    /// # Errors
    /// As [`Gpu::execute`], and [`Error::Invalid`] if a range is outside its tensor.
    pub fn execute_and_read(&self, recording: Recording, ranges: &[Range<'_>]) -> Result<Readback> {
        match self.encode(recording)? {
            Some(mut encoder) => {
                let readback = self.copy_out(&mut encoder, ranges)?;
                self.submit(Some(encoder.finish()));
                Ok(readback)
            }
            None => Ok(Readback { gpu: self.clone(), staging: None, bytes: 0 }),
        }
    }

    /// Records the copy of these words, one range after the other, to a staging buffer.
    fn copy_out(&self, encoder: &mut wgpu::CommandEncoder, ranges: &[Range<'_>]) -> Result<Readback> {
        for &Range { tensor, start, count } in ranges {
            if start.checked_add(count).is_none_or(|end| end > tensor.len()) {
                let expected = format!("a range within {} words", tensor.len());
                return Err(Error::invalid("readback", expected, format!("{count} words at {start}")));
            }
        }
        let bytes = ranges.iter().map(|range| 4 * range.count as u64).sum();
        let staging = (bytes > 0).then(|| self.staging(bytes));
        let mut at = 0;
        for range in ranges.iter().filter(|range| range.count > 0) {
            let bytes = 4 * range.count as u64;
            if let Some(staging) = &staging {
                encoder.copy_buffer_to_buffer(
                    &range.tensor.memory.raw,
                    4 * range.start as u64,
                    &staging.buffer,
                    at,
                    bytes,
                );
            }
            at += bytes;
        }
        self.count(|counts| counts.read += bytes);
        Ok(Readback { gpu: self.clone(), staging, bytes })
    }

    /// A staging buffer of at least so many bytes: the smallest that waits, or a new one.
    fn staging(&self, bytes: u64) -> Staging {
        let inner = &self.inner;
        let mut free = inner.staging.borrow_mut();
        let fitting = (0..free.len()).filter(|i| free[*i].size() >= bytes).min_by_key(|i| free[*i].size());
        let buffer = fitting.map(|i| free.swap_remove(i)).unwrap_or_else(|| {
            let size = staging_bytes(bytes);
            inner.pool.ledger.passing(size as i64);
            self.create_buffer("readback", size, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)
        });
        Staging { buffer, inner: Rc::downgrade(inner), reusable: false }
    }

    /// Frees the staging buffers that wait.
    pub(super) fn trim_staging(&self) {
        for buffer in self.inner.staging.borrow_mut().drain(..) {
            self.inner.pool.ledger.passing(-(buffer.size() as i64));
            buffer.destroy();
        }
    }
}

impl Readback {
    /// The words as f32.
    ///
    /// # Errors
    /// Any error of the driver, see [`Gpu::check`].
    pub async fn f32s(self) -> Result<Vec<f32>> {
        self.finish(bytemuck::pod_collect_to_vec).await
    }

    /// The words as u32.
    ///
    /// # Errors
    /// As [`Readback::f32s`].
    pub async fn u32s(self) -> Result<Vec<u32>> {
        self.finish(bytemuck::pod_collect_to_vec).await
    }

    async fn finish<T>(self, convert: impl FnOnce(&[u8]) -> Vec<T>) -> Result<Vec<T>> {
        let Some(mut staging) = self.staging else { return Ok(Vec::new()) };
        let buffer = staging.buffer.clone();
        let slot = Arc::new(Mutex::new(Slot::default()));
        let sender = slot.clone();
        buffer.map_async(wgpu::MapMode::Read, ..self.bytes, move |result| {
            let mut slot = sender.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            slot.result = Some(result.map_err(|e| e.to_string()));
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        });
        // Natively, the callback runs inside this call. In a browser, the call returns at once and the event loop calls back.
        self.gpu
            .inner
            .device
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
        self.gpu.check()?;
        mapped.map_err(|message| Error::DeviceLost { message })?;
        let view = buffer.get_mapped_range(..self.bytes).map_err(|e| Error::Gpu { message: e.to_string() })?;
        let values = convert(&view);
        drop(view);
        buffer.unmap();
        staging.reusable = true;
        Ok(values)
    }
}

/// A staging buffer in use. When it is dropped it waits for its next use, or is freed.
struct Staging {
    buffer: wgpu::Buffer,
    inner: Weak<Inner>,
    /// Whether it was read to the end, so that nothing maps it any more.
    reusable: bool,
}

impl Drop for Staging {
    fn drop(&mut self) {
        let Some(inner) = self.inner.upgrade() else { return self.buffer.destroy() };
        let mut free = inner.staging.borrow_mut();
        if self.reusable && free.len() < MOST_STAGING && self.buffer.size() <= LARGEST_STAGING {
            free.push(self.buffer.clone());
        } else {
            inner.pool.ledger.passing(-(self.buffer.size() as i64));
            self.buffer.destroy();
        }
    }
}

#[derive(Default)]
struct Slot {
    result: Option<Result<(), String>>,
    waker: Option<Waker>,
}
