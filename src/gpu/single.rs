//! Runs single kernels, for trust checks and tests. It blocks, so browsers do not have it.

use half::f16;

use super::{
    Gpu,
    executor::{Dispatch, Flag, params_buffer},
    transfer::read,
};
use crate::{Error, Result, kernels::Launch, tensor::Element};

impl Gpu {
    /// Runs a single kernel, for trust checks and tests. Maps and weights are `element`, and `reads` are in
    /// device layout. Returns the kernel's outputs; `lens` are their numbers of values.
    ///
    /// # Errors
    /// [`Error::Device`] if the device rejected the kernel, [`Error::Lost`] if it was lost,
    /// [`Error::NoF16`] if it does not support f16, [`Error::Overflow`] if a value overflows.
    pub fn dispatch(
        &self,
        launch: &Launch,
        element: Element,
        reads: &[&[f32]],
        lens: &[usize],
    ) -> Result<Vec<Vec<f32>>> {
        self.dispatch_over(launch, element, reads, lens, &[])
    }

    /// [`Gpu::dispatch`] for a kernel that reads or writes textures.
    pub(super) fn dispatch_over(
        &self,
        launch: &Launch,
        element: Element,
        reads: &[&[f32]],
        lens: &[usize],
        textures: &[&wgpu::TextureView],
    ) -> Result<Vec<Vec<f32>>> {
        self.supports(element)?;
        let pipeline = pollster::block_on(self.pipeline(launch, element))?;
        let params = pollster::block_on(params_buffer(self, [launch]))?;
        let stored = |name: &&str| launch.shader.stored(name, element);
        let mut room = Vec::new();
        let mut put = |element: Element, values: &[f32]| {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
            pollster::block_on(self.filled("map", element.encode(values, &mut room), usage))
        };
        let mut buffers = Vec::new();
        for (values, name) in reads.iter().zip(launch.shader.reads) {
            buffers.push(put(stored(name), values)?);
        }
        // Outputs start as NaN, which shows values that the kernel does not write.
        let written = lens.iter().zip(launch.shader.writes);
        for (&len, name) in written.clone() {
            buffers.push(put(stored(name), &vec![f32::NAN; len])?);
        }
        let flag = launch.shader.flag().map(|_| pollster::block_on(Flag::buffer(self))).transpose()?;
        let buffers: Vec<&wgpu::Buffer> = buffers.iter().chain(&flag).collect();
        let dispatch = Dispatch::new(self, launch, pipeline, (&params, 0), &buffers, textures);
        let dispatch = pollster::block_on(dispatch)?;
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            dispatch.record(&mut pass);
        }
        self.queue.submit([encoder.finish()]);
        if let Some(flag) = &flag
            && read::<u32>(self, flag, Flag::BYTES)? != [0]
        {
            return Err(Error::Overflow { layer: launch.shader.name.into(), element });
        }
        let buffers = buffers[reads.len()..].iter();
        buffers
            .zip(written)
            .map(|(buffer, (&len, name))| read_values(self, buffer, len, stored(name)))
            .collect()
    }
}

/// Reads back the first `len` values of a buffer, waiting for the device.
fn read_values(gpu: &Gpu, source: &wgpu::Buffer, len: usize, element: Element) -> Result<Vec<f32>> {
    let size = (element.bytes() * len) as u64;
    Ok(match element {
        Element::F32 => read(gpu, source, size)?,
        Element::F16 => read::<f16>(gpu, source, size)?.into_iter().map(f16::to_f32).collect(),
    })
}
