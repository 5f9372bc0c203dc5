//! Arguments and exit codes of the command.

mod output;

use cdsr::{Config, Error, FailureKind, Families, Learned, Preferences, Stub, Timers, wire};
use clap::{Args, Parser, Subcommand, value_parser};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Asks an anycast redirector which servers to use for a URL.
#[derive(Debug, Parser)]
#[command(name = "cdsr", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the servers for a URL, in the order in which to try them
    Resolve(Resolve),
}

const EXIT_CODES: &str = "\
Exit status of `cdsr resolve`:
  0  handled: at least one server was named
  1  the system failed (no randomness)
  2  wrong usage: a bad option, URL or prefix list
  3  not mine: the redirector does not handle the URL
  4  retry later
  5  denied
  6  legacy: use the URL's own protocol (told so, or the host does not speak CDSR)
  7  no answer
  8  the redirector refused the request (malformed, or another protocol version)
  9  the host has no address";

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
struct Resolve {
    /// Whole URL, for example rtsp://any.cdn.acme.net/news.rm
    url: String,
    /// Ask this redirector; otherwise the prefix list and the TXT record _cdsr.HOST tell
    #[arg(long, value_name = "VIP[:PORT]", value_parser = redirector)]
    server: Option<SocketAddr>,
    /// File with the prefixes of addresses that speak CDSR, one a line
    #[arg(long, value_name = "FILE")]
    prefixes: Option<PathBuf>,
    /// Name server for all look-ups, instead of the system's; repeatable
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = name_server)]
    dns: Vec<SocketAddr>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A server that failed, not to be named again; repeatable, up to 8
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = failed_server)]
    failed: Vec<SocketAddr>,
    /// A server or prefix to be preferred if policy allows; repeatable
    #[arg(long, value_name = "ADDR[/LEN]", value_parser = net)]
    prefer: Vec<IpNet>,
    /// Token that shows that this client may have what is there
    #[arg(long)]
    token: Option<String>,
    /// Ask for IPv4 endpoints; with -6 for both (otherwise those of the family the request travels by)
    #[arg(short = '4')]
    ipv4: bool,
    /// Ask for IPv6 endpoints
    #[arg(short = '6')]
    ipv6: bool,
    /// Endpoints wanted
    #[arg(long, value_name = "N", default_value_t = wire::DEFAULT_ENDPOINTS, value_parser = value_parser!(u8).range(1..=8))]
    count: u8,
    /// Longest time to wait for redirectors, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 4000, value_parser = value_parser!(u64).range(1..=600_000))]
    timeout: u64,
    /// Pad the request to this many bytes, if it has less
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = value_parser!(u16).range(0..=1232))]
    pad: u16,
}

/// Parses arguments, does the work, prints.
pub(crate) fn run() -> ExitCode {
    let Command::Resolve(args) = Cli::parse().command;
    let start = Instant::now();
    let result = resolve(&args);
    let elapsed = start.elapsed();
    if args.json {
        println!("{}", output::json(&args.url, &result, elapsed));
    } else {
        match &result {
            Ok(resolution) => print!("{}", output::table(resolution, elapsed)),
            Err(error) => eprint!("{}", output::problem(&args.url, error)),
        }
    }
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(code(&error)),
    }
}

fn resolve(args: &Resolve) -> Result<cdsr::Resolution, Error> {
    let failed: Vec<_> = args.failed.iter().map(|server| (*server, FailureKind::Unspecified)).collect();
    let stub = Stub::new(Config {
        server: args.server,
        prefixes: args.prefixes.clone(),
        dns: args.dns.clone(),
        families: match (args.ipv4, args.ipv6) {
            (false, false) => Families::SameAsRequest,
            (true, false) => Families::V4,
            (false, true) => Families::V6,
            (true, true) => Families::Both,
        },
        max_endpoints: args.count,
        min_request: args.pad.into(),
        preferences: Preferences { prefer: args.prefer.clone(), ..Preferences::default() },
        token: args.token.clone(),
        timers: Timers { total: Duration::from_millis(args.timeout), ..Timers::default() },
        ..Config::default()
    })?;
    stub.resolve_without(&args.url, &failed)
}

fn code(error: &Error) -> u8 {
    match error {
        Error::Url(_) | Error::PrefixList(_) => 2,
        Error::NotMine { .. } => 3,
        Error::RetryLater { .. } => 4,
        Error::Denied { .. } => 5,
        Error::NotCdsr { .. } | Error::UseLegacy { .. } | Error::NoEndpoint { .. } => 6,
        Error::NoAnswer { .. } => 7,
        Error::Refused { .. } => 8,
        Error::NoAddress { .. } => 9,
        _ => 1,
    }
}

/// How the redirector was found, for people and for JSON.
fn learned(how: Learned) -> &'static str {
    match how {
        Learned::Configured => "configured",
        Learned::PrefixList => "prefix-list",
        Learned::Record => "txt-record",
        Learned::Hint => "hint",
    }
}

fn redirector(text: &str) -> Result<SocketAddr, String> {
    server(text, wire::PORT)
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    server(text, 53)
}

fn failed_server(text: &str) -> Result<SocketAddr, String> {
    server(text, 0)
}

/// An address with or without a port.
fn server(text: &str, port: u16) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    text.parse()
        .map_err(|_| "write an address, as in 203.0.113.1, 203.0.113.1:2554 or [2001:db8::1]:2554".into())
}

fn net(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "write an address or prefix, as in 192.0.2.10 or 2001:db8::/32".into())
}
