//! The cost model: the effort of an invocation, as kernels describe it, and its time on a device, in cycles of a
//! unit: a SIMD, or anything else that executes one wave at a time.

use std::ops::{Add, Mul};

use serde::{Deserialize, Serialize};

use super::{grid::WORKGROUP_SIZE, rates::Rates};
use crate::{Shape, graph::Conv, tensor::Element};

/// The maximum number of iterations of a loop whose loads are in flight together: with more, constant offsets
/// no longer fit into load instructions.
const MOST_AT_ONCE: u32 = 4;

/// The sizes of a device's subgroups, in lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subgroup {
    /// The smallest, at least [`super::pointwise_subgroup::LEAST_LANES`].
    pub least: u32,
    /// The largest, no larger than a workgroup.
    pub most: u32,
}

/// The matrix units of a device, with f32 accumulators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixUnits {
    /// Rows and columns of a matrix.
    pub side: u32,
    /// The sizes of the subgroups that multiply matrices. Drivers need not report which of these sizes a
    /// kernel gets.
    pub subgroup: Subgroup,
}

impl MatrixUnits {
    /// Returns the workgroup size: four of the smallest subgroups, and at least one of the largest.
    pub(crate) fn workgroup_size(self) -> u32 {
        (4 * self.subgroup.least).max(self.subgroup.most)
    }
}

/// What an invocation does. Its loads, stores, multiply-adds and broadcasts are of `vec4`s.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Effort {
    /// Waits for loads from buffers. Independent loads wait together.
    pub waits: f64,
    /// Loads from buffers and stores to them.
    pub loads: f64,
    /// Loads from workgroup memory and stores to it.
    pub shared: f64,
    /// Multiply-adds, and operations that take as long.
    pub macs: f64,
    /// Broadcasts of a value to its subgroup.
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
    /// Returns the effort of `loads` loads and stores, with `waits` waits.
    pub(crate) const fn of(waits: f64, loads: f64) -> Self {
        Self { waits, loads, shared: 0.0, macs: 0.0, broadcasts: 0.0, barriers: 0.0 }
    }
}

/// The size and the resources of a dispatch, on which its time depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Invocations.
    pub invocations: usize,
    /// `vec4` values that each invocation keeps in registers.
    pub values: u32,
    /// Workgroup size.
    pub workgroup: u32,
    /// Bytes of workgroup memory.
    pub memory: u32,
}

impl Footprint {
    /// Returns the footprint of invocations that keep few values, in workgroups without memory.
    pub(crate) const fn of(invocations: usize) -> Self {
        Self { invocations, values: 8, workgroup: WORKGROUP_SIZE, memory: 0 }
    }
}

/// The cost-model parameters and limits of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// The costs of its operations.
    pub rates: Rates,
    /// `vec4` accumulators that an invocation can keep in registers.
    pub accumulators: u32,
    /// The most bytes that a shader may bind as one storage buffer.
    pub max_binding: u64,
    /// The most bytes that one buffer may have.
    pub max_buffer: u64,
    /// Bytes of memory that a workgroup may have.
    pub workgroup_memory: u32,
    /// Invocations that a workgroup may have.
    pub max_workgroup_size: u32,
    /// Its subgroups, if kernels may use them.
    pub subgroup: Option<Subgroup>,
    /// Matrix units for the type `element`, if it has any with correct results.
    pub matrices: Option<MatrixUnits>,
    /// Multiply-adds that the matrix units do in the time of one ordinary multiply-add.
    pub matrix_rate: f64,
    /// The multiply-adds in f16 in the time of one in f32.
    pub half_rate: f64,
    /// The type in which maps and weights are stored.
    pub element: Element,
}

/// A step's bytes and multiply-adds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Bytes that it must move: its inputs, outputs and weights, once each, as they are stored.
    pub bytes: u64,
    /// Multiply-adds, including those that overlapping tiles repeat.
    pub macs: u64,
}

impl Add for Work {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, macs: self.macs + other.macs }
    }
}

/// Measured peak rates of a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Peaks {
    /// Multiply-adds per second.
    pub macs: f64,
    /// Bytes per second, read and written.
    pub bytes: f64,
    /// Seconds of an empty launch that waits for the preceding one; on the CPU, seconds to hand work to all
    /// threads and wait for them.
    pub launch: f64,
}

impl Peaks {
    /// Returns the lower bound of the time for this work at these rates, in seconds.
    pub fn floor(&self, work: Work) -> f64 {
        (work.macs as f64 / self.macs).max(work.bytes as f64 / self.bytes)
    }

    /// Returns the floor divided by the measured time. More than 1 means that bytes came from a cache.
    pub fn utilisation(&self, work: Work, seconds: f64) -> f64 {
        self.floor(work) / seconds
    }
}

impl Default for Machine {
    /// A GPU of medium size with WebGPU's default limits and no tier beyond the baseline.
    fn default() -> Self {
        Self {
            rates: Rates::MEDIUM,
            accumulators: 16,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            // wgpu's downlevel limit, 32 bytes below WebGPU's default.
            workgroup_memory: 16_352,
            max_workgroup_size: 256,
            subgroup: None,
            matrices: None,
            matrix_rate: 8.0,
            // Some devices have 2. The tuner, not the cost model, finds this gain: f16 accumulators cost
            // accuracy.
            half_rate: 1.0,
            element: Element::F32,
        }
    }
}

