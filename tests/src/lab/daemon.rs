//! The redirector, running in a box of the lab.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{Lab, command::Cmd, wait::wait_for};

/// How long the daemon may take to answer on its control socket, and to end.
const LIMIT: Duration = Duration::from_secs(20);

/// A running daemon; it is killed when the value is dropped.
#[derive(Debug)]
pub struct Daemon<'a> {
    lab: &'a Lab,
    name: String,
    program: PathBuf,
    child: Child,
}

impl<'a> Daemon<'a> {
    /// Starts `program` in the box `name` with `configuration`, and waits until its control socket answers.
    /// `options` are added to `redirector run`.
    ///
    /// Its files are in the lab's folder under the box's name: `redirector.toml`, `control.sock`, `state/`, `log`.
    /// The state stays for the next daemon in that box.
    ///
    /// # Errors
    /// If it ends, or is not ready in time; the error shows its log.
    pub fn start(
        lab: &'a Lab,
        name: &str,
        program: &Path,
        configuration: &str,
        options: &[&str],
    ) -> Result<Self> {
        let dir = lab.dir().join(name);
        let state = dir.join("state");
        fs::create_dir_all(&state).with_context(|| state.display().to_string())?;
        let socket = dir.join("control.sock");
        let file = dir.join("redirector.toml");
        fs::write(&file, configuration).with_context(|| file.display().to_string())?;
        let words = [program, "run".as_ref(), "--config".as_ref(), &file, "--state".as_ref(), &state];
        let command = lab.exec(name, words).arg("--socket").arg(&socket).args(options);
        let line = command.to_string();
        let child = command.spawn(&dir.join("log"))?;
        let mut daemon = Self { lab, name: name.into(), program: program.into(), child };
        let ready = wait_for("control socket", LIMIT, || {
            let ended = daemon.child.try_wait().ok().flatten();
            ended.map(Err).or_else(|| UnixStream::connect(&socket).ok().map(Ok))
        });
        match ready {
            Ok(Ok(_connected)) => Ok(daemon),
            Ok(Err(status)) => bail!("`{line}` ended with {status}; its log:\n{}", daemon.log()),
            Err(error) => bail!("`{line}`: {error:#}; its log:\n{}", daemon.log()),
        }
    }

    /// Folder of the daemon's files.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.lab.dir().join(&self.name)
    }

    /// Everything that the daemons of this box have logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Process number, for signals.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Replaces the configuration file; the daemon notices at the next [`reload`](Self::reload).
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_configuration(&self, text: &str) -> Result<()> {
        let file = self.dir().join("redirector.toml");
        fs::write(&file, text).with_context(|| file.display().to_string())
    }

    /// Runs `redirector reload`.
    ///
    /// # Errors
    /// If the daemon refuses.
    pub fn reload(&self) -> Result<String> {
        self.control("reload", &[])?.run()
    }

    /// `redirector stats --json`.
    ///
    /// # Errors
    /// If the daemon does not answer with JSON.
    pub fn stats(&self) -> Result<Value> {
        let text = self.control("stats", &["--json"])?.run()?;
        serde_json::from_str(&text).with_context(|| format!("stats: {text}"))
    }

    /// `redirector explain --json`, with the query as its options say it, as
    /// `["--client", "198.18.33.2", "--name", "www.example.net"]`.
    ///
    /// # Errors
    /// If the daemon does not answer with JSON.
    pub fn explain(&self, query: &[&str]) -> Result<Value> {
        let text = self.control("explain", &[query, &["--json"]].concat())?.run()?;
        serde_json::from_str(&text).with_context(|| format!("explain: {text}"))
    }

    /// A subcommand that talks to the control socket.
    ///
    /// # Errors
    /// If the paths are not UTF-8.
    pub fn control(&self, subcommand: &str, options: &[&str]) -> Result<Cmd> {
        let socket = self.dir().join("control.sock");
        let [program, socket] =
            [&self.program, &socket].map(|path| path.to_str().context("path is not UTF-8"));
        let words = [program?, subcommand, "--socket", socket?];
        Ok(self.lab.exec(&self.name, [&words, options].concat()))
    }

    /// Asks the daemon to end by SIGTERM.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn stop(mut self) -> Result<ExitStatus> {
        kill(self.pid(), Signal::SIGTERM).context("SIGTERM to the daemon")?;
        wait_for("end of the daemon", LIMIT, || self.child.try_wait().ok().flatten())
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
