//! The command line: one file a subcommand. Each makes its whole answer first and prints it
//! once, so that a failure prints nothing but its one line.

mod adapters;
mod bench;
mod classify;
mod common;
mod demo;
mod detect;
mod inspect;
mod run;
mod segment;
mod study;
mod target;
mod tune;

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand, error::ErrorKind as Usage};

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
    /// Say what each pixel of a picture shows
    Segment(segment::Segment),
    /// Say what is where in a picture
    Detect(detect::Detect),
    /// Run a network on a tensor: the way to check its answers
    Run(run::Run),
    /// Show a network's layers, and the plan that runs them
    Inspect(inspect::Inspect),
    /// Measure which layers should share a kernel on this adapter, and keep the winners
    Tune(tune::Tune),
    /// Measure how long networks take, GPU against CPU, and where the time goes
    Bench(bench::Bench),
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
    .format(|out, record| match (record.target(), record.level()) {
        (common::NOTE, _) => writeln!(out, "note: {}", record.args()),
        (_, log::Level::Warn) => writeln!(out, "warning: {}", record.args()),
        (_, level) => writeln!(out, "{}: {}", level.as_str().to_lowercase(), record.args()),
    })
    .init();
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
        Command::Classify(command) => command.run(),
        Command::Segment(command) => command.run(),
        Command::Detect(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Tune(command) => command.run(),
        Command::Adapters(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Study(command) => command.run(),
    };
    match answer.and_then(|text| print(&text).context("standard output")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

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

/// Puts one line on stderr, whatever a file's name or a tensor's holds.
fn complain(line: &str) {
    let line: String = line.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // Where stderr is closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints an answer; a reader that has gone away is no error.
fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
