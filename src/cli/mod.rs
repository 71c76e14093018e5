//! The command line: one file a subcommand. Each makes its whole answer first and prints it
//! once, so that a failure prints nothing but its one line; those that look at pictures print an
//! answer after the other.

mod adapters;
mod bench;
mod choose;
mod classify;
mod common;
mod demo;
mod detect;
mod devices;
mod embed;
mod inspect;
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

/// MobileNets on any GPU: classify, segment and detect with checkpoints of torchvision, timm and
/// transformers. Without a command: the demo.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Look at a scene with the built-in networks
    Demo(demo::Demo),
    /// Say what is on pictures
    Classify(classify::Classify),
    /// Say what each pixel of pictures shows
    Segment(segment::Segment),
    /// Say what is where in pictures
    Detect(detect::Detect),
    /// Turn pictures into vectors, and find those that are alike
    Embed(embed::Embed),
    /// Run a network on a tensor: the way to check its answers
    Run(run::Run),
    /// Show a network's layers, and the plan that runs them
    Inspect(inspect::Inspect),
    /// Measure which layers should share a kernel on this adapter, and keep the winners
    Tune(tune::Tune),
    /// Put a network in 8 bits, within an error budget
    Quantize(quantize::Quantize),
    /// Measure how long networks take, GPU against CPU, and where the time goes
    Bench(bench::Bench),
    /// Say which published network is the most accurate that is quick enough here
    Choose(choose::Choose),
    /// Take a network out of a supernet: the most accurate that is quick enough here
    Search(search::Search),
    /// Measure what depthwise-separable convolutions save, GPU against CPU: one page of HTML
    Study(study::Study),
    /// Show what this machine offers, and check that it computes right
    Adapters(adapters::Adapters),
}

/// Parses the command line and does what it says: 0 done, 1 failed, 2 bad usage.
pub fn main() -> ExitCode {
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("warn,note=info,wgpu_hal=off"),
    )
    .format(|out, record| {
        let what = match (record.target(), record.level()) {
            (common::NOTE, _) => "note".into(),
            (_, log::Level::Warn) => "warning".into(),
            (_, level) => level.as_str().to_lowercase(),
        };
        writeln!(out, "{what}: {}", visible(&record.args().to_string()))
    })
    .target(quiet::log_target())
    .init();
    files_may_end();
    keep_freed_memory();
    let parsed = Cli::try_parse().and_then(|cli| match cli.command {
        Some(command) => Ok(command),
        None => Cli::try_parse_from(["goldcrest", "demo"]).map(|cli| cli.command.expect("one was given")),
    });
    let command = match parsed {
        Ok(command) => command,
        Err(error) => return usage(&error),
    };
    let answer = match command {
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
    };
    match answer.and_then(|text| print(&text).context("standard output")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Reported>() => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Has a file that outgrows `ulimit -f` be an error of its write, as a full disk is, not the end of the program.
fn files_may_end() {
    #[cfg(unix)]
    {
        let heard = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        if let Err(e) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, heard) {
            log::debug!("{e}");
        }
    }
}

/// Has pictures decoded in the memory of those before: glibc gives blocks of this size back to the system, whose new
/// pages took a fifth of the time that a JPEG of 12 MP needs.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
fn keep_freed_memory() {
    for (parameter, bytes) in [(libc::M_MMAP_THRESHOLD, 64 << 20), (libc::M_TRIM_THRESHOLD, 128 << 20)] {
        // SAFETY: the allocator is told a number, while nothing else runs.
        if unsafe { libc::mallopt(parameter, bytes) } == 0 {
            log::debug!("the allocator has no parameter {parameter}");
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}

/// Help and version as clap prints them; a mistake in one line, without the usage that clap
/// would add.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        Usage::DisplayHelp | Usage::DisplayVersion | Usage::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A reader that has gone away is no error.
            let _ = error.print();
        }
        _ => {
            let text = error.render().to_string();
            let told = text.split("\n\n").enumerate();
            let told = told.filter(|(i, part)| *i == 0 || part.trim_start().starts_with("tip:"));
            let told: Vec<&str> = told.flat_map(|(_, part)| part.split_whitespace()).collect();
            complain(&format!("{} (see --help)", told.join(" ")));
        }
    }
    ExitCode::from(error.exit_code().try_into().unwrap_or(2))
}

/// A failure that was reported already.
#[derive(Debug)]
struct Reported;

impl std::fmt::Display for Reported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the picture could not be answered")
    }
}

impl std::error::Error for Reported {}

/// Puts one line on stderr, whatever a file's name or a tensor's holds.
fn complain(line: &str) {
    // Where stderr is closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{}", visible(line.trim_end()));
}

/// Puts lines for people on stderr.
fn say(words: &str) {
    let _ = std::io::stderr().write_all(visible_lines(words).as_bytes());
}

/// Prints an answer; a reader that has gone away is no error. What a terminal would obey is written out; line
/// feeds within names have to be before.
fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(visible_lines(text).as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
