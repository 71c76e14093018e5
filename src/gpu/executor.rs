//! A plan on a device. Buffers, pipelines and bind groups are created once; a run takes one encoder, one
//! pass and one submission. A run allocates only if more runs are in flight than ever before.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use half::f16;
use web_time::Instant;

use super::{
    Gpu, Pace, Startup,
    profile::Clock,
    transfer::{Mapped, Pending, StagingPair, read_async},
};
use crate::{
    Error, Result, Tensor,
    kernels::{LEAST_BINDING, Launch},
    plan::{Operand, Packed, Plan, Tap, Value},
    tensor::{Element, layout},
};

/// The alignment of uniform parameters in bytes.
const PARAMS_ALIGNMENT: u64 = 256;

/// A plan, ready to run.
pub struct Executor {
    pub(super) gpu: Gpu,
    pub(super) dispatches: Vec<Dispatch>,
    pub(super) slots: Vec<wgpu::Buffer>,
    /// The size in bytes of all weights, which the bind groups keep alive.
    weight_bytes: u64,
    pub(super) flag: Flag,
    pub(super) input: Value,
    /// True if the plan quantises the picture to int8.
    quantises: bool,
    pub(super) outputs: Vec<Value>,
    taps: Vec<Tap>,
    /// The element type of maps.
    pub(super) element: Element,
    /// The clock of recorded inferences, if the device has one; created for the first recording.
    pub(super) clock: OnceLock<Option<Clock>>,
    /// Idle staging buffers. The number of pairs, idle and in use, is the largest number of inferences that
    /// were in flight together.
    idle: Vec<StagingPair>,
    /// The picture in device layout, and scratch for its conversion to f16.
    picture: Vec<f32>,
    halves: Vec<f16>,
    startup: Startup,
    /// The size of the picture recorded last.
    pub(super) recorded: Recorded,
    /// Identifies the executor.
    pub(super) identity: Arc<()>,
    /// True once a run has failed half-way: the buffers' state is unknown.
    failed: bool,
}

/// The overflow flag: a word in which each step may raise an alarm.
#[derive(Clone)]
pub(super) struct Flag {
    pub buffer: wgpu::Buffer,
    /// The names of all steps, the last first. The word holds the highest alarm: 0 for none, 1 for the first
    /// of these names.
    layers: Arc<[String]>,
    element: Element,
}

impl Flag {
    /// The size of the word in bytes.
    pub const BYTES: u64 = 4;

    async fn new(gpu: &Gpu, plan: &Plan) -> Result<Self> {
        let layers = plan.steps.iter().rev().map(|step| step.name().to_string());
        Ok(Self { buffer: Self::buffer(gpu).await?, layers: layers.collect(), element: plan.element })
    }

    pub(super) async fn buffer(gpu: &Gpu) -> Result<wgpu::Buffer> {
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST;
        gpu.allocate("the overflow flag", LEAST_BINDING, usage).await
    }

    /// Records clearing the flag.
    pub fn lower(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.clear_buffer(&self.buffer, 0, None);
    }

    /// Returns an error if the flag, copied to `bytes`, holds an alarm.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        let alarm: u32 = bytemuck::pod_read_unaligned(&bytes[..Self::BYTES as usize]);
        match self.layers.get((alarm as usize).wrapping_sub(1)) {
            Some(layer) => Err(Error::Overflow { layer: layer.clone(), element: self.element }),
            None => Ok(()),
        }
    }
}

/// The size of the picture of the inference recorded last. It is atomic, because recording only has a shared
/// reference to the executor.
pub(super) struct Recorded(AtomicU64);

impl Recorded {
    fn new(size: [usize; 2]) -> Self {
        Self(AtomicU64::new(Self::pack(size)))
    }

    fn pack([rows, columns]: [usize; 2]) -> u64 {
        (rows as u64) << 32 | columns as u64
    }

    pub fn store(&self, size: [usize; 2]) {
        self.0.store(Self::pack(size), Ordering::Relaxed);
    }

    /// Rows and columns.
    pub fn load(&self) -> [usize; 2] {
        let size = self.0.load(Ordering::Relaxed);
        [(size >> 32) as usize, (size & u64::from(u32::MAX)) as usize]
    }
}

