//! What the command prints.

use super::learned;
use cdsr::{Error, Resolution, Scope};
use serde_json::{Value, json};
use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

/// The result for programs. Keys are never removed or given another meaning; new ones may come.
pub(crate) fn json(url: &str, result: &Result<Resolution, Error>, elapsed: Duration) -> Value {
    let elapsed_ms = elapsed.as_micros() as f64 / 1000.0;
    match result {
        Ok(resolution) => {
            let reply = resolution.reply();
            json!({
                "outcome": "handled",
                "url": resolution.url().as_str(),
                "redirector": resolution.redirector().to_string(),
                "learned": learned(resolution.learned()),
                "attempts": resolution.attempts(),
                "elapsed_ms": elapsed_ms,
                "reason": reply.reason,
                "lifetime_s": reply.lifetime.as_secs(),
                "scope": scope(reply.scope),
                "covers": resolution.covers(),
                "handled_suffix": reply.handled_suffix,
                "more": reply.more,
                "endpoints": resolution.endpoints().iter().map(|e| json!({
                    "address": e.server.ip().to_string(),
                    "port": e.server.port(),
                    "order": e.order,
                    "share": e.share,
                    "network": e.network,
                    "class": e.class,
                })).collect::<Vec<_>>(),
            })
        }
        Err(error) => json!({
            "outcome": outcome(error),
            "url": url,
            "elapsed_ms": elapsed_ms,
            "message": message(error),
            "reason": reason(error),
            "retry_after_ms": match error {
                Error::RetryLater { after } => Some(after.as_millis() as u64),
                _ => None,
            },
            "legacy_addresses": error.legacy_addresses(),
        }),
    }
}

/// The result for people.
pub(crate) fn table(resolution: &Resolution, elapsed: Duration) -> String {
    let reply = resolution.reply();
    let mut out = String::new();
    let plural = if resolution.attempts() == 1 { "" } else { "s" };
    let (redirector, how) = (resolution.redirector(), learned(resolution.learned()));
    let (attempts, ms) = (resolution.attempts(), elapsed.as_secs_f64() * 1000.0);
    let life = match reply.lifetime.as_secs() {
        0 => "this use only".to_owned(),
        seconds => format!("{seconds} s"),
    };
    let covers = match reply.scope {
        Scope::Url => "this URL only".to_owned(),
        Scope::Host => format!("every URL at {}", resolution.covers()),
        Scope::Prefix(_) => format!("every URL that begins with {}", resolution.covers()),
    };
    let mut line = |key: &str, value: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{key:<11} {value}");
    };
    line("url", format_args!("{}", resolution.url()));
    line("redirector", format_args!("{redirector} ({how}), {attempts} datagram{plural}, {ms:.1} ms"));
    line("reason", format_args!("{}", reply.reason));
    line("valid for", format_args!("{life}, {covers}"));
    if let Some(suffix) = &reply.handled_suffix {
        line("handles", format_args!("every host under {suffix}"));
    }
    let _ = writeln!(
        out,
        "\n{:>2}  {:<39} {:>5} {:>5} {:>5} {:>7} {:>5}",
        "", "address", "port", "order", "share", "network", "class"
    );
    for (number, e) in (1..).zip(resolution.endpoints()) {
        let (address, port) = (e.server.ip().to_string(), e.server.port());
        let _ = writeln!(
            out,
            "{number:>2}  {address:<39} {port:>5} {:>5} {:>5} {:>7} {:>5}",
            e.order, e.share, e.network, e.class
        );
    }
    if reply.more {
        out.push_str("The redirector knows more; --count or --pad makes room for them.\n");
    }
    out
}

/// A failure for people: what, where, and what can be done.
pub(crate) fn problem(url: &str, error: &Error) -> String {
    let mut out = format!("cdsr: {url}: {}\n", message(error));
    if let Some(addresses) = error.legacy_addresses().filter(|a| !a.is_empty()) {
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "cdsr: the URL's own protocol can be used at {}", list.join(", "));
    }
    out
}

fn message(error: &Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn outcome(error: &Error) -> &'static str {
    match error {
        Error::Url(_) => "bad-url",
        Error::PrefixList(_) => "bad-prefix-list",
        Error::NoAddress { .. } => "no-address",
        Error::NotCdsr { .. } => "not-cdsr",
        Error::NotMine { .. } => "not-mine",
        Error::UseLegacy { .. } => "use-legacy",
        Error::NoEndpoint { .. } => "no-endpoint",
        Error::NoAnswer { .. } => "no-answer",
        Error::Refused { version: true, .. } => "version-not-supported",
        Error::Refused { .. } => "bad-request",
        Error::RetryLater { .. } => "retry-later",
        Error::Denied { .. } => "denied",
        _ => "failed",
    }
}

fn reason(error: &Error) -> Option<u16> {
    match error {
        Error::NotMine { reason, .. }
        | Error::UseLegacy { reason, .. }
        | Error::NoEndpoint { reason, .. }
        | Error::Refused { reason, .. }
        | Error::Denied { reason } => Some(*reason),
        _ => None,
    }
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Url => "url",
        Scope::Host => "host",
        Scope::Prefix(_) => "prefix",
    }
}
