//! The configuration of a box in the lab: each region's clients go to their region's server, then to the neighbour's,
//! then to the one far away.

use super::topology::{Addresses, Node, RTSP_PORT, Role, WEB_PORT, node, with_role};

/// A name that is answered with a server's address.
pub const SERVER_NAME: &str = "index.web.abc.cdn.acme.net";
/// A name that is answered with the VIP, where clients are then redirected by HTTP, RTSP and CDSR.
pub const VIP_NAME: &str = "abc.cdn.acme.net";

/// For clients that are few and ask as fast as they can.
pub const NO_LIMITS: &str = "[limits]\nanswers_per_second = 0\nerrors_per_second = 0\n\
                             cdsr_per_second = 0\npunts_per_second = 0\npunts_total_per_second = 0\n";

/// What a box of the lab runs with; the fast path is attached if it can be.
///
/// # Panics
/// If `name` is not a box of the lab.
#[must_use]
pub fn configuration(name: &str) -> String {
    let this = node(name);
    let vip = this.vip.unwrap_or_else(|| panic!("{name} has no VIP"));
    let regions: String = with_role(Role::Client).map(region).collect();
    let targets: String = with_role(Role::Server).map(target).collect();
    format!(
        "# The redirector in `{name}` of the lab.\n\
         [box]\nname = \"{name}\"\nmanagement = \"{}\"\ninterfaces = [\"eth0\"]\n\n\
         [fleet]\nkey = \"5eed5eed5eed5eed5eed5eed5eed5eed\"   # of a real fleet: openssl rand -hex 16\n\n\
         # A client of the lab asks as fast as it can, where a real network has thousands of clients.\n\
         {NO_LIMITS}\n\
         # The anycast addresses: all four protocols are answered at each.\n\
         [[vip]]\ncdn = \"acme\"\naddresses = {}\n\n\
         # Where clients are, by their prefixes.\n{regions}\
         # Servers. A refused or slow health check takes one out after half a second.\n{targets}\
         {POLICY}",
        this.own.v4,
        list(vip)
    )
}

fn list(addresses: Addresses) -> String {
    format!("[\"{}\", \"{}\"]", addresses.v4, addresses.v6)
}

fn region(client: &Node) -> String {
    let [v4, v6] = client.region();
    let name = client.name.trim_start_matches("c-");
    format!("[[region]]\nname = \"{name}\"\nprefixes = [\"{v4}\", \"{v6}\"]\n\n")
}

fn target(server: &Node) -> String {
    format!(
        "[[target]]\nname = \"{}\"\nsite = \"{}\"\naddresses = {}\nports = {{ http = {WEB_PORT}, rtsp = {RTSP_PORT} }}\n\
         check = {{ http = \"/healthz\", every = \"200ms\", timeout = \"200ms\", rise = 1, fall = 2 }}\n\n",
        server.name,
        server.name.trim_start_matches("s-"),
        list(server.own)
    )
}

const POLICY: &str = r#"[[pool]]
name = "fr"
targets = ["s-fr"]

[[pool]]
name = "de"
targets = ["s-de"]

[[pool]]
name = "deep"
targets = ["s-deep"]

# Of the tiers that hold for a client's region, the first with a usable server answers.
[[coverage]]
name = "nearest"
tiers = [
  { region = "fr", pools = ["fr"] },
  { region = "de", pools = ["de"] },
  { region = "fr", pools = ["de"] },
  { region = "de", pools = ["fr"] },
  { region = "*", pools = ["deep"] },
]

# Asked by DNS for the server itself.
[[service]]
name = "web"
coverage = "nearest"
dns = "server"
urls = ["http://{object}.web.{customer}.cdn.acme.net/*"]

# Asked by DNS for the VIP; HTTP, RTSP and CDSR there lead to the server.
[[service]]
name = "media"
coverage = "nearest"
dns = "vip"
urls = ["http|rtsp://{customer}.cdn.acme.net/*"]

[[zone]]
suffix = "cdn.acme.net"
names = [
  { labels = "{object}.web.{customer}", service = "web" },
  { labels = "{customer}", service = "media" },
]
"#;
