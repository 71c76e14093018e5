//! The cost model's parameters of a device, and what all kernels' costs are made of. Times are in units of one
//! `vec4` multiply-add by every invocation of a full machine, so that they need no clock.

use std::ops::Add;

use serde::Serialize;

use crate::{Shape, graph::Conv, tensor::Element};

/// What meeting in workgroup memory costs an invocation.
pub(crate) const REDUCTION: f64 = 100.0;

/// What a barrier costs an invocation.
pub(crate) const BARRIER: f64 = 16.0;

/// Lanes of a device's subgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subgroup {
    /// The fewest that one may have, at least [`super::pointwise_subgroup::LEAST_LANES`].
    pub least: u32,
    /// The most, but no more than a workgroup has.
    pub most: u32,
}

/// What multiplies small matrices on a device, with f32 sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// Rows and columns of a matrix.
    pub side: u32,
    /// Lanes of a subgroup, all subgroups alike.
    pub lanes: u32,
}

/// The maker of a GPU, on whom its compiler and its subgroups depend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// GCN and RDNA.
    Amd,
    /// Turing and later.
    Nvidia,
    /// Gen9 and later.
    Intel,
    /// M1 and later.
    Apple,
    /// Qualcomm's.
    Adreno,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 5] = [Self::Amd, Self::Nvidia, Self::Intel, Self::Apple, Self::Adreno];

    /// Its name, as `inspect --family` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd => "amd",
            Self::Nvidia => "nvidia",
            Self::Intel => "intel",
            Self::Apple => "apple",
            Self::Adreno => "adreno",
        }
    }

    /// The family of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// By the vendor's number on the PCI bus.
    pub fn of_vendor(vendor: u32) -> Option<Self> {
        match vendor {
            0x1002 => Some(Self::Amd),
            0x10de => Some(Self::Nvidia),
            0x8086 => Some(Self::Intel),
            0x106b => Some(Self::Apple),
            0x5143 => Some(Self::Adreno),
            _ => None,
        }
    }

    /// The most `vec4` sums that an invocation keeps without spilling, and without subgroups of half the lanes.
    /// Sixteen, with their operands, are 120 registers. Found with the compilers themselves
    /// (`scripts/compilers`).
    fn sums(self) -> u32 {
        match self {
            Self::Amd | Self::Nvidia | Self::Adreno => 16,
            Self::Intel | Self::Apple => 8,
        }
    }

    /// Lanes that its subgroups have, no more than a workgroup's.
    fn subgroup(self) -> Subgroup {
        let [least, most] = match self {
            Self::Amd => [32, 64],
            Self::Nvidia | Self::Apple => [32, 32],
            Self::Intel => [8, 32],
            Self::Adreno => [64, 64],
        };
        Subgroup { least, most }
    }
}

/// A device, as far as plans depend on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// Threads below which units of it idle.
    pub threads: usize,
    /// What a thread's `vec4` load costs it.
    pub load: f64,
    /// What it costs a thread to hand a `vec4` to the others of its subgroup.
    pub broadcast: f64,
    /// What a dispatch costs that waits for the one before it.
    pub launch: f64,
    /// Bytes that move in a unit of time.
    pub bandwidth: f64,
    /// `vec4` sums that a thread can keep in registers.
    pub sums: u32,
    /// The most bytes that a shader may bind as one storage buffer.
    pub max_binding: u64,
    /// The most bytes that one buffer may have.
    pub max_buffer: u64,
    /// Bytes of memory that a workgroup may have.
    pub workgroup_memory: u32,
    /// Threads that a workgroup may have.
    pub workgroup_threads: u32,
    /// Its subgroups, if kernels may use them.
    pub subgroup: Option<Subgroup>,
    /// Units that multiply matrices of its element, if it has any that compute right.
    pub matrices: Option<Units>,
    /// How many times as fast as threads they multiply and add.
    pub matrix_rate: f64,
    /// How many times as fast it multiplies and adds in f16 as in f32.
    pub half_rate: f64,
    /// What maps and weights are stored as on it.
    pub element: Element,
}

