//! `cargo xtask load`: the daemon from this checkout, on this box.

use std::{os::unix::process::CommandExt as _, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    build::{self, Profile},
    cmd::Cmd,
    setup,
};

#[derive(Args)]
pub(crate) struct LoadArgs {
    /// The operator's configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// More arguments for `redirector run`, such as --state or --socket.
    #[arg(last = true)]
    more: Vec<String>,
}

pub(crate) fn run(args: &LoadArgs) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "attaching the XDP program and listening on the VIPs takes root: run this command as root"
    );
    setup::ensure(&[setup::Purpose::Build])?;
    let redirector = build::all(Profile::Release)?.program("redirector");
    Cmd::new(&redirector).args(["check", "--config"]).arg(&args.config).run()?;
    let run = Cmd::new(&redirector).args(["run", "--config"]).arg(&args.config).args(&args.more);
    eprintln!("$ {run}");
    // In place of this process, so that the daemon itself gets the terminal's signals.
    Err(run.into_inner().exec()).with_context(|| format!("{} cannot be started", redirector.display()))
}
