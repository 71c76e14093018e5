//! Error scopes: device errors are returned to the caller and never reach the program's handlers.

use super::{Gpu, one_line};
use crate::{Error, Result};

impl Gpu {
    /// Runs `make` on the device within error scopes. `what` names its result in errors.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has no memory left, [`Error::Lost`] if it is lost,
    /// [`Error::Device`] for other errors.
    pub(super) async fn guarded<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T> {
        let [internal, memory, validation] = self.scopes();
        let made = make();
        // Pop all scopes off the device's stack before the first await.
        let (validation, memory, internal) = (validation.pop(), memory.pop(), internal.pop());
        let refused = [validation.await, memory.await, internal.await];
        match refused.into_iter().flatten().next() {
            None => Ok(made),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(Error::Memory(what.into())),
            Some(_) if self.is_lost() => Err(self.lost()),
            Some(error) => Err(Error::Device(format!("{what}: {}", one_line(&error)))),
        }
    }

    /// [`Gpu::guarded`] where awaiting is not possible. In browsers, errors show only when the result
    /// is used.
    ///
    /// # Errors
    /// As [`Gpu::guarded`].
    pub(super) fn guarded_now<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T> {
        #[cfg(not(target_arch = "wasm32"))]
        return pollster::block_on(self.guarded(what, make));
        #[cfg(target_arch = "wasm32")]
        {
            let _ = what;
            let scopes = self.scopes();
            let made = make();
            scopes.into_iter().rev().for_each(drop);
            Ok(made)
        }
    }

    /// Pushes a scope for every kind of error, outermost first.
    fn scopes(&self) -> [wgpu::ErrorScopeGuard; 3] {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        [Internal, OutOfMemory, Validation].map(|filter| self.device.push_error_scope(filter))
    }

    /// Allocates a buffer of `size` bytes.
    ///
    /// # Errors
    /// As [`Gpu::guarded`].
    pub(super) async fn allocate(
        &self,
        label: &str,
        size: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer> {
        self.guarded(label, || super::transfer::buffer(self, label, size, usage)).await
    }

    /// Allocates a buffer with `contents`, padded to whole words.
    ///
    /// # Errors
    /// As [`Gpu::guarded`].
    pub(super) async fn filled(
        &self,
        label: &str,
        contents: &[u8],
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer> {
        let descriptor = wgpu::BufferDescriptor {
            label: Some(label),
            size: (contents.len() as u64).next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT),
            usage,
            mapped_at_creation: true,
        };
        let buffer = self.guarded(label, || self.device.create_buffer(&descriptor)).await?;
        // A lost device still creates buffers, without an error until one is used.
        let mut view = buffer.get_mapped_range_mut(..).map_err(|_| self.lost())?;
        view.slice(..contents.len()).copy_from_slice(contents);
        drop(view);
        buffer.unmap();
        Ok(buffer)
    }

    /// Returns whether the device is lost: it then creates buffers that cannot be mapped.
    pub(super) fn is_lost(&self) -> bool {
        let scopes = self.scopes();
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("probe"),
            size: wgpu::COPY_BUFFER_ALIGNMENT,
            usage: wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        });
        scopes.into_iter().rev().for_each(drop);
        buffer.get_mapped_range(..).is_err()
    }

    /// The error for a failed operation: the device's loss, if it is lost.
    pub(super) fn unusable(&self, error: &dyn std::error::Error) -> Error {
        if self.is_lost() { self.lost() } else { Error::Device(one_line(error)) }
    }

    /// The error for a lost device.
    pub(super) fn lost(&self) -> Error {
        Error::Lost(self.adapter().to_string())
    }
}
