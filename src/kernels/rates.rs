//! The costs of operations, by card: presets for planning without the card, and the initial values of a
//! `Machine` for similar cards.

use std::fmt;

use super::machine::{Machine, MatrixUnits, Subgroup};
use crate::tensor::Element;

/// The costs of a device's operations, in cycles of one of its units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// The number of units: SIMDs, each with its own scheduler.
    pub units: f64,
    /// Lanes of a wave; a unit executes one wave at a time.
    pub lanes: f64,
    /// The most waves that a unit has room for.
    pub waves: f64,
    /// `vec4` registers per lane of a unit, shared by its waves.
    pub registers: f64,
    /// Bytes of workgroup memory per unit.
    pub memory: f64,
    /// The latency of a load from a buffer.
    pub latency: f64,
    /// A wave's load or store of a `vec4`.
    pub load: f64,
    /// The same in workgroup memory.
    pub shared: f64,
    /// A wave's `vec4` multiply-add.
    pub mac: f64,
    /// A wave's four dot products of four bytes, accumulated in 32 bits; infinite on units without them.
    pub dot: f64,
    /// A broadcast of a `vec4` within a subgroup.
    pub broadcast: f64,
    /// A barrier.
    pub barrier: f64,
    /// A dispatch that waits for the preceding one.
    pub launch: f64,
    /// Bytes that all units together move per cycle.
    pub bandwidth: f64,
    /// Cycles per second.
    pub clock: f64,
}

/// A card that stands for all cards of its vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// AMD's Radeon RX 7900 XTX, for GCN and RDNA.
    Rdna3,
    /// NVIDIA's GeForce RTX 4090, for Turing and later.
    Ada,
    /// Qualcomm's Adreno 750.
    Adreno7,
    /// Apple's M1.
    M1,
    /// Intel's Arc A770, for Gen9 and later.
    Xe,
    /// Mesa's software driver on two cores, for all devices that compute on the CPU except SwiftShader.
    Lavapipe,
    /// Chrome's software driver on two cores.
    SwiftShader,
}

impl Card {
    /// Every card.
    pub const ALL: [Self; 7] =
        [Self::Rdna3, Self::Ada, Self::Adreno7, Self::M1, Self::Xe, Self::Lavapipe, Self::SwiftShader];

