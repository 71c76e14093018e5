//! A network with its device and options, which sessions and their iterators share.

use std::sync::Mutex;

use goldcrest::{
    Device, Options, Session,
    feed::{Pipeline, Sessions},
    tasks::{Labels, PictureLimits},
    zoo::{Network, Outputs},
};

use crate::{results::Shown, turn::Turn};

/// A network, its device and its options. Threads share it.
pub struct Loaded {
    pub network: Network,
    pub device: Device,
    pub options: Options,
    pub labels: Labels,
    /// Threads that decode and preprocess and, on the CPU, run pictures.
    pub threads: usize,
    pub limits: PictureLimits,
    /// The sessions of earlier calls, for pictures.
    sessions: Sessions,
    /// The sessions of earlier calls, for tensors.
    pub built: Mutex<Vec<Built>>,
    pub turn: Turn,
}

/// What a call asks for.
#[derive(Clone, Copy)]
pub struct Call {
    pub embeds: bool,
    /// The number of classes per picture.
    pub top: usize,
    pub shown: Shown,
}

impl Loaded {
    pub fn new(
        network: Network,
        device: Device,
        options: Options,
        labels: Labels,
        threads: usize,
        limits: PictureLimits,
    ) -> Self {
        let (sessions, built, turn) = (Sessions::default(), Mutex::default(), Turn::new());
        Self { network, device, options, labels, threads, limits, sessions, built, turn }
    }

    /// The library's pipeline for a call.
    pub fn pipeline(&self, call: Call) -> Pipeline<'_> {
        let options = match call.embeds {
            true => Options { outputs: Outputs::Embedding, size: None, ..self.options },
            false => self.options,
        };
        Pipeline {
            device: self.device.clone(),
            network: &self.network,
            options,
            // An embedding has no classes.
            labels: if call.embeds { Labels::default() } else { self.labels.clone() },
            top: call.top,
            threads: self.threads,
            limits: self.limits,
            pictures: false,
            background_tuning: None,
            compiling: &|_, _| {},
            sessions: Some(&self.sessions),
        }
    }
}

/// A session for tensors of one shape.
pub struct Built {
    pub options: Options,
    pub session: Session,
}
