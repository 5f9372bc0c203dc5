//! Recursive resolvers in namespaces of the lab, and a root server from which they find their way to the box: it
//! delegates the box's zone to the VIP, as a parent zone of the Internet would.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    Client, DnsReport, Lab,
    command::Cmd,
    topology::{BOX, Family, Node, node},
    wait::wait_for,
};

/// How long a resolver may take to listen.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The zone that is delegated to the VIP of [`BOX`].
const ZONE: &str = "cdn.acme.net";
/// A name of another network, which the root server knows: its addresses are the root server's own.
pub const PARTNER_NAME: &str = "edge.partner.example";
/// Name of a [`PartnerServer`]: only who refers to it can tell its addresses.
pub const PARTNER_SERVER: &str = "ns.partner.cdn.acme.net";

/// A program that resolves names for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Software {
    /// `unbound`, with strict QNAME minimisation (RFC 9156) and names in random case.
    Unbound,
    /// `kresd`, which varies case, too, and asks for whole names in a zone that it has found.
    KnotResolver,
    /// `unbound` as above, that tells the box its clients' networks (RFC 7871).
    UnboundForNetworks,
}

impl Software {
    /// Those that ask for themselves.
    pub const ALL: [Self; 2] = [Self::Unbound, Self::KnotResolver];

    /// Name of the program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Unbound | Self::UnboundForNetworks => "unbound",
            Self::KnotResolver => "kresd",
        }
    }

    /// Port that it listens at.
    fn port(self) -> u16 {
        match self {
            Self::Unbound | Self::UnboundForNetworks => 53,
            Self::KnotResolver => 5300,
        }
    }
}

/// A running DNS server; it is killed when the value is dropped.
#[derive(Debug)]
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The root of the lab's name space: all there is in it is the delegation to the box.
#[derive(Debug)]
pub struct RootServer<'a> {
    lab: &'a Lab,
    at: &'static Node,
    _server: Server,
}

impl<'a> RootServer<'a> {
    /// Starts it at the node `name`.
    ///
    /// # Errors
    /// If it is not ready in time.
    ///
    /// # Panics
    /// If the lab has no such node.
    pub fn start(lab: &'a Lab, name: &str) -> Result<Self> {
        let at = node(name);
        let dir = lab.dir().join("root-server");
        let vip = node(BOX).vip.context("the box has no VIP")?;
        let records = format!(
            "{}{ZONE}. 3600 IN NS ns1.{ZONE}.\nns1.{ZONE}. 3600 IN A {}\nns1.{ZONE}. 3600 IN AAAA {}\n\
             {PARTNER_NAME}. 60 IN A {}\n{PARTNER_NAME}. 60 IN AAAA {}\n",
            root_hints(at, &Family::ALL),
            vip.v4,
            vip.v6,
            at.own.v4,
            at.own.v6
        );
        Ok(Self { lab, at, _server: authority(lab, at, &dir, ".", "ns.root.", &records)? })
    }
}

/// A name server of another network, which knows one zone.
#[derive(Debug)]
pub struct PartnerServer {
    _server: Server,
}

impl PartnerServer {
    /// Starts it at the node `name`, for a zone with these records beside SOA and NS.
    ///
    /// # Errors
    /// If it is not ready in time.
    ///
    /// # Panics
    /// If the lab has no such node.
    pub fn start(lab: &Lab, name: &str, zone: &str, records: &str) -> Result<Self> {
        let dir = lab.dir().join(format!("partner-{name}"));
        let records = format!("{zone}. 60 IN NS {PARTNER_SERVER}.\n{records}");
        Ok(Self {
            _server: authority(
                lab,
                node(name),
                &dir,
                &format!("{zone}."),
                &format!("{PARTNER_SERVER}."),
                &records,
            )?,
        })
    }
}

/// Starts a server that is authoritative for a zone.
fn authority(lab: &Lab, at: &Node, dir: &Path, zone: &str, primary: &str, records: &str) -> Result<Server> {
    let soa = format!("{zone} 86400 IN SOA {primary} hostmaster.{primary} 1 3600 600 86400 60\n");
    write(dir, "zone", &(soa + records))?;
    let more = format!(
        "auth-zone:\n  name: \"{zone}\"\n  zonefile: zone\n  for-downstream: yes\n  for-upstream: no\n"
    );
    let addresses = Family::ALL.map(|family| SocketAddr::new(at.own.of(family), 53));
    unbound(lab, at, dir, &addresses, "module-config: iterator", &more)
}

/// The root's name server with its addresses, as records.
fn root_hints(at: &Node, families: &[Family]) -> String {
    let address =
        |family: &Family| format!("ns.root. 86400 IN {} {}\n", family.record_type(), at.own.of(*family));
    families.iter().map(address).fold(". 86400 IN NS ns.root.\n".to_owned(), |text, line| text + &line)
}