    /// Returns its name for `inspect --machine`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rdna3 => "rdna3",
            Self::Ada => "ada",
            Self::Adreno7 => "adreno7",
            Self::M1 => "m1",
            Self::Xe => "xe",
            Self::Lavapipe => "lavapipe",
            Self::SwiftShader => "swiftshader",
        }
    }

    /// Returns the card with a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|card| card.name() == name)
    }

    /// Returns the card that stands for a vendor, by the vendor's PCI id.
    pub fn of_vendor(vendor: u32) -> Option<Self> {
        match vendor {
            0x1002 => Some(Self::Rdna3),
            0x10de => Some(Self::Ada),
            0x8086 => Some(Self::Xe),
            0x106b => Some(Self::M1),
            0x5143 => Some(Self::Adreno7),
            _ => None,
        }
    }

    /// Returns the maximum number of `vec4` accumulators that an invocation keeps without spills and without
    /// halving the subgroup size. Sixteen, with their operands, take 120 registers. Found with the cards'
    /// compilers (`scripts/compilers`).
    pub const fn accumulators(self) -> u32 {
        match self {
            Self::Xe | Self::M1 => 8,
            // With sixteen its compiler spilled them all in blocks that also keep a depthwise window.
            Self::Adreno7 => 12,
            _ => 16,
        }
    }

    /// Returns whether its driver's compiler unrolls loops over constants.
    pub const fn unrolls(self) -> bool {
        !matches!(self, Self::SwiftShader)
    }

    /// Returns the sizes of its subgroups, no larger than a workgroup.
    fn subgroup(self) -> Option<Subgroup> {
        let [least, most] = match self {
            Self::Rdna3 => [32, 64],
            Self::Ada | Self::M1 => [32, 32],
            Self::Xe => [8, 32],
            Self::Adreno7 => [64, 64],
            Self::Lavapipe => [8, 8],
            Self::SwiftShader => [4, 4],
        };
        Some(Subgroup { least, most })
    }

    /// Returns its units for square matrices of `element`, with f32 accumulators. Intel's matrices are not
    /// square.
    pub fn matrices(self, element: Element) -> Option<MatrixUnits> {
        match (self, element) {
            (Self::Rdna3 | Self::Ada, Element::F16) => {
                Some(MatrixUnits { side: 16, subgroup: self.subgroup()? })
            }
            _ => None,
        }
    }

    /// Returns the costs of its operations. Units, lanes, clocks and bandwidths are the vendor's figures;
    /// registers, waves and workgroup memory are the drivers', by `scripts/compilers`; latencies, to L2, are
    /// from published microbenchmarks; a launch is the measured time of dependent dispatches on similar
    /// cards.
    pub const fn rates(self) -> Rates {
        match self {
            // A wave64's f32 multiply-add takes a cycle. Its loads have half of a CU's 128 bytes per cycle.
            Self::Rdna3 => Rates {
                units: 192.0,
                lanes: 64.0,
                waves: 16.0,
                registers: 192.0,
                memory: 32_768.0,
                latency: 400.0,
                load: 16.0,
                shared: 16.0,
                mac: 4.0,
                dot: 4.0,
                broadcast: 16.0,
                barrier: 20.0,
                launch: 6000.0,
                bandwidth: 1000.0,
                clock: 2.4e9,
            },
            Self::Ada => Rates {
                units: 512.0,
                lanes: 32.0,
                waves: 12.0,
                registers: 128.0,
                memory: 25_600.0,
                ..Rates::MEDIUM
            },
            Self::Adreno7 => Rates {
                units: 24.0,
                lanes: 64.0,
                waves: 16.0,
                registers: 96.0,
                memory: 16_384.0,
                latency: 500.0,
                load: 32.0,
                shared: 32.0,
                mac: 8.0,
                dot: 8.0,
                broadcast: 64.0,
                barrier: 40.0,
                launch: 15_000.0,
                bandwidth: 80.0,
                clock: 0.9e9,
            },
            Self::M1 => Rates {
                units: 32.0,
                lanes: 32.0,
                waves: 24.0,
                registers: 104.0 * 4.0,
                memory: 8192.0,
                latency: 300.0,
                load: 16.0,
                shared: 16.0,
                mac: 4.0,
                dot: f64::INFINITY,
                broadcast: 8.0,
                barrier: 20.0,
                launch: 10_000.0,
                bandwidth: 60.0,
                clock: 1.28e9,
            },
            // A SIMD16 wave's multiply-add takes two cycles of an eight-lane engine.
            Self::Xe => Rates {
                units: 512.0,
                lanes: 16.0,
                waves: 8.0,
                registers: 256.0,
                memory: 8192.0,
                latency: 500.0,
                load: 16.0,
                shared: 16.0,
                mac: 8.0,
                dot: 8.0,
                broadcast: 8.0,
                barrier: 40.0,
                launch: 12_000.0,
                bandwidth: 500.0,
                clock: 2.1e9,
            },
            // Loads run lane by lane and take as long as thirty multiply-adds of eight lanes. Measured, with
            // a launch of 60 us.
            Self::Lavapipe => Rates {
                units: 2.0,
                lanes: 8.0,
                waves: 1.0,
                registers: 1.0,
                memory: 1.0,
                latency: 0.0,
                load: 32.0,
                shared: 25.0,
                mac: 1.0,
                dot: f64::INFINITY,
                broadcast: 2.0,
                barrier: 16.0,
                launch: 40_000.0,
                bandwidth: 15.0,
                clock: 0.66e9,
            },
            // With subgroups of four lanes; workgroup memory, broadcasts and barriers are slower. Also
            // measured.
            Self::SwiftShader => Rates {
                shared: 40.0,
                broadcast: 4.0,
                barrier: 100.0,
                launch: 20_000.0,
                clock: 0.1e9,
                ..Self::Lavapipe.rates()
            },
        }
    }

    /// Returns a machine with this card and WebGPU's default limits, except for 32 KiB of workgroup memory,
    /// which all cards have.
    pub fn machine(self) -> Machine {
        let (matrix_rate, half_rate) = match self {
            Self::Lavapipe | Self::SwiftShader => (0.25, 0.5),
            _ => (8.0, 1.0),
        };
        Machine {
            rates: self.rates(),
            accumulators: self.accumulators(),
            subgroup: self.subgroup(),
            workgroup_memory: 32_768,
            matrix_rate,
            half_rate,
            ..Machine::default()
        }
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rdna3 => "an AMD Radeon RX 7900 XTX",
            Self::Ada => "an NVIDIA GeForce RTX 4090",
            Self::Adreno7 => "a Qualcomm Adreno 750",
            Self::M1 => "an Apple M1",
            Self::Xe => "an Intel Arc A770",
            Self::Lavapipe => "Mesa's lavapipe on two cores",
            Self::SwiftShader => "SwiftShader on two cores",
        })
    }
}

impl Rates {
    /// A GPU of medium size: half as many units as [`Card::Ada`].
    pub const MEDIUM: Self = Self {
        units: 256.0,
        lanes: 32.0,
        waves: 12.0,
        registers: 128.0,
        memory: 16_384.0,
        latency: 400.0,
        load: 16.0,
        shared: 16.0,
        mac: 4.0,
        dot: 8.0,
        broadcast: 16.0,
        barrier: 20.0,
        launch: 5000.0,
        bandwidth: 1000.0,
        clock: 2.0e9,
    };
}
