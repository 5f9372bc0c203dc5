//! The command line: `run`, and the commands that ask or tell a running box something.

mod account;
mod agreement;
mod check;
mod client;
mod explain;
mod force;
mod names;
mod run;

use crate::manage::forces::Whom;
use crate::state::forces::Force;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Where a box listens for commands unless told otherwise.
const SOCKET: &str = "/run/redirector/control.sock";
/// Where a box keeps its state unless told otherwise.
const STATE: &str = "/var/lib/redirector";

/// Anycast redirector: sends each client to its server, by DNS, CDSR, HTTP and RTSP.
#[derive(Debug, Parser)]
#[command(name = "redirector", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a box in the foreground; logs to stderr. SIGHUP reloads, SIGTERM ends it.
    Run(RunArgs),
    /// Tells everything that is wrong with a configuration. Exit status 1: it would be refused.
    Check {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Makes a box read its configuration again; tells what was wrong if it was refused.
    Reload(SocketArgs),
    /// Shows what a box has answered, and how its targets are.
    Stats {
        #[command(flatten)]
        socket: SocketArgs,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Explains why a client gets what it gets: which rule, which candidates, what removed each, and what the fast path
    /// does.
    Explain {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        question: explain::QuestionArgs,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes and checks signed and sealed names, and tokens (docs/names.md).
    Names {
        #[command(subcommand)]
        command: names::Command,
    },
    /// Shows what is in the tables that answers come from.
    Dump {
        #[command(flatten)]
        source: Source,
        /// Everything, however much it is.
        #[arg(long)]
        all: bool,
    },
    /// Shows whether a box is ready, and what of its configuration is not in effect. Exit status 1: something is not.
    Status(SocketArgs),
    /// Detaches the fast path that a box has left answering when it ended.
    Detach(SocketArgs),
    /// Shows agreements about other CDNs' content, and offers, accepts, changes and ends them: at once, and until the
    /// configuration says something new of them.
    Agreement {
        #[command(flatten)]
        socket: SocketArgs,
        #[command(subcommand)]
        action: agreement::Command,
    },
    /// Shows and exports accounts: what was served for whom.
    Account {
        #[command(flatten)]
        from: account::From,
        #[command(subcommand)]
        action: account::Command,
    },
    /// Sends no new clients to targets, pools, or a VIP or box as far as that is announced; to the clients of a region
    /// none of its own servers. Kept over restarts.
    Drain {
        #[command(flatten)]
        socket: SocketArgs,
        #[command(flatten)]
        whom: Whom,
        #[command(flatten)]
        terms: force::Terms,
    },
    /// Takes something to be well or failed, whatever checks and load say. Kept over restarts.
    Force {
        #[command(flatten)]
        socket: SocketArgs,
        /// As well or as failed.
        way: force::Way,
        #[command(flatten)]
        whom: Whom,
        #[command(flatten)]
        terms: force::Terms,
    },
    /// Takes back what `drain` and `force` have said; by a pattern, of all names that match it.
    Release {
        #[command(flatten)]
        socket: SocketArgs,
        #[command(flatten)]
        whom: Whom,
    },
    /// Shows what is drained or forced: why, since when, until when, and by whom.
    States {
        #[command(flatten)]
        socket: SocketArgs,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sets the load factor of a target, at once and until the next reload or restart.
    ///
    /// The target gets that part of its configured share; 0 gives it no new clients. Only clients that must move do.
    Weight {
        #[command(flatten)]
        socket: SocketArgs,
        /// Name of the target.
        target: String,
        /// In 1/256 of the configured share: 0 to 256.
        #[arg(value_parser = clap::value_parser!(u16).range(0..=256))]
        factor: u16,
    },
}

/// How to run a box.
#[derive(Debug, Args)]
struct RunArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Sockets alone: attaches no XDP program, whatever the configuration says.
    #[arg(long)]
    no_xdp: bool,
    /// Where the last good state is kept between runs.
    #[arg(long, value_name = "DIR", default_value = STATE)]
    state: PathBuf,
    #[command(flatten)]
    socket: SocketArgs,
}

/// Where a box is talked to.
#[derive(Debug, Args)]
struct SocketArgs {
    /// Control socket of the box.
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

/// Who is asked: a running box, or a configuration as a box would start with it, with every target up.
#[derive(Debug, Args)]
struct Source {
    #[command(flatten)]
    socket: SocketArgs,
    /// Asks this configuration instead of a running box.
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
}

/// Runs the program: what its command line says.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Check { config } => return check::check(&config),
        Command::Reload(args) => client::reload(&args.socket),
        Command::Stats { socket, json } => client::stats(&socket.socket, json),
        Command::Explain { source, question, json } => explain::explain(&source, question, json),
        Command::Names { command } => names::names(&command),
        Command::Dump { source, all } => explain::dump(&source, all),
        Command::Status(args) => client::status(&args.socket),
        Command::Detach(args) => client::detach(&args.socket),
        Command::Agreement { socket, action } => agreement::run(&socket.socket, action),
        Command::Account { from, action } => account::run(from, action),
        Command::Drain { socket, whom, terms } => force::say(&socket.socket, Force::Drained, whom, terms),
        Command::Force { socket, way, whom, terms } => force::say(&socket.socket, way.into(), whom, terms),
        Command::Release { socket, whom } => force::release(&socket.socket, whom),
        Command::States { socket, json } => force::states(&socket.socket, json),
        Command::Weight { socket, target, factor } => client::weight(&socket.socket, target, factor),
    };
    done.unwrap_or_else(|error| {
        eprintln!("redirector: {error:#}");
        ExitCode::FAILURE
    })
}
