//! What the demo prints.

use redirector_tests::lab::{
    AnswerPath, Row,
    config::{SERVER_NAME, VIP_NAME},
    topology::{BOX, NODES, Role, node, with_role},
};

/// Who is there, and what is asked.
pub(super) fn introduction() -> String {
    let mut text =
        String::from("Clients, servers and the redirector are in network namespaces of their own:\n");
    for client in with_role(Role::Client) {
        text += &format!("  client {:<6} {:<12} {}\n", client.name, client.own.v4, client.own.v6);
    }
    for server in with_role(Role::Server) {
        text += &format!("  server {:<6} {:<12} {}\n", server.name, server.own.v4, server.own.v6);
    }
    if let Some(vip) = node(BOX).vip {
        text += &format!("  VIP of {BOX:<6} {:<12} {}, the name server of all clients\n", vip.v4, vip.v6);
    }
    text + &format!(
        "By CDSR, HTTP and RTSP they ask for {VIP_NAME}, by DNS for {SERVER_NAME}.\n\
         Each program does so over IPv4 and over IPv6; all four speak both.\n"
    )
}

/// Client, protocol, answer, reason and path of each row.
pub(super) fn table(rows: &[Row]) -> String {
    let line = |cells: [&str; 7]| {
        let [client, family, protocol, answer, reason, path, met] = cells;
        format!("  {client:<7}{family:<6}{protocol:<21}{answer:<28}{reason:<12}{path:<34}{met}\n")
    };
    let mut text = line(["client", "over", "asks by", "is sent to", "reason", "answered by", ""]);
    for row in rows {
        let (answer, problem) = match &row.answer {
            Ok(addresses) => {
                (addresses.iter().map(|address| named(*address)).collect::<Vec<_>>().join(" "), None)
            }
            Err(problem) => ("-".into(), Some(problem)),
        };
        let reason = row.decision().map_or("-", |(_, reason)| reason);
        let met = if row.met() { "ok" } else { "WRONG" };
        let protocol = row.protocol.name();
        text += &line([row.client.name, row.family.name(), protocol, &answer, reason, &path(row), met]);
        if let Some(problem) = problem {
            text += &format!("    {}\n", problem.replace('\n', "\n    "));
        }
    }
    text
}

/// An address with the server's name.
fn named(address: std::net::IpAddr) -> String {
    let owner = NODES.iter().find(|node| [node.own.v4.into(), node.own.v6.into()].contains(&address));
    owner.map_or_else(|| address.to_string(), |owner| format!("{} {address}", owner.name))
}

/// Which part of the box chose the server, and which one answered the name before.
fn path(row: &Row) -> String {
    let Some((decided, _)) = row.decision() else { return "-".into() };
    let name = row.reasons.iter().find(|(_, reason)| reason == "vip-address");
    let name = name.map_or_else(String::new, |(path, _)| format!(" (its name by {})", path.name()));
    let slow = if *decided == AnswerPath::Slow { "" } else { " fast path" };
    format!("{}{slow}{name}", decided.name())
}
