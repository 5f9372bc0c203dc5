//! The command `cdsr`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
