//! The command line: one file a subcommand. Each makes its whole answer first and prints it
//! once, so that a failure prints nothing but its one line.

mod adapters;
mod classify;
mod common;
mod inspect;
mod run;

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// MobileNets on any GPU: classify pictures with checkpoints of torchvision, timm and transformers.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is on pictures
    Classify(classify::Classify),
    /// Run a network on a tensor: the way to check its answers
    Run(run::Run),
    /// Show a network's layers, and the plan that runs them
    Inspect(inspect::Inspect),
    /// Show what this machine offers, and check that it computes right
    Adapters(adapters::Adapters),
}

/// Parses the command line and does what it says: 0 done, 1 failed, 2 bad usage.
pub fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off"))
        .format_timestamp(None)
        .format_target(false)
        .init();
    let answer = match Cli::parse().command {
        Command::Classify(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Adapters(command) => command.run(),
    };
    match answer.and_then(|text| Ok(print(&text)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints an answer; a reader that has gone away is no error.
fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