pub(super) struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    workgroups: [u32; 3],
}

impl Dispatch {
    /// Creates a dispatch of `launch`, whose parameters are the `at`-th of `params`. `buffers` are its
    /// inputs, its outputs, and the flag if it checks for overflow.
    ///
    /// # Errors
    /// As [`Gpu::guarded`].
    pub(super) async fn new(
        gpu: &Gpu,
        launch: &Launch,
        pipeline: wgpu::ComputePipeline,
        (params, at): (&wgpu::Buffer, usize),
        buffers: &[&wgpu::Buffer],
        textures: &[&wgpu::TextureView],
    ) -> Result<Self> {
        let params = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: params,
            offset: at as u64 * PARAMS_ALIGNMENT,
            size: wgpu::BufferSize::new(launch.params_bytes().len() as u64),
        });
        let bind = || gpu.bind_group(&pipeline, params, buffers, textures);
        let bindings = gpu.guarded(launch.shader.name, bind).await?;
        Ok(Self { pipeline, bindings, workgroups: launch.workgroups })
    }

    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        let [x, y, z] = self.workgroups;
        pass.dispatch_workgroups(x, y, z);
    }
}

impl Executor {
    /// [`Executor::build`] with [`Pace::Blocking`].
    ///
    /// # Errors
    /// As [`Executor::build`].
    pub async fn new(gpu: &Gpu, plan: &Plan, progress: impl FnMut(usize, usize)) -> Result<Self> {
        Self::build(gpu, plan, Pace::Blocking, progress).await
    }

