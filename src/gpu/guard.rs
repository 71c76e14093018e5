//! What a device has against something, told to whoever asked for it and to no handler of the program.

use super::{Gpu, one_line};
use crate::{Error, Result};

impl Gpu {
    /// Makes something on the device.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is none left for it, [`Error::Lost`] if the device is gone,
    /// [`Error::Device`] if the device refuses it otherwise.
    pub(super) async fn guarded<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T> {
        let [internal, memory, validation] = self.scopes();
        let made = make();
        // All are off the device's stack before anything is waited for.
        let (validation, memory, internal) = (validation.pop(), memory.pop(), internal.pop());
        let refused = [validation.await, memory.await, internal.await];
        match refused.into_iter().flatten().next() {
            None => Ok(made),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(Error::Memory(what.into())),
            Some(_) if self.is_lost() => Err(self.lost()),
            Some(error) => Err(Error::Device(format!("{what}: {}", one_line(&error)))),
        }
    }

    /// [`Gpu::guarded`] for where nothing can be awaited. In a browser what the device has against it
    /// shows when it is used.
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

    /// Scopes for all that can go wrong, each within those before.
    fn scopes(&self) -> [wgpu::ErrorScopeGuard; 3] {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        [Internal, OutOfMemory, Validation].map(|filter| self.device.push_error_scope(filter))
    }

    /// A buffer of `size` bytes.
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

    /// A buffer that holds `contents`, filled up to whole words.
    ///
    /// # Errors
    /// As [`Gpu::guarded`]; [`Error::Lost`] if the device is gone.
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
        // A lost device gives buffers, and says nothing until one is used.
        let mut view = buffer.get_mapped_range_mut(..).map_err(|_| self.lost())?;
        view.slice(..contents.len()).copy_from_slice(contents);
        drop(view);
        buffer.unmap();
        Ok(buffer)
    }

    /// Whether the device is gone: it then gives buffers that are none.
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

    /// What it means that something of the device cannot be used.
    pub(super) fn unusable(&self, error: &dyn std::error::Error) -> Error {
        if self.is_lost() { self.lost() } else { Error::Device(one_line(error)) }
    }

    /// The error of a device that is gone.
    pub(super) fn lost(&self) -> Error {
        Error::Lost(self.adapter().to_string())
    }
}
