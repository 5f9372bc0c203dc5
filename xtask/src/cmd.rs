//! Running other programs: shows each command line before it runs, and names it when it fails.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};
use redirector_tests::lab::quoted;

/// A command line under construction. Nothing runs until one of [`run`](Self::run), [`status`](Self::status),
/// [`read`](Self::read) or [`succeeds`](Self::succeeds) is called.
#[derive(Debug)]
pub(crate) struct Cmd(Command);

impl Cmd {
    /// The program is looked up in `PATH` unless it is a path.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self(command)
    }

    /// The cargo that started this xtask, working at the root of the project.
    pub(crate) fn cargo() -> Self {
        Self::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).dir(crate::project::root())
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn envs<V: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = (&'static str, V)>) -> Self {
        self.0.envs(vars);
        self
    }

    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.0.current_dir(dir);
        self
    }

    /// Runs with inherited output.
    ///
    /// # Errors
    /// If the program cannot be started or does not exit with 0.
    pub(crate) fn run(self) -> Result<()> {
        let line = self.to_string();
        let status = self.status()?;
        if !status.success() {
            bail!("`{line}` failed: {status}");
        }
        Ok(())
    }

    /// Runs with inherited output and gives the exit status, whatever it is.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub(crate) fn status(mut self) -> Result<ExitStatus> {
        eprintln!("$ {self}");
        self.0.status().with_context(|| format!("`{self}` cannot be started"))
    }

    /// Runs without a word and gives what the program wrote to stdout; its stderr goes into the error.
    ///
    /// # Errors
    /// If the program cannot be started, does not exit with 0, or writes something that is not UTF-8.
    pub(crate) fn read(mut self) -> Result<String> {
        let output = self.0.output().with_context(|| format!("`{self}` cannot be started"))?;
        if !output.status.success() {
            bail!(
                "`{self}` failed: {}\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        String::from_utf8(output.stdout).with_context(|| format!("what `{self}` wrote"))
    }

    /// Runs without a word and tells whether the program could be started and exited with 0.
    pub(crate) fn succeeds(mut self) -> bool {
        self.0.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// The command as the standard library knows it, for what this type has no word for.
    pub(crate) fn into_inner(self) -> Command {
        self.0
    }
}

/// The command line as one would type it: the folder, what the environment adds, the program and its arguments.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(dir) = self.0.get_current_dir().filter(|dir| *dir != crate::project::root()) {
            write!(f, "cd {} && ", dir.display())?;
        }
        for (name, value) in self.0.get_envs() {
            if let Some(value) = value {
                write!(f, "{}={} ", name.display(), quoted(value))?;
            }
        }
        write!(f, "{}", quoted(self.0.get_program()))?;
        self.0.get_args().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

/// Where `program` would be found: in `PATH`, or in cargo's own folder of installed programs, which a service's
/// `PATH` often lacks.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// `PATH` with cargo's folder of installed programs at its end.
pub(crate) fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let dirs = env::split_paths(&path).chain(cargo_home.map(|home| home.join("bin")));
    env::join_paths(dirs).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_in_the_error() {
        let error = Cmd::new("sh").args(["-c", "echo why >&2; exit 3"]).read().unwrap_err().to_string();
        assert!(error.contains("sh -c 'echo why >&2; exit 3'"), "{error}");
        assert!(error.contains("exit status: 3") && error.contains("why"), "{error}");
    }

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        let line = Cmd::new("echo").args(["it's", "", "a b", "x=1"]).env("V", "1 2").to_string();
        assert_eq!(line, r"V='1 2' echo 'it'\''s' '' 'a b' x=1");
    }
}
