//! The project's habits as commands: `cargo xtask COMMAND`.

mod bench;
mod build;
mod cmd;
mod conformance;
mod demo;
mod fuzz;
mod lab;
mod lint;
mod load;
mod packages;
mod project;
mod setup;
mod signals;
mod test;
mod test_list;
mod toolchain;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's habits as commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing on this machine, and only that (Debian, as root).
    Setup(setup::SetupArgs),
    /// Build the XDP program and the programs that embed it.
    Build(build::BuildArgs),
    /// Build, check a configuration and run the daemon with it on this box.
    Load(load::LoadArgs),
    /// Show real clients being sent to their nearest servers, and elsewhere when one dies (as root).
    Demo,
    /// Keep a network of namespaces standing for hands-on use (as root).
    #[command(subcommand)]
    Lab(lab::LabCommand),
    /// Check format, lints, licences, sources of dependencies and sizes of files and functions.
    Lint,
    /// Build and run all tests; those that need root run if this is root.
    Test(test::TestArgs),
    /// Feed parsers whatever a fuzzer makes up.
    Fuzz(fuzz::FuzzArgs),
    /// Measure what the program costs a packet (as root).
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Run the tests that docs/conformance.md names, and count what they prove.
    Conformance,
}

fn main() -> ExitCode {
    // With `{:#}`, the whole chain of causes in one line, and no backtrace whatever the environment says.
    run(Cli::parse().command).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup(args) => setup::run(&args)?,
        Command::Build(args) => build::run(&args)?,
        Command::Load(args) => load::run(&args)?,
        Command::Demo => return demo::run(),
        Command::Lab(command) => return lab::run(&command),
        Command::Lint => lint::run()?,
        Command::Test(args) => return test::run(&args),
        Command::Fuzz(args) => return fuzz::run(&args),
        Command::Bench(command) => bench::run(&command)?,
        Command::Conformance => return conformance::run(),
    }
    Ok(ExitCode::SUCCESS)
}
