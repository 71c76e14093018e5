//! A plan on a device: buffers, pipelines and bind groups made once, then one encoder, one
//! pass and one submit for a run. Only more runs in flight than ever before allocate anything.

use std::sync::{Arc, OnceLock};

use half::f16;
use web_time::Instant;

use super::{
    Gpu, Pace, Startup,
    profile::Clock,
    transfer::{Lane, Mapped, Pending, read, read_values},
};
use crate::{
    Error, Result, Tensor,
    kernels::{LEAST_BINDING, Launch},
    plan::{Operand, Packed, Plan, Tap, Value},
    tensor::{Element, layout},
};

/// Where uniform parameters may begin.
const PARAMS_ALIGNMENT: u64 = 256;

/// A plan, ready to run.
pub struct Executor {
    pub(super) gpu: Gpu,
    pub(super) dispatches: Vec<Dispatch>,
    pub(super) slots: Vec<wgpu::Buffer>,
    /// Of all weights, which bind groups hold.
    weight_bytes: u64,
    pub(super) flag: Flag,
    pub(super) input: Value,
    /// Whether the picture is brought to 8 bits.
    quantises: bool,
    pub(super) outputs: Vec<Value>,
    taps: Vec<Tap>,
    /// What maps are stored as.
    pub(super) element: Element,
    /// Tells how long what was recorded took, where the device can; made for the first who records.
    pub(super) clock: OnceLock<Option<Clock>>,
    /// Staging buffers that no inference uses. There are as many lanes as were ever in flight.
    idle: Vec<Lane>,
    /// The picture as the device has it, and where it becomes f16.
    staging: Vec<f32>,
    halves: Vec<f16>,
    startup: Startup,
    /// What tells it from others.
    pub(super) identity: Arc<()>,
    /// True once a run has failed half-way: the buffers' state is unknown.
    failed: bool,
}

/// What tells of values that overflowed: a word in which each step may raise an alarm.
#[derive(Clone)]
pub(super) struct Flag {
    pub buffer: wgpu::Buffer,
    /// The step of each alarm, the last one's first.
    layers: Arc<[String]>,
    element: Element,
}

impl Flag {
    /// Bytes of the word.
    pub const BYTES: u64 = 4;

    async fn new(gpu: &Gpu, plan: &Plan) -> Result<Self> {
        let layers = plan.steps.iter().rev().map(|step| step.name().to_string());
        Ok(Self { buffer: Self::buffer(gpu).await?, layers: layers.collect(), element: plan.element })
    }

    async fn buffer(gpu: &Gpu) -> Result<wgpu::Buffer> {
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST;
        gpu.allocate("overflow", LEAST_BINDING, usage).await
    }

    /// Records that no alarm is raised yet.
    pub fn lower(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.clear_buffer(&self.buffer, 0, None);
    }

    /// Refuses what was computed while the word, copied to these bytes, says that something overflowed.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        let alarm: u32 = bytemuck::pod_read_unaligned(&bytes[..Self::BYTES as usize]);
        match self.layers.get((alarm as usize).wrapping_sub(1)) {
            Some(layer) => Err(Error::Overflow { layer: layer.clone(), element: self.element }),
            None => Ok(()),
        }
    }
}

pub(super) struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    workgroups: [u32; 3],
}

impl Dispatch {
    /// One of `launch`, whose parameters are the `at`-th of `params`, over buffers, what it reads, then what it
    /// writes, then the flag if it checks for overflow, and textures.
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
    /// [`Executor::build`] in one go.
    ///
    /// # Errors
    /// As [`Executor::build`].
    pub async fn new(gpu: &Gpu, plan: &Plan, progress: impl FnMut(usize, usize)) -> Result<Self> {
        Self::build(gpu, plan, Pace::AtOnce, progress).await
    }

