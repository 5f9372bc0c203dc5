//! The control socket: one JSON object a line each way, `{"cmd": …}` answered by `{"ok": …}` or `{"error": …}`.

use super::agent::Agent;
use super::agreements::Action;
use super::dump::dump;
use super::explain::{Explanation, FastPath, Question as Query, explain};
use super::forces;
use super::stats::Stats;
use crate::accounts::query::Question;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{debug, info};

/// Longest request in bytes.
pub const MAX_REQUEST: u64 = 65_536;
/// Connections at one time; more wait.
const MAX_CONNECTIONS: usize = 16;
/// How long a connection may stay without a request.
const IDLE: Duration = Duration::from_secs(30);
/// How often an explanation is tried while tables change under it.
const EXPLANATIONS: usize = 5;
/// Owner and group may talk to the box.
const MODE: u32 = 0o660;

/// What can be asked of a running box.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase")]
pub enum Request {
    /// [`Stats`].
    Stats,
    /// Whether the box is ready, and what of its configuration is not in effect.
    Status,
    /// Reads the configuration again.
    Reload,
    /// [`Explanation`](super::explain::Explanation).
    Explain(Query),
    /// What is in the tables, as text.
    Dump {
        /// Everything, however much it is.
        #[serde(default)]
        all: bool,
    },
    /// Shows or changes agreements.
    Agreement(Action),
    /// Shows accounts.
    Account(Question),
    /// Shows or changes what operators say of targets and others.
    Force(forces::Action),
    /// Sets a target's load factor (0..=256) until the next reload.
    Weight {
        /// Its name.
        target: String,
        /// In 1/256 of its configured weight.
        factor: u16,
    },
}

impl Request {
    /// Reads a request's line.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let remedy = "send one JSON object a line, for example {\"cmd\": \"stats\"}";
        serde_json::from_slice(line).map_err(|error| format!("not a request: {error}; {remedy}"))
    }
}

/// What comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// The result; its form depends on the request.
    Ok(Value),
    /// What is wrong.
    Error(String),
}

/// A bound control socket; its file is removed when the value is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ControlSocket {
    /// Binds the socket. A file that a box left behind there is replaced. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If another box listens there, or something else is in the way.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(named)?;
        }
        remove_stale(path).map_err(named)?;
        let listener = UnixListener::bind(path).map_err(named)?;
        let socket = Self { path: path.to_owned(), listener };
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(named)?;
        Ok(socket)
    }

    /// Answers requests until it is dropped.
    pub async fn serve(self, agent: Arc<Agent>) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let agent = Arc::clone(&agent);
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, &agent).await {
                            debug!("control connection: {error}");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    debug!("control socket: {error}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the socket of a box that has ended without doing so itself.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::other("there is something that is not a socket; name another path by --socket"))
        }
        Ok(_) if BlockingStream::connect(path).is_ok() => {
            Err(io::Error::other("another box listens there; stop it, or name another path by --socket"))
        }
        Ok(_) => fs::remove_file(path),
    }
}

async fn converse(stream: UnixStream, agent: &Arc<Agent>) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(MAX_REQUEST + 1);
        let length = timeout(IDLE, limited.read_until(b'\n', &mut line)).await??;
        if length == 0 {
            return Ok(());
        }
        let whole = length as u64 <= MAX_REQUEST;
        let response = match whole.then(|| Request::parse(&line)) {
            None => Response::Error(format!("the request is longer than {MAX_REQUEST} bytes")),
            Some(Err(problem)) => Response::Error(problem),
            Some(Ok(request)) => {
                respond(request, agent, user).await.map_or_else(Response::Error, Response::Ok)
            }
        };
        let mut text = serde_json::to_vec(&response)?;
        text.push(b'\n');
        write.write_all(&text).await?;
        if !whole {
            return Ok(());
        }
    }
}

async fn respond(request: Request, agent: &Arc<Agent>, user: u32) -> Result<Value, String> {
    if let Request::Reload = request {
        info!("reload asked for by the control socket");
        let generation = agent.reload().await.map_err(|refused| refused.to_string())?;
        let refused = agent.view().map_err(|error| error.to_string())?.refused;
        return Ok(json!({ "generation": generation, "refused": refused }));
    }
    if let Request::Agreement(action) = request {
        return agent.agreement(action).await;
    }
    if let Request::Account(question) = request {
        return agent.accounts(question).await;
    }
    let agent = Arc::clone(agent);
    // Reports take locks and read counters: not on the threads that answer clients.
    let answered = spawn_blocking(move || report(&request, &agent, user));
    answered.await.map_err(|panic| format!("the request failed: {panic}"))?
}

fn report(request: &Request, agent: &Agent, user: u32) -> Result<Value, String> {
    let text = |error: io::Error| error.to_string();
    let value = |result: serde_json::Result<Value>| result.map_err(|error| error.to_string());
    match request {
        Request::Stats => value(serde_json::to_value(Stats::new(&agent.view().map_err(text)?))),
        Request::Status => {
            let view = agent.view().map_err(text)?;
            let number = view.generation.number;
            let state = forces::box_state(&view);
            let vips = forces::VipReport::all(&view);
            let accounts = agent.accounts_condition();
            Ok(json!({
                "state": state, "generation": number, "refused": view.refused, "vips": vips, "accounts": accounts,
            }))
        }
        Request::Force(action) => value(serde_json::to_value(agent.force(action, user)?)),
        Request::Weight { target, factor } => {
            agent.set_factor(target, *factor)?;
            Ok(json!({ "target": target, "factor": factor }))
        }
        Request::Explain(question) => value(serde_json::to_value(explained(agent, question)?)),
        Request::Dump { all } => Ok(dump(&agent.view().map_err(text)?, *all).into()),
        Request::Reload | Request::Agreement(_) | Request::Account(_) => {
            Err("this is not a report".to_owned())
        }
    }
}

/// An explanation. Where fast and slow path differ although tables changed between the two, they are asked again.
fn explained(agent: &Agent, question: &Query) -> Result<Explanation, String> {
    let text = |error: io::Error| error.to_string();
    for _ in 0..EXPLANATIONS {
        let view = agent.view().map_err(text)?;
        let explanation = explain(&view, question, |frame| agent.test_run(frame))?;
        let now = agent.view().map_err(text)?;
        let unchanged = (now.generation.number, now.epoch) == (view.generation.number, view.epoch);
        if unchanged || explanation.fast_path != FastPath::Differs {
            return Ok(explanation);
        }
    }
    Err("health changes faster than it can be explained; ask again".to_owned())
}