    /// Creates everything that `plan` needs, at this pace. `progress` gets the number of compiled
    /// pipelines and their total.
    ///
    /// # Errors
    /// [`Error::Device`] naming the kernel that the device rejected, [`Error::Memory`] if the device has no
    /// memory left, [`Error::DeviceLimit`] if a program's own device was opened with too low limits,
    /// [`Error::NoF16`] if the plan is for f16 and the device does not support it.
    pub async fn build(
        gpu: &Gpu,
        plan: &Plan,
        pace: Pace,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        let element = plan.element;
        gpu.supports(element)?;
        let begun = Instant::now();
        let mut slots = Vec::with_capacity(plan.slots.len());
        for &size in &plan.slots {
            slots.push(
                gpu.allocate("the feature maps", size, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)
                    .await?,
            );
        }
        let mut room = Vec::new();
        let mut weights = Vec::with_capacity(plan.weights.len());
        for packed in &plan.weights {
            let bytes = match packed {
                Packed::Values(values, element) => element.encode(values, &mut room),
                Packed::Words(words) => bytemuck::cast_slice(words),
            };
            weights.push(gpu.filled("weights", bytes, Usage::STORAGE | Usage::COPY_SRC).await?);
            pace.yield_now().await;
        }
        let launches: Vec<&Launch> = plan.steps.iter().map(|step| &step.launch).collect();
        let params = params_buffer(gpu, launches.iter().copied()).await?;
        let outputs: Vec<Value> = plan.outputs.iter().map(|output| output.value).collect();
        let flag = Flag::new(gpu, plan).await?;
        let output_bytes: u64 = outputs.iter().map(Value::bytes).sum();
        let pair = StagingPair::new(gpu, plan.input.bytes(), output_bytes + Flag::BYTES)?;
        let filled = begun.elapsed();

        let (pipelines, compiled) = gpu.pipelines(&launches, element, pace, &mut progress).await?;
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
            buffers.extend(step.launch.shader.flag().map(|_| &flag.buffer));
            let dispatch = Dispatch::new(gpu, &step.launch, pipeline, (&params, i), &buffers, &[]);
            dispatches.push(dispatch.await?);
            pace.yield_now().await;
        }
        gpu.trouble.check()?;
        Ok(Self {
            gpu: gpu.clone(),
            dispatches,
            slots,
            weight_bytes: weights.iter().map(wgpu::Buffer::size).sum(),
            flag,
            input: plan.input,
            quantises: plan.quantises,
            outputs,
            taps: plan.taps.clone(),
            element,
            clock: OnceLock::new(),
            idle: vec![pair],
            picture: vec![0.0; layout::len(plan.input.shape)],
            halves: Vec::new(),
            startup: Startup { upload: filled, ..compiled },
            recorded: Recorded::new([plan.input.shape.h, plan.input.shape.w]),
            identity: Arc::new(()),
            failed: false,
        })
    }

    /// The size of all weights on the device in bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Returns whether the device has timestamps.
    pub fn has_timestamps(&self) -> bool {
        self.gpu.has_timestamps()
    }

    /// Returns whether no inference is in flight.
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.identity) == 1
    }

    /// The time that building it took.
    pub fn startup(&self) -> Startup {
        self.startup
    }

    /// Records every dispatch, as one compute pass.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        self.flag.lower(encoder);
        self.recorded.store([self.input.shape.h, self.input.shape.w]);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for dispatch in &self.dispatches {
            dispatch.record(&mut pass);
        }
    }

    /// Runs once: NCHW in, the plan's outputs in NCHW out.
    ///
    /// # Errors
    /// [`Error::Overflow`] if a value inside the network overflows, [`Error::Input`] if `input` does not have
    /// the planned shape; [`Error::Lost`] if the device was lost and [`Error::Device`] if it rejected the
    /// work: the executor is then unusable.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
        pollster::block_on(self.run_async(input))
    }

    /// [`Executor::run`] where blocking is not possible, as in browsers. Elsewhere it blocks.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub async fn run_async(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
        let pending = self.submit(input)?;
        self.collect_yielding(pending).await
    }

    /// Submits an input without waiting, so that the next can be prepared meanwhile. Allocates staging
    /// buffers if none are idle.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn submit(&mut self, input: &Tensor) -> Result<Pending> {
        if input.shape()? != self.input.shape {
            return Err(Error::Input(format!(
                "the input has the shape {}, expected {}",
                input.shape()?,
                self.input.shape
            )));
        }
        if self.quantises {
            input.quantisable()?;
        }
        if let Some(value) = self.element.overflow(input.data()) {
            return Err(Error::Input(format!(
                "the input's value {value:e} overflows {}: use f32",
                self.element
            )));
        }
        self.ready()?;
        let outcome = self.send(input);
        self.failed = outcome.is_err();
        outcome
    }

    /// Returns an error if the device was lost, or if a run failed half-way.
    pub(super) fn ready(&self) -> Result<()> {
        self.gpu.trouble.check()?;
        match self.failed {
            true if self.gpu.is_lost() => Err(self.gpu.lost()),
            true => Err(Error::Device("an earlier run failed; build the session again".into())),
            false => Ok(()),
        }
    }

    /// The buffer of a value.
    pub fn slot(&self, value: Value) -> &wgpu::Buffer {
        &self.slots[value.slot.index()]
    }

    /// Uploads, records and submits.
    fn send(&mut self, input: &Tensor) -> Result<Pending> {
        let pair = match self.idle.pop() {
            Some(pair) => pair,
            None => StagingPair::new(&self.gpu, self.input.bytes(), self.output_bytes() + Flag::BYTES)?,
        };
        layout::to_device(input, self.input.shape, &mut self.picture);
        let StagingPair { upload, readback } = &pair;
        upload
            .get_mapped_range_mut(..)
            .map_err(|e| self.gpu.unusable(&e))?
            .copy_from_slice(self.element.encode(&self.picture, &mut self.halves));
        upload.unmap();

        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(upload, 0, &self.slots[self.input.slot.index()], 0, upload.size());
        self.encode(&mut encoder);
        self.copy_outputs(&mut encoder, readback);
        let mapped = pair.map(&encoder);
        let submission = self.gpu.queue.submit([encoder.finish()]);
        Ok(Pending { owner: self.identity.clone(), pair, mapped, submission })
    }

    /// The size of all outputs in bytes.
    pub(super) fn output_bytes(&self) -> u64 {
        self.outputs.iter().map(Value::bytes).sum()
    }

    /// The buffer of the overflow flag: its first word is zero unless the latest inference overflowed.
    pub fn overflow_flag(&self) -> &wgpu::Buffer {
        &self.flag.buffer
    }

    /// Records copying the latest outputs to a staging buffer, one after another, and the flag after them.
    pub(super) fn copy_outputs(&self, encoder: &mut wgpu::CommandEncoder, staging: &wgpu::Buffer) {
        let mut at = 0;
        for &output in &self.outputs {
            encoder.copy_buffer_to_buffer(self.slot(output), 0, staging, at, output.bytes());
            at += output.bytes();
        }
        encoder.copy_buffer_to_buffer(&self.flag.buffer, 0, staging, at, Flag::BYTES);
    }

    /// Waits for the outputs of an inference that [`Executor::submit`] started. Inferences may be collected
    /// in any order.
    ///
    /// # Errors
    /// [`Error::Overflow`] as for [`Executor::run`]; [`Error::Lost`] if the device was lost: the executor is
    /// then unusable.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn collect(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        pollster::block_on(self.collect_yielding(pending))
    }

    /// [`Executor::collect`] where blocking is not possible, as in browsers. Elsewhere it blocks.
    pub(crate) async fn collect_yielding(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        self.owns(&pending)?;
        let done = self.gpu.finished(pending.submission.clone()).await;
        self.failed |= done.is_err();
        done?;
        self.collect_async(pending).await
    }

    /// [`Executor::collect`] that never blocks: something else has to poll the device, as browsers
    /// do.
    ///
    /// # Errors
    /// As [`Executor::collect`].
    pub async fn collect_async(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        self.owns(&pending)?;
        let Pending { pair, mapped, .. } = pending;
        let outputs = self.receive(&pair, mapped).await;
        match &outputs {
            Ok(_) | Err(Error::Overflow { .. }) => self.idle.push(pair),
            Err(_) => self.failed = true,
        }
        outputs
    }

    fn owns(&self, pending: &Pending) -> Result<()> {
        let own = Arc::ptr_eq(&self.identity, &pending.owner);
        if own { Ok(()) } else { Err(Error::Input("this inference is in flight for another session".into())) }
    }

    /// Waits until both buffers are mapped and reads the outputs.
    async fn receive(&self, pair: &StagingPair, mapped: [Mapped; 2]) -> Result<Vec<Tensor>> {
        for receiver in mapped {
            self.gpu.arrived(receiver).await?;
        }
        let view = pair.readback.get_mapped_range(..).map_err(|e| self.gpu.unusable(&e))?;
        let outputs = read_outputs(&view, &self.outputs, &self.flag);
        drop(view);
        pair.readback.unmap();
        outputs
    }

    /// Every layer's output in the last run, by module name; empty unless planned with taps.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device was lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn taps(&self) -> Result<Vec<(String, Tensor)>> {
        pollster::block_on(self.taps_async())
    }

    /// [`Executor::taps`] for browsers, where nothing may block. On native targets it blocks.
    ///
    /// # Errors
    /// As [`Executor::taps`].
    pub async fn taps_async(&self) -> Result<Vec<(String, Tensor)>> {
        let mut taps = Vec::new();
        for Tap { module, value, dims } in &self.taps {
            let slot = &self.slots[value.slot.index()];
            let words: Vec<u32> = read_async(&self.gpu, slot, value.bytes()).await?;
            let tensor = value.form.tensor(value.shape, bytemuck::cast_slice(&words));
            taps.push((module.clone(), Tensor::new(dims.clone(), tensor.into_data())?));
        }
        Ok(taps)
    }
}

/// Reads the outputs that [`Executor::copy_outputs`] copied, from a staging buffer's bytes.
pub(super) fn read_outputs(bytes: &[u8], outputs: &[Value], flag: &Flag) -> Result<Vec<Tensor>> {
    let mut rest = bytes;
    let tensor = |output: &Value| {
        let (own, others) = rest.split_at(output.bytes() as usize);
        rest = others;
        output.form.tensor(output.shape, own)
    };
    let tensors = outputs.iter().map(tensor).collect();
    flag.check(rest)?;
    Ok(tensors)
}

/// The parameters of all launches in one buffer.
pub(super) async fn params_buffer<'a>(
    gpu: &Gpu,
    launches: impl IntoIterator<Item = &'a Launch>,
) -> Result<wgpu::Buffer> {
    let mut contents = Vec::new();
    for launch in launches {
        let mut params = launch.params_bytes();
        params.resize(PARAMS_ALIGNMENT as usize, 0);
        contents.extend(params);
    }
    gpu.filled("params", &contents, wgpu::BufferUsages::UNIFORM).await
}
