//! The content servers: nginx and a GStreamer RTSP server in each server's namespace.

use std::{fs, net::TcpStream, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    Lab,
    command::Cmd,
    topology::{Family, Node, RTSP_PATH, RTSP_PORT, WEB_PORT},
    wait::wait_for,
};

/// How long a server may take to listen; loading GStreamer's plugins for the first time takes seconds.
const START_LIMIT: Duration = Duration::from_secs(30);

const RTSP_PROGRAM: &str = include_str!("rtsp_server.py");

/// Starts the web and the RTSP server of a node without waiting for them.
pub(super) fn start(lab: &Lab, node: &Node) -> Result<()> {
    let dir = lab.dir().join(node.name);
    let site = dir.join("site");
    fs::create_dir_all(&site).with_context(|| site.display().to_string())?;
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string()).map(|()| path)
    };
    write("site/index.html", &format!("{}\n", node.name))?;
    let configuration = write("nginx.conf", &nginx_conf(&dir.display().to_string()))?;
    let program = write("rtsp_server.py", RTSP_PROGRAM)?;

    let nginx = ["nginx", "-e", "stderr", "-c"].map(String::from);
    detached(lab, node, nginx.into_iter().chain([configuration.display().to_string()]))?;
    let Some((width, height)) = node.picture else { return Ok(()) };
    // Debian's own interpreter: its bindings of GStreamer are installed for no other.
    let python = ["/usr/bin/python3".into(), program.display().to_string(), RTSP_PORT.to_string()];
    let picture = [RTSP_PATH.into(), width.to_string(), height.to_string()];
    detached(lab, node, python.into_iter().chain(picture))
}

/// Waits until both servers of a node accept connections by both families.
pub(super) fn wait_until_listening(lab: &Lab, node: &Node) -> Result<()> {
    for family in Family::ALL {
        for port in [WEB_PORT, RTSP_PORT] {
            let address = (node.own.of(family), port).into();
            let what = format!("{} listening at {address}", node.name);
            lab.within(node.name, || {
                wait_for(&what, START_LIMIT, || TcpStream::connect_timeout(&address, START_LIMIT).ok())
            })?
            .with_context(|| format!("logs are in {}", lab.dir().join(node.name).display()))?;
        }
    }
    Ok(())
}

/// Starts a program that outlives this process; it ends with its namespace.
fn detached(lab: &Lab, node: &Node, command: impl IntoIterator<Item = String>) -> Result<()> {
    let log = lab.dir().join(node.name).join("servers.log");
    let command: Vec<String> = ["setsid".into(), "--fork".into()].into_iter().chain(command).collect();
    let command: Cmd = lab.plain_exec(node.name, command);
    let line = command.to_string();
    let status = command.spawn(&log)?.wait().with_context(|| line.clone())?;
    anyhow::ensure!(status.success(), "`{line}` failed: {status}; see {}", log.display());
    Ok(())
}

/// Every path gives the file that names the server; `/healthz` is for health checks.
fn nginx_conf(dir: &str) -> String {
    format!(
        "daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n\
         \x20 access_log {dir}/access.log;\n  client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n\
         \x20 fastcgi_temp_path {dir}/fastcgi;\n  uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n\
         \x20 server {{\n    listen {WEB_PORT};\n    listen [::]:{WEB_PORT} ipv6only=on;\n    root {dir}/site;\n\
         \x20   default_type text/plain;\n    location = /healthz {{ return 200 ok; }}\n\
         \x20   location / {{ try_files /index.html =404; }}\n  }}\n}}\n"
    )
}
