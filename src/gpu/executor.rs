//! A plan on a device: buffers, pipelines and bind groups made once, then one encoder, one
//! pass and one submit for a run, with nothing allocated.

use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};
use half::f16;
use web_time::Instant;
use wgpu::util::DeviceExt;

use super::{Gpu, Startup};
use crate::{
    Error, Result, Tensor,
    kernels::Launch,
    plan::{Operand, Plan, Tap, Value},
    tensor::{Element, layout},
};

/// Where uniform parameters may begin.
const PARAMS_ALIGNMENT: u64 = 256;

/// A plan, ready to run.
pub struct Executor {
    pub(super) gpu: Gpu,
    pub(super) dispatches: Vec<Dispatch>,
    slots: Vec<wgpu::Buffer>,
    input: Value,
    output: Value,
    taps: Vec<Tap>,
    /// What maps are stored as.
    element: Element,
    /// Mapped between runs.
    upload: wgpu::Buffer,
    /// Mapped within a run only.
    readback: wgpu::Buffer,
    /// The picture as the device has it, and where it becomes f16.
    staging: Vec<f32>,
    halves: Vec<f16>,
    startup: Startup,
    /// False once a run has failed half-way: the buffers' state is unknown.
    sound: bool,
}

pub(super) struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    workgroups: [u32; 3],
}

impl Dispatch {
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        let [x, y, z] = self.workgroups;
        pass.dispatch_workgroups(x, y, z);
    }
}

