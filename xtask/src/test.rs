//! `cargo xtask test`: the whole test suite, the privileged part included where this is root.

use std::{
    fs,
    process::{ExitCode, ExitStatus},
};

use anyhow::Result;
use clap::Args;

use crate::{
    build::{self, Artifacts},
    cmd::Cmd,
    project, setup,
};

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Run only the tests with this in their names.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

pub(crate) fn run(args: &TestArgs) -> Result<ExitCode> {
    setup::ensure(&[setup::Purpose::Build, setup::Purpose::Test, setup::Purpose::Demo])?;
    let artifacts = build::for_tests()?;
    let skip_log = project::target_dir().join("skipped-tests.log");
    // From the last run; it need not be there.
    drop(fs::remove_file(&skip_log));

    if args.filter.is_none() {
        let status = cargo(&artifacts).args(["test", "--workspace", "--doc"]).status()?;
        if !status.success() {
            return Ok(exit_code(status));
        }
    }
    // The runner comes last and nothing is said after it, so that a log ends with its summary.
    let status = suite(&artifacts, args).env("REDIRECTOR_SKIP_LOG", &skip_log).status()?;
    if let Ok(skipped) = fs::read_to_string(&skip_log) {
        eprint!("\n{skipped}");
    }
    Ok(exit_code(status))
}

/// A cargo for the workspace that knows the artefacts.
pub(crate) fn cargo(artifacts: &Artifacts) -> Cmd {
    Cmd::cargo().envs(artifacts.envs())
}

fn suite(artifacts: &Artifacts, args: &TestArgs) -> Cmd {
    let cargo = cargo(artifacts);
    if Cmd::cargo().args(["nextest", "--version"]).succeeds() {
        // Which tests may not run side by side is said in .config/nextest.toml.
        return cargo.args(["nextest", "run", "--workspace", "--no-fail-fast"]).args(&args.filter);
    }
    // One at a time: tests of the network share the machine's clocks and cores.
    cargo
        .args(["test", "--workspace", "--tests", "--no-fail-fast"])
        .args(&args.filter)
        .env("RUST_TEST_THREADS", "1")
}

fn exit_code(status: ExitStatus) -> ExitCode {
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
