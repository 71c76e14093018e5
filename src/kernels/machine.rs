//! The cost model: what kernels say that an invocation does, and what that takes on a device. Times are in cycles of
//! one of its units: a SIMD, or whatever else runs a wave at a time.

use std::ops::{Add, Mul};

use serde::Serialize;

use super::{grid::LANES, rates::Rates};
use crate::{Shape, graph::Conv, tensor::Element};

/// The most turns of a loop that are loaded for at once: with more, addresses no longer fit into loads.
const MOST_AT_ONCE: u32 = 4;

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
    /// The subgroups that multiply them. Drivers need not say how large one of a kernel will be.
    pub subgroup: Subgroup,
}

impl Units {
    /// Threads of a workgroup: four subgroups of the fewest lanes, and whole ones of the most.
    pub(crate) fn threads(self) -> u32 {
        (4 * self.subgroup.least).max(self.subgroup.most)
    }
}

/// What an invocation does from its start to its end, in `vec4`s.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Effort {
    /// Times that it waits for a buffer: loads that need nothing of one another wait together.
    pub waits: f64,
    /// Loads from buffers and stores to them.
    pub loads: f64,
    /// Loads from workgroup memory and stores to it.
    pub shared: f64,
    /// Multiply-adds, and what else takes as long.
    pub macs: f64,
    /// Values that it hands to the others of its subgroup.
    pub broadcasts: f64,
    /// Barriers.
    pub barriers: f64,
}

impl Add for Effort {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            waits: self.waits + other.waits,
            loads: self.loads + other.loads,
            shared: self.shared + other.shared,
            macs: self.macs + other.macs,
            broadcasts: self.broadcasts + other.broadcasts,
            barriers: self.barriers + other.barriers,
        }
    }
}

impl Mul<f64> for Effort {
    type Output = Self;
    fn mul(self, times: f64) -> Self {
        Self {
            waits: self.waits * times,
            loads: self.loads * times,
            shared: self.shared * times,
            macs: self.macs * times,
            broadcasts: self.broadcasts * times,
            barriers: self.barriers * times,
        }
    }
}

impl Effort {
    /// So many loads and stores, for which it waits so many times.
    pub(crate) const fn of(waits: f64, loads: f64) -> Self {
        Self { waits, loads, shared: 0.0, macs: 0.0, broadcasts: 0.0, barriers: 0.0 }
    }
}

/// What a dispatch starts, as far as its time depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// Invocations.
    pub invocations: usize,
    /// `vec4` values that each keeps in registers at once.
    pub values: u32,
    /// Invocations of a workgroup.
    pub workgroup: u32,
    /// Bytes of workgroup memory that it has.
    pub memory: u32,
}

impl Crowd {
    /// Invocations that keep little, in workgroups without memory.
    pub(crate) const fn of(invocations: usize) -> Self {
        Self { invocations, values: 8, workgroup: LANES, memory: 0 }
    }
}

/// A device, as far as plans depend on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// What its parts take.
    pub rates: Rates,
    /// `vec4` sums that an invocation can keep in registers.
    pub sums: u32,
    /// The most bytes that a shader may bind as one storage buffer.
    pub max_binding: u64,
    /// The most bytes that one buffer may have.
    pub max_buffer: u64,
    /// Bytes of memory that a workgroup may have.
    pub workgroup_memory: u32,
    /// Invocations that a workgroup may have.
    pub workgroup_threads: u32,
    /// Its subgroups, if kernels may use them.
    pub subgroup: Option<Subgroup>,
    /// Units that multiply matrices of its element, if it has any that compute right.
    pub matrices: Option<Units>,
    /// How many times as fast as invocations they multiply and add.
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
    /// A GPU of middling size with WebGPU's default limits and no tier beyond the baseline.
    fn default() -> Self {
        Self {
            rates: Rates::MIDDLING,
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
    /// It with so many times fewer units, and as much less to move bytes with.
    pub(crate) fn smaller(self, times: f64) -> Self {
        let Rates { units, bandwidth, .. } = self.rates;
        Self { rates: Rates { units: units / times, bandwidth: bandwidth / times, ..self.rates }, ..self }
    }

    /// The time of one dispatch that moves what `work` says.
    ///
    /// A wave by itself takes as long as everything that it does, one after another. Others of its unit fill the time
    /// that it waits, as many as registers and workgroup memory leave room for; but then the unit's busiest part is
    /// what they wait for, or the device's memory. Whole rounds of the machine would be too coarse.
    pub(crate) fn time(&self, effort: Effort, crowd: Crowd, work: Work) -> f64 {
        let rates = &self.rates;
        let [macs, loads, shared] =
            [effort.macs * rates.mac, effort.loads * rates.load, effort.shared * rates.shared];
        let others = effort.broadcasts * rates.broadcast + effort.barriers * rates.barrier;
        let alone = effort.waits * rates.latency + macs + loads + shared + others;
        let busiest = macs.max(loads).max(shared);
        // A workgroup's last wave may be a part of one.
        let workgroups = crowd.invocations as f64 / f64::from(crowd.workgroup);
        let waves = workgroups * (f64::from(crowd.workgroup) / rates.lanes).ceil() / rates.units;
        let rounds = (waves / self.in_flight(crowd)).max(1.0);
        let time = (alone * rounds).max(busiest * waves);
        time.max(work.bytes as f64 / rates.bandwidth) + rates.launch
    }

    /// Waves that a unit has room for.
    fn in_flight(&self, crowd: Crowd) -> f64 {
        let rates = &self.rates;
        let by_registers = rates.registers / f64::from(crowd.values.max(1));
        let waves = (f64::from(crowd.workgroup) / rates.lanes).ceil();
        let by_memory = waves * rates.memory / f64::from(crowd.memory.max(1));
        by_registers.min(by_memory).clamp(1.0, rates.waves)
    }

    /// Invocations below which units of it idle.
    pub fn full(&self) -> usize {
        (self.rates.units * self.rates.lanes) as usize
    }

    /// Whether an invocation has registers for so many `vec4` values at once: two and a half times the sums of a
    /// product, beside which it holds operands and addresses. On M1 a block with 21 of them spilled, with 18 none.
    pub(crate) fn holds(&self, values: u32) -> bool {
        values <= self.sums * 5 / 2
    }

    /// How many turns of a loop are best loaded for at once, of which each loads so many values beside `kept` ones: of
    /// what there are registers for, what leaves the fewest waits. All invocations have the `fewest` turns and some
    /// `most`; those beyond whole groups wait one by one. On a driver that computes on the CPU, one.
    pub(crate) fn turns_at_once(&self, kept: u32, each: u32, [fewest, most]: [usize; 2]) -> u32 {
        let waits = |depth: u32| {
            let groups = fewest / depth as usize;
            groups + most - groups * depth as usize
        };
        let fits = |depth: &u32| self.holds(kept + depth * each);
        let depths = if self.on_cpu() { 1..=1 } else { 1..=MOST_AT_ONCE };
        depths.filter(fits).min_by_key(|&depth| waits(depth)).unwrap_or(1)
    }

    /// Whether its units multiply bytes as such.
    pub(crate) fn multiplies_bytes(&self) -> bool {
        self.rates.dot.is_finite()
    }

    /// Whether it computes on the CPU, where no load is waited for, and whose compiler unrolls less: Mesa's some eight
    /// hundred instructions.
    pub(crate) fn on_cpu(&self) -> bool {
        self.rates.latency == 0.0
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
}
