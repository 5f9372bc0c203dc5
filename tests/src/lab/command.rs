//! One way to run other programs: every error shows the command line and what the program said.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail};

/// A command line under construction; [`run`](Self::run), [`output`](Self::output), [`status`](Self::status) and
/// [`spawn`](Self::spawn) start it. All but `status` keep the program away from the terminal's Ctrl-C: whoever started
/// it has to clean up, and ends it then.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
    input: Option<String>,
}

impl Cmd {
    /// The program is looked up in `PATH` unless it is a path. Its standard input is empty.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program), input: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Gives the program `text` on its standard input.
    #[must_use]
    pub fn input(mut self, text: impl Into<String>) -> Self {
        self.input = Some(text.into());
        self
    }

    /// Runs to the end and gives what it wrote to stdout.
    ///
    /// # Errors
    /// If the program cannot be started or does not exit with 0; its stderr is part of the error.
    pub fn run(self) -> Result<String> {
        let line = self.to_string();
        let output = self.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{line}` failed: {}\n{}", output.status, said.trim_end());
        }
        String::from_utf8(output.stdout).with_context(|| format!("output of `{line}`"))
    }

    /// Runs to the end, whatever its exit status.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn output(mut self) -> Result<Output> {
        let line = self.to_string();
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        self.command.process_group(0).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().with_context(|| format!("`{line}` cannot be started"))?;
        let (input, pipe) = (self.input, child.stdin.take());
        let output = thread::scope(|scope| {
            if let (Some(text), Some(mut pipe)) = (input, pipe) {
                // A program that ends without reading all of it says why by itself.
                scope.spawn(move || pipe.write_all(text.as_bytes()));
            }
            child.wait_with_output()
        });
        output.with_context(|| format!("waiting for `{line}`"))
    }

    /// Runs to the end on this process's own terminal.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn status(mut self) -> Result<ExitStatus> {
        self.command.status().with_context(|| format!("`{self}` cannot be started"))
    }

    /// Starts the program and leaves it running, with stdout and stderr appended to the file `log`.
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be started.
    pub fn spawn(mut self, log: &Path) -> Result<Child> {
        let open = || -> io::Result<(File, File)> {
            let file = File::options().create(true).append(true).open(log)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open().with_context(|| log.display().to_string())?;
        self.command.process_group(0).stdin(Stdio::null()).stdout(out).stderr(err);
        self.command.spawn().with_context(|| format!("`{self}` cannot be started"))
    }
}

/// The command line as one would type it.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", quoted(self.command.get_program()))?;
        self.command.get_args().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

/// A word of a command line, in quotes if a shell would take it for something else.
#[must_use]
pub fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+=./:@%,~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_command_line_and_stderr() {
        let error = Cmd::new("sh").args(["-c", "echo why >&2; exit 3"]).run().unwrap_err().to_string();
        assert!(error.contains("sh -c 'echo why >&2; exit 3'"), "{error}");
        assert!(error.contains("exit status: 3") && error.contains("why"), "{error}");
    }

    #[test]
    fn a_program_reads_its_input() {
        assert_eq!(Cmd::new("tr").args(["a-z", "A-Z"]).input("lower").run().unwrap(), "LOWER");
    }
}
