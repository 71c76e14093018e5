//! The command line, one file per subcommand. A subcommand prints its output in one piece at the end, so that
//! a failure prints only its error line. Subcommands that process pictures print one result after another.

mod adapters;
mod bench;
mod choose;
mod classify;
mod common;
mod completions;
mod demo;
mod detect;
mod devices;
mod drawing;
mod embed;
mod inspect;
mod manual;
mod pictures;
mod plot;
mod quantize;
mod quiet;
mod run;
mod search;
mod segment;
mod study;
mod target;
mod truth;
mod tune;

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand, error::ErrorKind as Usage};
use goldcrest::text::{visible, visible_lines};

/// Run MobileNets on any GPU: classify, segment and detect
///
/// Checkpoints of torchvision, timm and transformers load as they are. Without a command, the demo runs.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the built-in networks on a synthetic scene
    Demo(demo::Demo),
    /// Classify pictures
    Classify(classify::Classify),
    /// Classify every pixel of pictures
    Segment(segment::Segment),
    /// Detect objects in pictures: boxes, classes and scores
    Detect(detect::Detect),
    /// Compute feature vectors of pictures, and find the most similar pictures
    Embed(embed::Embed),
    /// Run a network on a tensor, for example to compare its outputs with a reference
    Run(run::Run),
    /// Show a network's layers and its execution plan
    Inspect(inspect::Inspect),
    /// Measure which kernels and fusions are fastest on this adapter, and cache the winners
    Tune(tune::Tune),
    /// Quantise a network to int8, within a noise budget
    Quantize(quantize::Quantize),
    /// Benchmark networks on the GPU and the CPU, and show where the time goes
    Bench(bench::Bench),
    /// Recommend the most accurate published network that is fast enough on this machine
    Choose(choose::Choose),
    /// Search a supernet for the most accurate network that is fast enough on this machine
    Search(search::Search),
    /// Test a paper's claims about separable convolutions and int8 on this machine, and write an HTML report
    Study(study::Study),
    /// List the graphics adapters, and check that they compute correct results
    Adapters(adapters::Adapters),
    Completions(completions::Completions),
    #[command(name = "man")]
    Manual(manual::Manual),
}

/// Parses the command line and runs the command. Exit status: 0 success, 1 failure, 2 bad usage.
pub fn main() -> ExitCode {
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("warn,note=info,wgpu_hal=off"),
    )
    .format(|out, record| {
        let label = match (record.target(), record.level()) {
            (common::NOTE, _) => "note".into(),
            (_, log::Level::Warn) => "warning".into(),
            (_, level) => level.as_str().to_lowercase(),
        };
        writeln!(out, "{label}: {}", visible(&record.args().to_string()))
    })
    .target(quiet::log_target())
    .init();
    handle_file_size_limit();
    keep_freed_memory();
    let parsed = Cli::try_parse().and_then(|cli| match cli.command {
        Some(command) => Ok(command),
        None => Cli::try_parse_from(["goldcrest", "demo"]).map(|cli| cli.command.expect("demo is a command")),
    });
    let command = match parsed {
        Ok(command) => command,
        Err(error) => return usage(&error),
    };
    let output = match command {
        Command::Demo(command) => command.run(),
        Command::Classify(command) => command.run().map(|()| String::new()),
        Command::Segment(command) => command.run().map(|()| String::new()),
        Command::Detect(command) => command.run().map(|()| String::new()),
        Command::Embed(command) => command.run().map(|()| String::new()),
        Command::Run(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Tune(command) => command.run(),
        Command::Quantize(command) => command.run(),
        Command::Adapters(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Choose(command) => command.run(),
        Command::Search(command) => command.run(),
        Command::Study(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Manual(command) => command.run(),
    };
    match output.and_then(|text| print(&text).context("standard output")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Reported>() => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Handles SIGXFSZ, so that exceeding `ulimit -f` is a write error and does not kill the program.
fn handle_file_size_limit() {
    #[cfg(unix)]
    {
        let received = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        if let Err(e) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, received) {
            log::debug!("{e}");
        }
    }
}

/// Keeps freed memory in the process, so that each picture is decoded in the memory of the previous one. By
/// default glibc returns blocks of this size to the system. Getting new pages took a fifth of the time of a
/// 12 MP JPEG.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
fn keep_freed_memory() {
    for (parameter, bytes) in [(libc::M_MMAP_THRESHOLD, 64 << 20), (libc::M_TRIM_THRESHOLD, 128 << 20)] {
        // SAFETY: this only sets a parameter of the allocator, and no other thread runs yet.
        if unsafe { libc::mallopt(parameter, bytes) } == 0 {
            log::debug!("the allocator has no parameter {parameter}");
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}

/// Prints help and version as clap does, and a usage error as one line, without clap's usage text.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        Usage::DisplayHelp | Usage::DisplayVersion | Usage::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A closed pipe is no error.
            let _ = error.print();
        }
        _ => {
            let text = error.render().to_string();
            let parts = text.split("\n\n").enumerate();
            let parts = parts.filter(|(i, part)| *i == 0 || part.trim_start().starts_with("tip:"));
            let words: Vec<&str> = parts.flat_map(|(_, part)| part.split_whitespace()).collect();
            complain(&format!("{} (see --help)", words.join(" ")));
        }
    }
    ExitCode::from(error.exit_code().try_into().unwrap_or(2))
}

/// A failure that has been reported already.
#[derive(Debug)]
struct Reported;

impl std::fmt::Display for Reported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the picture could not be processed")
    }
}

impl std::error::Error for Reported {}

/// Writes one line to stderr. Line ends and control characters in file and tensor names are escaped.
fn complain(line: &str) {
    // If stderr is closed, the message is lost.
    let _ = writeln!(std::io::stderr(), "{}", visible(line.trim_end()));
}

/// Writes lines of text to stderr.
fn say(words: &str) {
    let _ = std::io::stderr().write_all(visible_lines(words).as_bytes());
}

/// Prints a command's output. A closed pipe is no error. Control characters are escaped, except line feeds:
/// the caller escapes those in names.
fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(visible_lines(text).as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