/// A resolver at a client's address that asks over one family.
#[derive(Debug)]
pub struct Resolver<'a> {
    /// What it is.
    pub software: Software,
    /// Where it is: servers take it for a client from there.
    pub at: &'static Node,
    /// The family by which it asks and is asked.
    pub family: Family,
    _root: &'a RootServer<'a>,
    _server: Server,
}

impl<'a> Resolver<'a> {
    /// Starts it at the node `name`.
    ///
    /// # Errors
    /// If it is not ready in time.
    ///
    /// # Panics
    /// If the lab has no such node.
    pub fn start(root: &'a RootServer<'a>, name: &str, software: Software, family: Family) -> Result<Self> {
        let (lab, at) = (root.lab, node(name));
        let dir = lab.dir().join(format!("{software:?}-{name}-{}", family.name()));
        let address = SocketAddr::new(at.own.of(family), software.port());
        let server = match software {
            Software::Unbound | Software::UnboundForNetworks => {
                write(&dir, "root.hints", &root_hints(root.at, &[family]))?;
                let [v4, v6] = Family::ALL.map(|each| if each == family { "yes" } else { "no" });
                let vip = node(BOX).vip.context("the box has no VIP")?;
                let modules = match software {
                    Software::UnboundForNetworks => format!(
                        "module-config: \"subnetcache validator iterator\"\n  send-client-subnet: {}\n  \
                         send-client-subnet: {}",
                        vip.v4, vip.v6
                    ),
                    _ => "module-config: iterator".to_owned(),
                };
                let options = format!(
                    "{modules}\n  root-hints: root.hints\n  do-ip4: {v4}\n  do-ip6: {v6}\n  qname-minimisation: yes\n  \
                     qname-minimisation-strict: yes\n  use-caps-for-id: yes"
                );
                unbound(lab, at, &dir, &[address], &options, "")?
            }
            Software::KnotResolver => kresd(lab, at, &dir, address, root.at.own.of(family))?,
        };
        Ok(Self { software, at, family, _root: root, _server: server })
    }

    /// Asks it with `dig`, from `client`; `query` is what follows.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn ask(&self, client: &Client<'_>, query: &[&str]) -> Result<DnsReport> {
        let port = self.software.port().to_string();
        client.dig(self.at.own.of(self.family), &[&["-p", &port], query].concat())
    }
}

fn unbound(
    lab: &Lab,
    at: &Node,
    dir: &Path,
    addresses: &[SocketAddr],
    options: &str,
    more: &str,
) -> Result<Server> {
    let interfaces: String = addresses
        .iter()
        .map(|address| format!("  interface: {}@{}\n", address.ip(), address.port()))
        .collect();
    let configuration = format!(
        "server:\n  username: \"\"\n  chroot: \"\"\n  directory: \"{}\"\n  pidfile: \"\"\n  use-syslog: no\n\
         {interfaces}  access-control: 0.0.0.0/0 allow\n  access-control: ::/0 allow\n  \
         {options}\nremote-control:\n  control-enable: no\n{more}",
        dir.display()
    );
    let file = write(dir, "unbound.conf", &configuration)?;
    start(lab, at, dir, addresses, &["unbound", "-d", "-c", &file])
}

fn kresd(lab: &Lab, at: &Node, dir: &Path, address: SocketAddr, root: IpAddr) -> Result<Server> {
    // Trust anchors, the clock and the root's own list of servers are those of another name space.
    let other = ["priming", "detect_time_skew", "detect_time_jump", "ta_update"];
    let unload: String = other.iter().map(|module| format!("modules.unload('{module}')\n")).collect();
    let configuration = format!(
        "net.ipv4, net.ipv6 = {}, {}\nnet.listen('{}', {})\nmodules = {{ 'hints > iterate' }}\n{unload}\
         hints.root({{ ['ns.root.'] = {{ '{root}' }} }})\ntrust_anchors.remove('.')\n\
         cache.size = 10 * MB\ncache.min_ttl(0)\n",
        address.is_ipv4(),
        address.is_ipv6(),
        address.ip(),
        address.port()
    );
    let file = write(dir, "kresd.conf", &configuration)?;
    start(lab, at, dir, &[address], &["kresd", "-n", "-c", &file, &dir.display().to_string()])
}

/// Starts a DNS server at a node and waits until it accepts connections at all `addresses`.
fn start(lab: &Lab, at: &Node, dir: &Path, addresses: &[SocketAddr], command: &[&str]) -> Result<Server> {
    let command: Cmd = lab.plain_exec(at.name, command);
    let line = command.to_string();
    let log = dir.join("log");
    let server = Server(command.spawn(&log)?);
    for address in addresses {
        let connect = || TcpStream::connect_timeout(address, START_LIMIT).ok();
        lab.within(at.name, || wait_for(&format!("`{line}` listening at {address}"), START_LIMIT, connect))?
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    }
    Ok(server)
}

/// Writes a file in `dir`, which need not exist, and gives its path.
fn write(dir: &Path, name: &str, text: &str) -> Result<String> {
    let path = dir.join(name);
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| path.display().to_string())?;
    Ok(path.display().to_string())
}