impl Executor {
    /// Makes everything that `plan` needs. `progress` hears of each pipeline
    /// that has to be compiled: done, of how many.
    ///
    /// # Errors
    /// [`Error::Device`] naming the kernel that the device refused, or if memory ran out;
    /// [`Error::NoF16`] if the plan is for f16 and the device has none.
    pub async fn new(gpu: &Gpu, plan: &Plan, mut progress: impl FnMut(usize, usize)) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        let element = plan.element;
        gpu.supports(element)?;
        let device = gpu.device();
        let begun = Instant::now();
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let slots: Vec<wgpu::Buffer> = plan
            .slots
            .iter()
            .map(|&size| buffer(gpu, "slot", size, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST))
            .collect();
        let mut room = Vec::new();
        let weights: Vec<wgpu::Buffer> = plan
            .weights
            .iter()
            .map(|packed| filled(gpu, "weights", packed.element.encode(&packed.values, &mut room)))
            .collect();
        let params = params_buffer(gpu, plan.steps.iter().map(|step| &step.launch));
        let upload = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("upload"),
            size: plan.input.shape.device_bytes(element),
            usage: Usage::MAP_WRITE | Usage::COPY_SRC,
            mapped_at_creation: true,
        });
        let answer = plan.output.shape.device_bytes(element);
        let readback = buffer(gpu, "readback", answer, Usage::MAP_READ | Usage::COPY_DST);
        let (validation, memory) = (validation.pop(), memory.pop());
        if let Some(error) = validation.await.or(memory.await) {
            return Err(Error::Device(super::one_line(&error)));
        }

        let filled = begun.elapsed();

        let launches: Vec<&Launch> = plan.steps.iter().map(|step| &step.launch).collect();
        let (pipelines, compiled) = gpu.pipelines(&launches, element, &mut progress).await?;
        let mut dispatches = Vec::with_capacity(plan.steps.len());
        for ((i, step), pipeline) in plan.steps.iter().enumerate().zip(pipelines) {
            let mut buffers: Vec<&wgpu::Buffer> = step
                .reads
                .iter()
                .map(|read| match *read {
                    Operand::Slot(slot) => &slots[slot.index()],
                    Operand::Weights(at) => &weights[at],
                })
                .collect();
            buffers.extend(step.writes.iter().map(|slot| &slots[slot.index()]));
            let bindings = gpu.bind_group(&pipeline, params_binding(&params, i, &step.launch), &buffers);
            dispatches.push(Dispatch { pipeline, bindings, workgroups: step.launch.workgroups });
        }
        gpu.trouble.check()?;
        Ok(Self {
            gpu: gpu.clone(),
            dispatches,
            slots,
            input: plan.input,
            output: plan.output,
            taps: plan.taps.clone(),
            element,
            upload,
            readback,
            staging: vec![0.0; layout::len(plan.input.shape)],
            halves: Vec::new(),
            startup: Startup { upload: filled, ..compiled },
            sound: true,
        })
    }

    /// How long it took to make.
    pub fn startup(&self) -> Startup {
        self.startup
    }

    /// Records every dispatch, as one compute pass.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for dispatch in &self.dispatches {
            dispatch.record(&mut pass);
        }
    }

    /// Runs once: NCHW in, NCHW out.
    ///
    /// # Errors
    /// [`Error::Input`] if `input` is not of the planned shape, [`Error::Device`] if the device
    /// was lost or refused the work; the executor is then of no more use.
    pub fn run(&mut self, input: &Tensor) -> Result<Tensor> {
        let mapped = self.submit(input)?;
        self.gpu.wait()?;
        pollster::block_on(self.collect(mapped))
    }

    /// [`Executor::run`] for where nothing may block: something else has to poll the device,
    /// as a browser does.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub async fn run_async(&mut self, input: &Tensor) -> Result<Tensor> {
        let mapped = self.submit(input)?;
        self.collect(mapped).await
    }

    /// Uploads, records and submits; both staging buffers are being mapped when it returns.
    fn submit(&mut self, input: &Tensor) -> Result<[Mapped; 2]> {
        if input.shape()? != self.input.shape {
            return Err(Error::Input(format!(
                "has the shape {}, planned was {}",
                input.shape()?,
                self.input.shape
            )));
        }
        if let Some(value) = self.element.overflow(input.data()) {
            return Err(Error::Input(format!("{value:e} is beyond what {} holds", self.element)));
        }
        self.gpu.trouble.check()?;
        if !std::mem::replace(&mut self.sound, false) {
            return Err(Error::Device("an earlier run failed; build the session again".into()));
        }
        layout::to_device(input, self.input.shape, &mut self.staging);
        self.upload
            .get_mapped_range_mut(..)
            .map_err(|e| Error::Device(super::one_line(&e)))?
            .copy_from_slice(self.element.encode(&self.staging, &mut self.halves));
        self.upload.unmap();

        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let (upload, readback) = (&self.upload, &self.readback);
        encoder.copy_buffer_to_buffer(upload, 0, &self.slots[self.input.slot.index()], 0, upload.size());
        self.encode(&mut encoder);
        let answer = &self.slots[self.output.slot.index()];
        encoder.copy_buffer_to_buffer(answer, 0, readback, 0, readback.size());
        let mapped =
            [map(&encoder, readback, wgpu::MapMode::Read), map(&encoder, upload, wgpu::MapMode::Write)];
        self.gpu.queue.submit([encoder.finish()]);
        Ok(mapped)
    }

    /// Waits for the answer and for the upload buffer.
    async fn collect(&mut self, mapped: [Mapped; 2]) -> Result<Tensor> {
        for receiver in mapped {
            self.gpu.arrived(receiver).await?;
        }
        let answer = {
            let view = self.readback.get_mapped_range(..).map_err(|e| Error::Device(super::one_line(&e)))?;
            layout::from_device(self.output.shape, &self.element.decode(&view))
        };
        self.readback.unmap();
        self.sound = true;
        Ok(answer)
    }

    /// Every layer's output in the last run, by module name: empty unless planned with taps.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn taps(&self) -> Result<Vec<(String, Tensor)>> {
        self.taps
            .iter()
            .map(|Tap { module, value, dims }| {
                let slot = &self.slots[value.slot.index()];
                let values = read_values(&self.gpu, slot, layout::len(value.shape), self.element)?;
                let tensor = layout::from_device(value.shape, &values);
                Ok((module.clone(), Tensor::new(dims.clone(), tensor.into_data())?))
            })
            .collect()
    }
}

impl Gpu {
    /// Blocks until the device has done what was submitted.
    fn wait(&self) -> Result<()> {
        let polled = self.device.poll(wgpu::PollType::wait_indefinitely());
        polled.map(|_| ()).map_err(|e| Error::Device(super::one_line(&e)))
    }

    /// Waits until a buffer is mapped.
    async fn arrived(&self, mapped: Mapped) -> Result<()> {
        let outcome = mapped.receive().await;
        self.trouble.check()?;
        match outcome {
            Some(Ok(())) => Ok(()),
            Some(Err(e)) => Err(Error::Device(super::one_line(&e))),
            None => Err(Error::Device("the device was lost".into())),
        }
    }