impl Machine {
    /// Returns the machine without its tiers beyond the baseline.
    pub fn baseline(self) -> Self {
        Self { subgroup: None, matrices: None, ..self }
    }

    /// Divides its units and its bandwidth by `times`.
    pub(crate) fn smaller(self, times: f64) -> Self {
        let Rates { units, bandwidth, .. } = self.rates;
        Self { rates: Rates { units: units / times, bandwidth: bandwidth / times, ..self.rates }, ..self }
    }

    /// Returns the time of one dispatch that moves the bytes of `work`.
    ///
    /// A single wave takes the sum of all its costs. While it waits, other waves of the unit run, as many as
    /// registers and workgroup memory leave room for; the bottleneck is then the unit's busiest part, or the
    /// device's memory. The number of rounds (waves over waves in flight) is not rounded up to an integer, which would
    /// be too coarse.
    pub(crate) fn time(&self, effort: Effort, footprint: Footprint, work: Work) -> f64 {
        let rates = &self.rates;
        let [macs, loads, shared] =
            [effort.macs * rates.mac, effort.loads * rates.load, effort.shared * rates.shared];
        let others = effort.broadcasts * rates.broadcast + effort.barriers * rates.barrier;
        let alone = effort.waits * rates.latency + macs + loads + shared + others;
        let busiest = macs.max(loads).max(shared);
        // A workgroup's last wave may be partly empty.
        let workgroups = footprint.invocations as f64 / f64::from(footprint.workgroup);
        let waves =
            workgroups * (f64::from(footprint.workgroup) / rates.lanes).ceil() * self.share(workgroups);
        let rounds = (waves / self.in_flight(footprint)).max(1.0);
        let time = (alone * rounds).max(busiest * waves);
        time.max(work.bytes as f64 / rates.bandwidth) + rates.launch
    }

    /// Returns the part of all waves that the busiest unit executes. The units of a CPU are threads, each of which
    /// executes whole workgroups; on a GPU, waves are spread over the units evenly.
    fn share(&self, workgroups: f64) -> f64 {
        let (units, workgroups) = (self.rates.units, workgroups.ceil());
        if self.on_cpu() { (workgroups / units).ceil() / workgroups } else { 1.0 / units }
    }

    /// Returns the number of waves that a unit has room for.
    fn in_flight(&self, footprint: Footprint) -> f64 {
        let rates = &self.rates;
        let by_registers = rates.registers / f64::from(footprint.values.max(1));
        let waves = (f64::from(footprint.workgroup) / rates.lanes).ceil();
        let by_memory = waves * rates.memory / f64::from(footprint.memory.max(1));
        by_registers.min(by_memory).clamp(1.0, rates.waves)
    }

    /// Returns the number of invocations below which units idle.
    pub fn full(&self) -> usize {
        (self.rates.units * self.rates.lanes) as usize
    }

    /// Returns whether an invocation has registers for this many `vec4` values. `accumulators` is a product's
    /// limit, which leaves room for operands and addresses; in total 2.5 times as many values fit. On M1, whose
    /// limit is 8, a fused block with 21 values spilled and one with 18 did not.
    pub(crate) fn holds(&self, values: u32) -> bool {
        values <= self.accumulators * 5 / 2
    }

    /// Returns the number of iterations whose loads should be in flight together: of the numbers for which there
    /// are registers, the one with the fewest waits. Each iteration loads `each` values, in addition to the `kept`
    /// ones that stay in registers. All invocations have at least the `fewest` iterations and some have `most`;
    /// iterations that do not fill a group wait one by one. Returns 1 for drivers that compute on the CPU.
    pub(crate) fn unroll_depth(&self, kept: u32, each: u32, [fewest, most]: [usize; 2]) -> u32 {
        let waits = |depth: u32| {
            let groups = fewest / depth as usize;
            groups + most - groups * depth as usize
        };
        let fits = |depth: &u32| self.holds(kept + depth * each);
        let depths = if self.on_cpu() { 1..=1 } else { 1..=MOST_AT_ONCE };
        depths.filter(fits).min_by_key(|&depth| waits(depth)).unwrap_or(1)
    }

    /// Returns whether its units have packed dot products of bytes.
    pub(crate) fn multiplies_bytes(&self) -> bool {
        self.rates.dot.is_finite()
    }

    /// Returns whether it computes on the CPU: loads then have no latency, and compilers unroll less, Mesa's
    /// up to about 800 instructions.
    pub(crate) fn on_cpu(&self) -> bool {
        self.rates.latency == 0.0
    }

    /// Returns the bytes of a map.
    pub(crate) fn bytes(&self, map: Shape) -> u64 {
        map.device_bytes(self.element)
    }

    /// Returns the bytes of a convolution's weights.
    pub(crate) fn weight_bytes(&self, conv: &Conv) -> u64 {
        (self.element.bytes() * conv.weight.data().len()) as u64
    }

    /// Returns the bytes of `count` `vec4`s.
    pub(crate) fn quad_bytes(&self, count: u32) -> u32 {
        4 * self.element.bytes() as u32 * count
    }
}
