//! `cargo xtask lab`: the network of the tests and the demo, standing until it is taken down.

use std::{ffi::OsString, fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use redirector_tests::lab::{
    Lab,
    config::{SERVER_NAME, VIP_NAME, configuration},
    topology::{BOX, NODES, Node, ROUTER, Role, names},
};

use crate::setup::{self, Purpose};

#[derive(Subcommand)]
pub(crate) enum LabCommand {
    /// Build the network and start its servers; they run until `down`.
    Up,
    /// Remove the network, or what a broken `up` left of it.
    Down,
    /// Run a program at a node: c-fr, c-de, rt, box, box2, s-fr, s-de or s-deep.
    Exec {
        /// Where to run it.
        node: String,
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Show what is there.
    Status,
}

pub(crate) fn run(command: &LabCommand) -> Result<ExitCode> {
    match command {
        LabCommand::Up => up()?,
        LabCommand::Down => Lab::take_down()?,
        LabCommand::Exec { node, command } => return exec(node, command),
        LabCommand::Status => match Lab::standing() {
            Some(lab) => print!("{}", describe(&lab)),
            None => {
                println!("the lab is down; `cargo xtask lab up` builds it");
                return Ok(ExitCode::FAILURE);
            }
        },
    }
    Ok(ExitCode::SUCCESS)
}

fn up() -> Result<()> {
    setup::ensure(&[Purpose::Test, Purpose::Demo])?;
    let lab = Lab::stand()?;
    for node in NODES.iter().filter(|node| node.role == Role::Box) {
        let file = lab.dir().join(node.name).join("redirector.toml");
        fs::write(&file, configuration(node.name)).with_context(|| file.display().to_string())?;
    }
    print!("{}", describe(&lab));
    Ok(())
}

fn exec(node: &str, command: &[OsString]) -> Result<ExitCode> {
    let Some(lab) = Lab::standing() else { bail!("the lab is down: `cargo xtask lab up` builds it") };
    if !names().any(|name| name == node) {
        bail!("the lab has no node `{node}`; there are {}", names().collect::<Vec<_>>().join(", "));
    }
    let status = lab.exec(node, command).status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The nodes with their addresses, and what to try.
fn describe(lab: &Lab) -> String {
    let mut text = format!("{:<8}{:<12}{:<14}{:<20}what\n", "node", "namespace", "IPv4", "IPv6");
    let mut row = |name: &str, v4: &str, v6: &str, what: &str| {
        text += &format!("{name:<8}{:<12}{v4:<14}{v6:<20}{what}\n", lab.namespace(name));
    };
    row(ROUTER, "", "", "router between all others; its links are named after the nodes");
    for node in &NODES {
        row(node.name, &node.own.v4.to_string(), &node.own.v6.to_string(), &purpose(node));
    }
    let dir = lab.dir().join(BOX);
    let dir = dir.display();
    text + &format!(
        "\nNames: {SERVER_NAME} is answered with a server, {VIP_NAME} with the VIP.\n\
         Clients use the VIP of `{BOX}` as their name server. Run the redirector there:\n\
         \x20 cargo xtask build\n\
         \x20 cargo xtask lab exec {BOX} target/release/redirector run --config {dir}/redirector.toml \
         --state {dir}/state --socket {dir}/control.sock\n\
         and ask it:\n\
         \x20 cargo xtask lab exec c-fr dig {SERVER_NAME}\n\
         \x20 cargo xtask lab exec c-de curl -L http://{VIP_NAME}/\n\
         \x20 cargo xtask lab exec c-de ffprobe -rtsp_transport tcp rtsp://{VIP_NAME}/live\n\
         \x20 cargo xtask lab exec c-fr target/release/cdsr resolve http://{VIP_NAME}/\n"
    )
}

fn purpose(node: &Node) -> String {
    match (node.role, node.vip) {
        (Role::Client, _) => format!("client; its region is {}", node.region().join(" and ")),
        (Role::Server, _) => "web server on port 80, video at rtsp port 8554, /live".into(),
        (Role::Box, Some(vip)) => format!("redirector; VIPs {} and {}", vip.v4, vip.v6),
        (Role::Box, None) => "redirector".into(),
    }
}