    /// Runs one kernel by itself over maps and weights of `element`, on `reads` in the device's
    /// layout, and gives what it writes, as many values each as `lens` say: what trust checks and
    /// tests are made of.
    ///
    /// # Errors
    /// [`Error::Device`] if the device refused the kernel or was lost, [`Error::NoF16`] if it has
    /// no such element.
    pub fn dispatch(
        &self,
        launch: &Launch,
        element: Element,
        reads: &[&[f32]],
        lens: &[usize],
    ) -> Result<Vec<Vec<f32>>> {
        self.supports(element)?;
        let pipeline = pollster::block_on(self.pipeline(launch, element))?;
        let params = params_buffer(self, [launch]);
        let stored = |name: &&str| launch.shader.stored(name, element);
        let mut room = Vec::new();
        let mut put =
            |element: Element, values: &[f32]| filled(self, "map", element.encode(values, &mut room));
        let mut buffers: Vec<wgpu::Buffer> =
            reads.iter().zip(launch.shader.reads).map(|(values, name)| put(stored(name), values)).collect();
        // NaN where the kernel forgets to write.
        let written = lens.iter().zip(launch.shader.writes);
        buffers.extend(written.clone().map(|(&len, name)| put(stored(name), &vec![f32::NAN; len])));
        let buffers: Vec<&wgpu::Buffer> = buffers.iter().collect();
        let bindings = self.bind_group(&pipeline, params_binding(&params, 0, launch), &buffers);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            Dispatch { pipeline, bindings, workgroups: launch.workgroups }.record(&mut pass);
        }
        self.queue.submit([encoder.finish()]);
        let buffers = buffers[reads.len()..].iter();
        buffers
            .zip(written)
            .map(|(buffer, (&len, name))| read_values(self, buffer, len, stored(name)))
            .collect()
    }
}

/// Hears when a buffer is mapped; nothing comes if the device is lost first.
type Mapped = OneshotReceiver<Result<(), wgpu::BufferAsyncError>>;

fn map(encoder: &wgpu::CommandEncoder, buffer: &wgpu::Buffer, mode: wgpu::MapMode) -> Mapped {
    let (sender, receiver) = oneshot_channel();
    encoder.map_buffer_on_submit(buffer, mode, .., move |outcome| {
        let _ = sender.send(outcome);
    });
    receiver
}

/// Copies the first `len` values of a buffer back.
fn read_values(gpu: &Gpu, source: &wgpu::Buffer, len: usize, element: Element) -> Result<Vec<f32>> {
    let size = (element.bytes() * len) as u64;
    Ok(match element {
        Element::F32 => read(gpu, source, size)?,
        Element::F16 => read::<f16>(gpu, source, size)?.into_iter().map(f16::to_f32).collect(),
    })
}

/// Copies the first `size` bytes of a buffer back, waiting for the device.
pub(super) fn read<T: bytemuck::AnyBitPattern>(
    gpu: &Gpu,
    source: &wgpu::Buffer,
    size: u64,
) -> Result<Vec<T>> {
    let staging = buffer(gpu, "readback", size, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(source, 0, &staging, 0, size);
    let mapped = map(&encoder, &staging, wgpu::MapMode::Read);
    gpu.queue.submit([encoder.finish()]);
    gpu.wait()?;
    pollster::block_on(gpu.arrived(mapped))?;
    let view = staging.get_mapped_range(..).map_err(|e| Error::Device(super::one_line(&e)))?;
    Ok(bytemuck::cast_slice(&view).to_vec())
}

pub(super) fn buffer(gpu: &Gpu, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size,
        usage,
        mapped_at_creation: false,
    })
}

fn filled(gpu: &Gpu, label: &str, contents: &[u8]) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: Some(label), contents, usage })
}

/// The parameters of all launches in one buffer.
fn params_buffer<'a>(gpu: &Gpu, launches: impl IntoIterator<Item = &'a Launch>) -> wgpu::Buffer {
    let mut contents = Vec::new();
    for launch in launches {
        let mut params = launch.params_bytes();
        params.resize(PARAMS_ALIGNMENT as usize, 0);
        contents.extend(params);
    }
    gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: Some("params"),
        contents: &contents,
        usage: wgpu::BufferUsages::UNIFORM,
    })
}

fn params_binding<'a>(params: &'a wgpu::Buffer, at: usize, launch: &Launch) -> wgpu::BindingResource<'a> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: params,
        offset: at as u64 * PARAMS_ALIGNMENT,
        size: wgpu::BufferSize::new(launch.params_bytes().len() as u64),
    })
}
