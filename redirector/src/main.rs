//! The redirector command.

use std::process::ExitCode;

fn main() -> ExitCode {
    redirector::cli::main()
}
