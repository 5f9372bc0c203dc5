//! Commands that talk to a running box by its control socket.

use crate::dataplane;
use crate::manage::control::{Request, Response};
use crate::manage::forces::VipReport;
use crate::manage::stats::Stats;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

/// Sends one request and gives its result.
pub(super) fn ask(socket: &Path, request: &Request) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).with_context(|| {
        format!("cannot talk to a box at {}: does it run? `--socket PATH` names another", socket.display())
    })?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text).context("the box went away")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("the box went away")?;
    match serde_json::from_str(&line).context("the box gave no answer")? {
        Response::Ok(value) => Ok(value),
        Response::Error(problem) => bail!(problem),
    }
}

pub(super) fn reload(socket: &Path) -> Result<ExitCode> {
    let answer = ask(socket, &Request::Reload)?;
    println!("generation {}", answer["generation"]);
    not_in_effect(&answer);
    Ok(ExitCode::SUCCESS)
}

/// Prints what of the configuration a box refused.
fn not_in_effect(answer: &Value) {
    for finding in answer["refused"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("not in effect: {finding}");
    }
}

pub(super) fn stats(socket: &Path, json: bool) -> Result<ExitCode> {
    let stats: Stats = serde_json::from_value(ask(socket, &Request::Stats)?)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&stats)?);
    } else {
        print!("{stats}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn status(socket: &Path) -> Result<ExitCode> {
    let status = ask(socket, &Request::Status)?;
    let state = status["state"].as_str().unwrap_or_default();
    println!("{state}, generation {}", status["generation"]);
    not_in_effect(&status);
    let vips: Vec<VipReport> = serde_json::from_value(status["vips"].clone())?;
    vips.iter().filter(|vip| vip.said.is_some()).for_each(|vip| println!("{vip}"));
    Ok(if state == "ready" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn detach(socket: &Path) -> Result<ExitCode> {
    if UnixStream::connect(socket).is_ok() {
        bail!("a box is running, and would attach its program again: end it first");
    }
    dataplane::detach().context("the fast path stays attached")?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn weight(socket: &Path, target: String, factor: u16) -> Result<ExitCode> {
    ask(socket, &Request::Weight { target: target.clone(), factor })?;
    println!("{target}: load factor {factor}/256 until the next reload");
    Ok(ExitCode::SUCCESS)
}