/// A step's compulsory bytes and multiply-adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Bytes that it must move: what it reads and what it writes, once each, as it is stored.
    pub bytes: u64,
    /// Multiply-adds, with those that tiles which overlap do again.
    pub macs: u64,
}

impl Add for Work {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, macs: self.macs + other.macs }
    }
}

impl Default for Machine {
    /// A GPU of middling size with WebGPU's default limits: some 10 to 60 TFLOP/s in f32, 0.4 to
    /// 4.8 TB/s, 3 to 5 us a launch.
    fn default() -> Self {
        Self {
            threads: 1 << 14,
            load: 4.0,
            // A warp moves a word a lane at a time, whether from memory or from a neighbour.
            broadcast: 4.0,
            launch: 800.0,
            bandwidth: 8000.0,
            sums: 16,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            workgroup_memory: 16_352,
            workgroup_threads: 256,
            subgroup: None,
            matrices: None,
            matrix_rate: 8.0,
            // Twice on some, but that is for the tuner to find: f16 sums cost accuracy.
            half_rate: 1.0,
            element: Element::F32,
        }
    }
}

impl Machine {
    /// A GPU of a family, with WebGPU's default limits and the family's subgroups.
    pub fn of(family: Family) -> Self {
        Self { subgroup: Some(family.subgroup()), ..Self::default().compiled_for(family) }
    }

    /// It, with tiles no larger than the family's compiler keeps in registers.
    pub fn compiled_for(self, family: Family) -> Self {
        Self { sums: family.sums(), ..self }
    }

    /// A graphics driver that computes on a few CPU cores: loads run lane by lane and a launch
    /// takes some 60 us. Measured on two cores through lavapipe.
    pub fn software() -> Self {
        Self {
            threads: 128,
            load: 32.0,
            broadcast: 2.0,
            matrix_rate: 0.25,
            half_rate: 0.5,
            launch: 5000.0,
            bandwidth: 120.0,
            ..Self::default()
        }
    }

    /// The time of one dispatch: `threads` threads that spend `thread` each, moving what `work` says.
    /// Whole rounds of the machine would be too coarse, idle units too dear to ignore.
    pub(crate) fn time(&self, thread: f64, threads: usize, work: Work) -> f64 {
        let rounds = (threads as f64 / self.threads as f64).max(1.0);
        (thread * rounds).max(work.bytes as f64 / self.bandwidth) + self.launch
    }

    /// Whether an invocation has registers for so many `vec4` values at once: two and a half times the sums of a
    /// product, beside which it holds operands and addresses. On M1 a block with 21 of them spilled, with 18 none.
    pub(crate) fn holds(&self, values: u32) -> bool {
        values <= self.sums * 5 / 2
    }

    /// Bytes of a map.
    pub(crate) fn bytes(&self, map: Shape) -> u64 {
        map.device_bytes(self.element)
    }

    /// Bytes of a convolution's weights.
    pub(crate) fn weights(&self, conv: &Conv) -> u64 {
        (self.element.bytes() * conv.weight.data().len()) as u64
    }

    /// Bytes of so many `vec4`s.
    pub(crate) fn quads(&self, count: u32) -> u32 {
        4 * self.element.bytes() as u32 * count
    }

    /// What a thread that keeps `pixels` x `quads` sums spends on four inputs.
    pub(crate) fn product(&self, pixels: u32, quads: u32) -> f64 {
        let (pixels, quads) = (f64::from(pixels), f64::from(quads));
        4.0 * pixels * quads + self.load * (pixels + 4.0 * quads)
    }

    /// What a thread spends on a depthwise window, with `run` neighbouring outputs whose
    /// windows span `span` pixels.
    pub(crate) fn window(&self, kernel: usize, span: usize, run: u32) -> f64 {
        let kernel = kernel as f64;
        kernel * (self.load * (span as f64 + kernel) + kernel * f64::from(run))
    }
}
