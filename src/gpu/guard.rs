//! What a device has against something, told to whoever asked for it and to no handler of the program.

use super::{Gpu, one_line};
use crate::{Error, Result};

impl Gpu {
    /// Makes something on the device.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is none left for it, [`Error::Device`] if the device refuses it
    /// otherwise.
    pub(super) async fn guarded<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        let [internal, memory, validation] =
            [Internal, OutOfMemory, Validation].map(|filter| self.device.push_error_scope(filter));
        let made = make();
        // All are off the device's stack before anything is waited for.
        let (validation, memory, internal) = (validation.pop(), memory.pop(), internal.pop());
        let refused = [validation.await, memory.await, internal.await];
        match refused.into_iter().flatten().next() {
            None => Ok(made),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(Error::Memory(what.into())),
            Some(error) => Err(Error::Device(format!("{what}: {}", one_line(&error)))),
        }
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
}
