//! `redirector run`: the box itself, in the foreground.

use super::RunArgs;
use crate::manage::agent::{Agent, Options};
use crate::manage::control::ControlSocket;
use anyhow::{Context as _, Result};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// Variable of the environment that says what is logged: `debug`, `redirector::feed=trace` and so on.
const LOG_FILTER: &str = "REDIRECTOR_LOG";

pub(super) fn run(args: RunArgs) -> Result<ExitCode> {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .with_env_var(LOG_FILTER)
        .from_env()
        .with_context(|| format!("{LOG_FILTER} in the environment"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: RunArgs) -> Result<()> {
    // Before anything else: a signal during the start must not end the box half-way, nor be lost.
    let mut signals = Signals::new().context("cannot handle signals")?;
    let options = Options { config: args.config, state: args.state, no_xdp: args.no_xdp };
    let starting = Agent::start(options);
    let agent = tokio::select! {
        started = starting => started?,
        () = signals.end() => return Ok(()),
    };
    // Last, because who can connect to it takes the box to be ready.
    let control = tokio::spawn(ControlSocket::bind(&args.socket.socket)?.serve(Arc::clone(&agent)));
    info!("ready; control socket {}", args.socket.socket.display());
    while signals.next().await == Told::Reload {
        info!("SIGHUP: reload");
        // What was wrong is in the log.
        let _ = agent.reload().await;
    }
    info!("ending");
    control.abort();
    // The outcome of an aborted task says nothing; waiting for it has the socket's file removed.
    let _ = control.await;
    agent.stop().await;
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.reload.recv() => Told::Reload,
        }
    }

    /// Until the box is to end.
    async fn end(&mut self) {
        while self.next().await != Told::End {}
    }
}

/// What a signal tells the box.
#[derive(PartialEq, Eq)]
enum Told {
    End,
    Reload,
}
