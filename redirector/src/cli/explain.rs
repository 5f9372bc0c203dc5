//! `redirector explain` and `redirector dump`: asked of a running box, or of a configuration.

use super::Source;
use super::client::ask;
use crate::config;
use crate::manage::control::Request;
use crate::manage::dump::dump as dump_view;
use crate::manage::explain::{Explanation, Protocol, Question, Wanted, explain as explain_view};
use crate::manage::view::View;
use anyhow::{Result, anyhow};
use clap::Args;
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

/// A client's question.
#[derive(Debug, Args)]
pub(super) struct QuestionArgs {
    /// Address of the client, or of the resolver that asks for it.
    #[arg(long, value_name = "IP")]
    client: IpAddr,
    /// Network on whose behalf the resolver asks (EDNS client subnet), as 198.51.100.0/24; with --name.
    #[arg(long, value_name = "PREFIX", conflicts_with = "url")]
    ecs: Option<IpNet>,
    /// Domain name, asked for by DNS.
    #[arg(long, required_unless_present = "url")]
    name: Option<String>,
    /// Record type of the name; by default A or AAAA, as the client's family.
    #[arg(long = "type", value_name = "TYPE", requires = "name")]
    record_type: Option<String>,
    /// URL.
    #[arg(long, conflicts_with = "name")]
    url: Option<String>,
    /// How the URL is asked for; by default by CDSR if a VIP of the client's family speaks it, else as its scheme says.
    #[arg(long, value_enum, requires = "url")]
    protocol: Option<Protocol>,
    /// VIP address that is asked; by default the first of the client's family that speaks the protocol and knows the
    /// name.
    #[arg(long, value_name = "IP")]
    vip: Option<IpAddr>,
}

impl QuestionArgs {
    fn question(self) -> Question {
        let Self { client, ecs, name, record_type, url, protocol, vip } = self;
        let wanted = match (name, url) {
            (Some(name), _) => Wanted::Name { name, record_type },
            (None, url) => Wanted::Url { url: url.unwrap_or_default(), protocol },
        };
        Question { client, ecs, wanted, vip }
    }
}

pub(super) fn explain(source: &Source, question: QuestionArgs, json: bool) -> Result<ExitCode> {
    let question = question.question();
    let explanation: Explanation = match &source.config {
        Some(path) => {
            let view = load(path)?;
            explain_view(&view, &question, |_frame| Ok(None)).map_err(|problem| anyhow!(problem))?
        }
        None => serde_json::from_value(ask(&source.socket.socket, &Request::Explain(question))?)?,
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&explanation)?);
    } else {
        print!("{explanation}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn dump(source: &Source, all: bool) -> Result<ExitCode> {
    match &source.config {
        Some(path) => print!("{}", dump_view(&load(path)?, all)),
        None => {
            let text = ask(&source.socket.socket, &Request::Dump { all })?;
            print!("{}", text.as_str().unwrap_or_default());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn load(path: &Path) -> Result<View> {
    View::alone(config::load(path)?).map_err(|refused| anyhow!(refused))
}
