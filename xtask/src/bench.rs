//! `cargo xtask bench`: measurements, each a benchmark of the package `redirector-tests`.

use std::path::{self, PathBuf};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use crate::{
    build::{self, Profile},
    setup, test,
};

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Net time of the XDP program per packet, in the kernel and without a network (docs/performance.md).
    Fastpath(BenchArgs),
    /// CPU time of an answer over a virtual wire, compared with a bare reflector and other name servers.
    Peers(BenchArgs),
    /// Time from a change of health to the first packets with the new answer, under full query rate.
    Change(BenchArgs),
    /// Times, memory and answers while a box takes one configuration after another at full query rate.
    Reload(BenchArgs),
    /// Share of its answers that a client keeps during floods with forged sources, and where the rest is lost.
    Flood(BenchArgs),
}

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Write the figures here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Small and short: shows that everything works, and little about speed.
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(command: &BenchCommand) -> Result<()> {
    let (name, args) = match command {
        BenchCommand::Fastpath(args) => ("fastpath", args),
        BenchCommand::Peers(args) => ("peers", args),
        BenchCommand::Change(args) => ("change", args),
        BenchCommand::Reload(args) => ("reload", args),
        BenchCommand::Flood(args) => ("flood", args),
    };
    ensure!(
        nix::unistd::geteuid().is_root(),
        "running programs in the kernel takes root: run this command as root"
    );
    setup::ensure(&[setup::Purpose::Build])?;
    if let BenchCommand::Peers(_) = command {
        setup::ensure(&[setup::Purpose::Peers])?;
    }
    let artifacts = build::all(Profile::Release)?;
    let feeder = build::bench_feeder()?;
    // The benchmark runs in the folder of its package.
    let json = args.json.as_deref().map(path::absolute).transpose()?;
    test::cargo(&artifacts)
        .args(["bench", "--package", "redirector-tests", "--bench", name, "--"])
        .args(args.quick.then_some("--quick"))
        .args(json.iter().flat_map(|file| ["--json".as_ref(), file.as_os_str()]))
        .env("REDIRECTOR_BENCH_OBJECT", feeder)
        .run()
}
