//! The command line of every benchmark, and where its figures go.

use anyhow::{Context as _, Result};
use clap::Parser;
use std::path::PathBuf;

#[derive(Parser)]
pub(crate) struct Options {
    /// Write the figures here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Small and short: shows that everything works, and little about speed.
    #[arg(long)]
    pub(crate) quick: bool,
    /// `cargo bench` says so to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// Prints the figures for people, and writes those for programs where that is wanted.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn tell(&self, markdown: &str, json: &str) -> Result<()> {
        print!("{markdown}");
        let Some(file) = &self.json else { return Ok(()) };
        std::fs::write(file, json).with_context(|| format!("writing {}", file.display()))
    }
}