    /// Makes everything that `plan` needs, at this pace. `progress` hears of each pipeline
    /// that has to be compiled: done, of how many.
    ///
    /// # Errors
    /// [`Error::Device`] naming the kernel that the device refused, [`Error::Memory`] if memory ran out,
    /// [`Error::HostLimit`] if a program's own device was opened with too little;
    /// [`Error::NoF16`] if the plan is for f16 and the device has none.
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
            slots.push(gpu.allocate("maps", size, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST).await?);
        }
        let mut room = Vec::new();
        let mut weights = Vec::with_capacity(plan.weights.len());
        for packed in &plan.weights {
            let bytes = match packed {
                Packed::Values(values, element) => element.encode(values, &mut room),
                Packed::Words(words) => bytemuck::cast_slice(words),
            };
            weights.push(gpu.filled("weights", bytes, Usage::STORAGE | Usage::COPY_SRC).await?);
            pace.breathe().await;
        }
        let launches: Vec<&Launch> = plan.steps.iter().map(|step| &step.launch).collect();
        let params = params_buffer(gpu, launches.iter().copied()).await?;
        let outputs: Vec<Value> = plan.outputs.iter().map(|output| output.value).collect();
        let flag = Flag::new(gpu, plan).await?;
        let answer: u64 = outputs.iter().map(Value::bytes).sum();
        let lane = Lane::new(gpu, plan.input.bytes(), answer + Flag::BYTES)?;
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
            pace.breathe().await;
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
            idle: vec![lane],
            staging: vec![0.0; layout::len(plan.input.shape)],
            halves: Vec::new(),
            startup: Startup { upload: filled, ..compiled },
            identity: Arc::new(()),
            failed: false,
        })
    }

    /// Bytes of all weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Whether the device has a clock that tells a step's time.
    pub fn has_timestamps(&self) -> bool {
        self.gpu.has_timestamps()
    }

    /// Whether no inference of it is in flight.
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.identity) == 1
    }

    /// How long it took to make.
    pub fn startup(&self) -> Startup {
        self.startup
    }

    /// Records every dispatch, as one compute pass.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        self.flag.lower(encoder);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for dispatch in &self.dispatches {
            dispatch.record(&mut pass);
        }
    }

    /// Runs once: NCHW in, the plan's outputs in NCHW out.
    ///
    /// # Errors
    /// [`Error::Overflow`] if a value inside the network is beyond what is stored, [`Error::Input`] if `input` is
    /// not of the planned shape, [`Error::Lost`] if the device
    /// was lost, [`Error::Device`] if it refused the work; the executor is then of no more use.
    pub fn run(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
        pollster::block_on(self.run_async(input))
    }

    /// [`Executor::run`] for where nothing may block. Elsewhere it blocks all the same.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub async fn run_async(&mut self, input: &Tensor) -> Result<Vec<Tensor>> {
        let pending = self.submit(input)?;
        self.answer(pending).await
    }

    /// Hands an input to the device and does not wait: while it computes, the next can be
    /// prepared. An inference that no other has made room for makes staging buffers of its own.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn submit(&mut self, input: &Tensor) -> Result<Pending> {
        if input.shape()? != self.input.shape {
            return Err(Error::Input(format!(
                "has the shape {}, planned was {}",
                input.shape()?,
                self.input.shape
            )));
        }
        if self.quantises {
            input.quantisable()?;
        }
        if let Some(value) = self.element.overflow(input.data()) {
            return Err(Error::Input(format!("{value:e} is beyond what {} holds", self.element)));
        }
        self.ready()?;
        let outcome = self.send(input);
        self.failed = outcome.is_err();
        outcome
    }

    /// Refuses a device that was lost, and buffers in which a run ended half-way.
    pub(super) fn ready(&self) -> Result<()> {
        self.gpu.trouble.check()?;
        match self.failed {
            true if self.gpu.is_lost() => Err(self.gpu.lost()),
            true => Err(Error::Device("an earlier run failed; build the session again".into())),
            false => Ok(()),
        }
    }

    /// The buffer that a value is in.
    pub fn slot(&self, value: Value) -> &wgpu::Buffer {
        &self.slots[value.slot.index()]
    }

    /// Uploads, records and submits.
    fn send(&mut self, input: &Tensor) -> Result<Pending> {
        let lane = match self.idle.pop() {
            Some(lane) => lane,
            None => Lane::new(&self.gpu, self.input.bytes(), self.answer_bytes() + Flag::BYTES)?,
        };
        layout::to_device(input, self.input.shape, &mut self.staging);
        let Lane { upload, readback } = &lane;
        upload
            .get_mapped_range_mut(..)
            .map_err(|e| self.gpu.unusable(&e))?
            .copy_from_slice(self.element.encode(&self.staging, &mut self.halves));
        upload.unmap();

        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(upload, 0, &self.slots[self.input.slot.index()], 0, upload.size());
        self.encode(&mut encoder);
        self.copy_answers(&mut encoder, readback);
        let mapped = lane.map(&encoder);
        let submission = self.gpu.queue.submit([encoder.finish()]);
        Ok(Pending { owner: self.identity.clone(), lane, mapped, submission })
    }

    /// Bytes of all parts of an answer.
    pub(super) fn answer_bytes(&self) -> u64 {
        self.outputs.iter().map(Value::bytes).sum()
    }

    /// Where the word is that tells whether the latest inference overflowed, from its first byte on: zero if not.
    pub fn overflow(&self) -> &wgpu::Buffer {
        &self.flag.buffer
    }

    /// Records that the parts of the latest answer are copied to a staging buffer, one behind another, and the
    /// flag behind them.
    pub(super) fn copy_answers(&self, encoder: &mut wgpu::CommandEncoder, staging: &wgpu::Buffer) {
        let mut at = 0;
        for &output in &self.outputs {
            encoder.copy_buffer_to_buffer(self.slot(output), 0, staging, at, output.bytes());
            at += output.bytes();
        }
        encoder.copy_buffer_to_buffer(&self.flag.buffer, 0, staging, at, Flag::BYTES);
    }

    /// Waits for the answer to what [`Executor::submit`] began. Answers may be collected in any
    /// order.
    ///
    /// # Errors
    /// [`Error::Overflow`] as of [`Executor::run`]; [`Error::Lost`] if the device was lost: the executor is then
    /// of no more use.
    pub fn collect(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        pollster::block_on(self.answer(pending))
    }

    /// [`Executor::collect`], which gives way in a browser alone. Elsewhere it blocks.
    pub(crate) async fn answer(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        self.owns(&pending)?;
        let done = self.gpu.finished(pending.submission.clone()).await;
        self.failed |= done.is_err();
        done?;
        self.collect_async(pending).await
    }

    /// [`Executor::collect`] for where nothing may block: something else has to poll the device,
    /// as a browser does.
    ///
    /// # Errors
    /// As [`Executor::collect`].
    pub async fn collect_async(&mut self, pending: Pending) -> Result<Vec<Tensor>> {
        self.owns(&pending)?;
        let Pending { lane, mapped, .. } = pending;
        let answer = self.receive(&lane, mapped).await;
        match &answer {
            Ok(_) | Err(Error::Overflow { .. }) => self.idle.push(lane),
            Err(_) => self.failed = true,
        }
        answer
    }

    fn owns(&self, pending: &Pending) -> Result<()> {
        let own = Arc::ptr_eq(&self.identity, &pending.owner);
        if own { Ok(()) } else { Err(Error::Input("is in flight for another session".into())) }
    }

    /// Waits for both buffers of the lane and reads the answers.
    async fn receive(&self, lane: &Lane, mapped: [Mapped; 2]) -> Result<Vec<Tensor>> {
        for receiver in mapped {
            self.gpu.arrived(receiver).await?;
        }
        let view = lane.readback.get_mapped_range(..).map_err(|e| self.gpu.unusable(&e))?;
        let answers = answers_in(&view, &self.outputs, &self.flag);
        drop(view);
        lane.readback.unmap();
        answers
    }

    /// Every layer's output in the last run, by module name: empty unless planned with taps.
    ///
    /// # Errors
    /// [`Error::Lost`] if the device was lost.
    pub fn taps(&self) -> Result<Vec<(String, Tensor)>> {
        self.taps
            .iter()
            .map(|Tap { module, value, dims }| {
                let slot = &self.slots[value.slot.index()];
                let words: Vec<u32> = read(&self.gpu, slot, value.bytes())?;
                let tensor = value.form.tensor(value.shape, bytemuck::cast_slice(&words));
                Ok((module.clone(), Tensor::new(dims.clone(), tensor.into_data())?))
            })
            .collect()
    }
}

/// What [`Executor::copy_answers`] left in a staging buffer, from its bytes.
pub(super) fn answers_in(bytes: &[u8], outputs: &[Value], flag: &Flag) -> Result<Vec<Tensor>> {
    let mut rest = bytes;
    let answer = |output: &Value| {
        let (own, others) = rest.split_at(output.bytes() as usize);
        rest = others;
        output.form.tensor(output.shape, own)
    };
    let answers = outputs.iter().map(answer).collect();
    flag.check(rest)?;
    Ok(answers)
}

impl Gpu {
    /// Runs one kernel by itself over maps and weights of `element`, on `reads` in the device's
    /// layout, and gives what it writes, as many values each as `lens` say: what trust checks and
    /// tests are made of.
    ///
    /// # Errors
    /// [`Error::Device`] if the device refused the kernel, [`Error::Lost`] if it was lost,
    /// [`Error::NoF16`] if it has no such element, [`Error::Overflow`] if a value overflows.
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
        // NaN where the kernel forgets to write.
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
