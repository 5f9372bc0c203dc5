//! `redirector check`: what would be refused, and why.

use crate::config::{self, ConfigErrors};
use crate::manage::view::View;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn check(path: &Path) -> ExitCode {
    let color = std::io::stderr().is_terminal();
    let config = match config::load(path) {
        Ok(config) => config,
        Err(errors) => {
            eprint!("{}", errors.report(color));
            eprintln!("{}: {}", path.display(), summary(&errors));
            return ExitCode::FAILURE;
        }
    };
    for warning in &config.warnings {
        eprint!("{}", warning.report(color));
    }
    let warnings = config.warnings.len();
    if let Err(refused) = View::alone(config) {
        eprintln!("{refused}\n{}: {} refused", path.display(), count(refused.lines().count(), "part"));
        return ExitCode::FAILURE;
    }
    println!("{}: good, {}", path.display(), count(warnings, "warning"));
    ExitCode::SUCCESS
}

fn summary(errors: &ConfigErrors) -> String {
    let wrong = errors.iter().filter(|finding| finding.severity == config::Severity::Error).count();
    format!("{}, {}", count(wrong, "error"), count(errors.iter().count() - wrong, "warning"))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
