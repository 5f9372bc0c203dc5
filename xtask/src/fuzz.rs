//! `cargo xtask fuzz`: libFuzzer on every parser of what comes from outside (`tests/fuzz`, `tests/any-input`).

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    cmd::Cmd,
    project, setup,
    toolchain::{self, FuzzCompiler},
};

/// Seconds after which an input is taken to hang a parser.
const PATIENCE: u32 = 20;
/// Lines of a target's log that are shown when it ends otherwise than it should.
const SHOWN: usize = 30;

#[derive(Args)]
pub(crate) struct FuzzArgs {
    /// Only this parser; without it all, one after the other.
    target: Option<String>,
    /// Time for all of it.
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    minutes: f64,
    /// Only make the inputs of tests/corpora that targets begin with anew.
    #[arg(long, conflicts_with_all = ["target", "minutes"])]
    seeds: bool,
}

pub(crate) fn run(args: &FuzzArgs) -> Result<ExitCode> {
    if args.seeds {
        Cmd::cargo().args(["run", "--package", "any-input", "--bin", "seeds"]).run()?;
        return Ok(ExitCode::SUCCESS);
    }
    let targets = targets(args.target.as_deref())?;
    ensure!(args.minutes > 0.0, "--minutes: how long?");
    // libFuzzer counts in whole seconds, and takes 0 for no end.
    let time = Duration::from_secs_f64((args.minutes * 60.0 / targets.len() as f64).round().max(1.0));
    setup::ensure(&[setup::Purpose::Build, setup::Purpose::Fuzz])?;
    let compiler = toolchain::for_fuzzing()?;
    build(&compiler)?;
    println!("{:<20} {:>12} {:>8} {:>9}", "target", "runs", "cov", "findings");
    let mut sound = true;
    for name in &targets {
        let Outcome { runs, cov, findings, completed, log } = Target::new(name).run(time)?;
        println!("{name:<20} {runs:>12} {cov:>8} {:>9}", findings.len());
        for finding in &findings {
            println!(
                "  {}\n  keep it as tests/corpora/{name}/found-…, and `cargo xtask test` runs it",
                finding.display()
            );
        }
        if !completed {
            sound = false;
            println!("{}", last_lines(&log)?);
        }
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The targets to run, by name.
fn targets(wanted: Option<&str>) -> Result<Vec<String>> {
    let folder = project::root().join("tests/fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        names.extend(entry?.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort_unstable();
    let Some(wanted) = wanted else { return Ok(names) };
    ensure!(names.iter().any(|name| name == wanted), "no target {wanted}; there are {}", names.join(", "));
    Ok(vec![wanted.to_owned()])
}

/// What fuzzing makes: nothing of it is in the checkout.
fn folder() -> PathBuf {
    project::target_dir().join("fuzz")
}

fn build(compiler: &FuzzCompiler) -> Result<()> {
    let sanitizer = if compiler.finds_bad_addresses {
        "address"
    } else {
        eprintln!(
            "warning: {} has no address sanitizer: wrong addresses are found only where they make a target crash",
            compiler.rustc.display()
        );
        "none"
    };
    // With debug assertions and overflow checks, unless told otherwise.
    compiler
        .configure(Cmd::cargo())
        .args(["fuzz", "build", "--fuzz-dir", "tests/fuzz", "--sanitizer", sanitizer, "--target-dir"])
        .arg(folder().join("build"))
        .run()
}

/// A target that was built.
struct Target<'n> {
    name: &'n str,
    program: PathBuf,
    /// Inputs that reached something new; they are begun with the next time.
    corpus: PathBuf,
    findings: PathBuf,
}

/// How a target fared.
struct Outcome {
    runs: String,
    cov: String,
    findings: Vec<PathBuf>,
    /// Ended by time, and not by a finding.
    completed: bool,
    log: PathBuf,
}

impl<'n> Target<'n> {
    fn new(name: &'n str) -> Self {
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        Self {
            name,
            program: folder().join("build").join(host).join("release").join(name),
            corpus: folder().join("corpus").join(name),
            findings: folder().join("findings").join(name),
        }
    }

    fn run(&self, time: Duration) -> Result<Outcome> {
        let log = folder().join(format!("{}.log", self.name));
        for folder in [&self.corpus, &self.findings] {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let before = files(&self.findings)?;
        let mut command = self.command(time).into_inner();
        let output = File::create(&log).with_context(|| format!("writing {}", log.display()))?;
        command.stdout(output.try_clone()?).stderr(output);
        let status = command.status().with_context(|| format!("starting {}", self.program.display()))?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        Ok(Outcome {
            runs: last_number(&text, "stat::number_of_executed_units:"),
            cov: last_number(&text, "cov:"),
            findings: files(&self.findings)?.difference(&before).cloned().collect(),
            completed: status.success(),
            log,
        })
    }

    fn command(&self, time: Duration) -> Cmd {
        let seeds = project::root().join("tests/corpora");
        let dictionary = seeds.join(format!("{}.dict", self.name));
        let dictionary = dictionary.is_file().then(|| format!("-dict={}", dictionary.display()));
        Cmd::new(&self.program)
            .args([&self.corpus, &seeds.join(self.name)])
            .args(dictionary)
            .arg(format!("-artifact_prefix={}/", self.findings.display()))
            .arg(format!("-max_total_time={}", time.as_secs()))
            .arg(format!("-timeout={PATIENCE}"))
            // What is slow on this machine is no finding.
            .args(["-report_slow_units=3600", "-print_final_stats=1"])
            // Tables of networks live as long as the process. Looking for leaks needs ptrace, too.
            .arg("-detect_leaks=0")
    }
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// The number behind the last `label`; `?` if there is none.
fn last_number(log: &str, label: &str) -> String {
    let digits = |rest: &str| rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    log.rsplit_once(label).map_or_else(|| "?".to_owned(), |(_, rest)| digits(rest))
}

fn last_lines(log: &Path) -> Result<String> {
    let bytes = fs::read(log).with_context(|| format!("reading {}", log.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(format!("{}\n  (from {})", lines[lines.len().saturating_sub(SHOWN)..].join("\n"), log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_end_of_a_log() {
        let log = "#2 INITED cov: 17 ft: 18\n#9 DONE   cov: 249 ft: 300\n\
                   stat::number_of_executed_units: 8192\nstat::average_exec_per_sec:     0\n";
        assert_eq!(last_number(log, "cov:"), "249");
        assert_eq!(last_number(log, "stat::number_of_executed_units:"), "8192");
        assert_eq!(last_number("", "cov:"), "?");
    }

    #[test]
    fn a_target_that_does_not_exist_is_refused_with_those_that_do() {
        assert!(targets(None).unwrap().len() > 10);
        assert_eq!(targets(Some("frame")).unwrap(), ["frame"]);
        assert!(targets(Some("frames")).unwrap_err().to_string().contains("dns_message, "));
    }
}
