//! Writes the inputs that fuzz targets begin with (`cargo xtask fuzz --seeds`).

use std::process::ExitCode;

fn main() -> ExitCode {
    match any_input::seeds::write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}: {error}", any_input::seeds::folder().display());
            ExitCode::FAILURE
        }
    }
}
