//! Device options of the commands that compare devices.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use goldcrest::{cpu::Cpu, gpu::Gpu, session::Device};

use super::{common, quiet::quietly};

/// Options that choose the devices.
#[derive(Args)]
pub struct Devices {
    /// Devices to run on
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,

    /// Graphics adapter: its index or part of its name (see `goldcrest adapters`)
    #[arg(long, value_name = "INDEX|NAME")]
    adapter: Option<String>,

    /// Number of CPU threads [default: one per core]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
}

/// The kinds of devices to run on.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The best hardware graphics adapter, or the CPU if there is none
    Auto,
    /// A graphics adapter through wgpu, including software adapters
    Gpu,
    /// The CPU
    Cpu,
    /// A graphics adapter and the CPU, separately
    Both,
}

/// Parses a rate in pictures per second.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (1e-3..=1e6).contains(rate));
    rate.ok_or_else(|| "expected pictures per second, such as 60".into())
}

impl Devices {
    /// The flags with which other commands choose the device of `backend`.
    pub fn flags(&self, backend: &str) -> String {
        let more = match backend {
            "cpu" => self.threads.map(|threads| format!(" --threads {threads}")),
            _ => self.adapter.as_ref().map(|adapter| format!(" --adapter '{adapter}'")),
        };
        format!("--backend {backend}{}", more.unwrap_or_default())
    }

    /// Opens the devices. Fails if an adapter computes wrong results.
    pub fn open(&self) -> Result<Vec<Device>> {
        if self.adapter.is_some() && self.backend == Backend::Cpu {
            bail!("--adapter names a graphics adapter, but --backend is cpu");
        }
        let wants_gpu = matches!(self.backend, Backend::Gpu | Backend::Both) || self.adapter.is_some();
        if self.threads.is_some() && wants_gpu && self.backend != Backend::Both {
            bail!(common::THREADS_ON_ADAPTER);
        }
        let mut devices = Vec::new();
        if wants_gpu {
            common::trusted(self.adapter.as_deref())?;
            let gpu = quietly(|| Gpu::open(self.adapter.as_deref()))?;
            if gpu.adapter().software {
                log::warn!("{} runs on the CPU: expect it to be slow", gpu.adapter());
            }
            devices.push(Device::Gpu(gpu));
        }
        let cpu =
            || Ok::<_, anyhow::Error>(Device::Cpu(Cpu::new(self.threads.map(|threads| threads as usize))?));
        match self.backend {
            Backend::Both | Backend::Cpu => devices.push(cpu()?),
            Backend::Auto if !wants_gpu && self.threads.is_some() => devices.push(cpu()?),
            Backend::Auto if !wants_gpu => match quietly(Device::best)? {
                Device::Gpu(gpu) => {
                    common::trusted(None)?;
                    devices.push(Device::Gpu(gpu));
                }
                cpu => devices.push(cpu),
            },
            _ => {}
        }
        Ok(devices)
    }
}
