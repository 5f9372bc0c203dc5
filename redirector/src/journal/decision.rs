//! One decision, as it is told to subscribers and written to the log.

use redirector_core::sample;
use redirector_core::table::{NONE, Tables};
use redirector_core::verdict::{MAX_ENDPOINTS, Reason};
use redirector_core::wire::Trace;
use redirector_core::wire::cdsr;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

/// UDP port of DNS.
const DNS_PORT: u16 = 53;

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum PathTaken {
    /// The XDP program.
    Fast = 0,
    /// The daemon.
    Slow = 1,
}

/// How the client asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Spoken {
    /// By name, in a datagram.
    Dns = 0,
    /// By name, on a connection.
    DnsTcp = 1,
    /// By URL, for endpoints.
    Cdsr = 2,
    /// By URL, for a redirect.
    Http = 3,
    /// By URL, for a redirect.
    Rtsp = 4,
}

impl Spoken {
    /// Every protocol, by its number.
    pub const ALL: [Self; 5] = [Self::Dns, Self::DnsTcp, Self::Cdsr, Self::Http, Self::Rtsp];
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "DNS",
            Self::DnsTcp => "DNS/TCP",
            Self::Cdsr => "CDSR",
            Self::Http => "HTTP",
            Self::Rtsp => "RTSP",
        })
    }
}

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A message of DNS or CDSR as it came.
    Message {
        /// Its first bytes.
        bytes: Box<[u8]>,
        /// How many it had.
        length: u32,
    },
    /// A URL by HTTP or RTSP. Empty if it was none.
    Url(Box<str>),
    /// Something about the protocol alone.
    Nothing,
}

/// What a decision chose, by counter slots: they outlive generations and restarts. [`NONE`] is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// VIP.
    pub vip: u32,
    /// Service.
    pub service: u32,
    /// The client's region.
    pub region: u32,
    /// The target that tells on whose account a provider's content is served.
    pub account: u32,
    /// Entries of `targets` in use.
    pub count: u8,
    /// Targets, best first.
    pub targets: [u32; MAX_ENDPOINTS],
}

impl Default for Chosen {
    fn default() -> Self {
        let targets = [NONE; MAX_ENDPOINTS];
        Self { vip: NONE, service: NONE, region: NONE, account: NONE, count: 0, targets }
    }
}

impl Chosen {
    /// What a trace and the verdict behind it mean in `tables`.
    pub fn of<T: Tables>(trace: &Trace, targets: &[u32], tables: &T) -> Self {
        let mut chosen = Self { vip: trace.vip, ..Self::default() };
        chosen.service = tables.service(trace.service).map_or(NONE, |service| service.counter);
        if !trace.decided {
            return chosen;
        }
        let target = |number: u32| tables.target(number).map_or(NONE, |target| target.counter);
        let regions = tables.region_counters(trace.region >> 4);
        chosen.region = regions.map_or(NONE, |slots| slots.words[trace.region as usize & 15]);
        chosen.account = target(trace.account);
        for (slot, number) in chosen.targets.iter_mut().zip(targets) {
            *slot = target(*number);
            chosen.count += 1;
        }
        chosen
    }

    /// The targets, best first.
    pub fn targets(&self) -> &[u32] {
        &self.targets[..usize::from(self.count).min(MAX_ENDPOINTS)]
    }
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// When, in microseconds since 1970.
    pub time: u64,
    /// Generation that decided.
    pub generation: u64,
    /// Load epoch of the share group that was used.
    pub epoch: u32,
    /// This stands for so many, on average.
    pub one_in: u32,
    /// Who decided.
    pub path: PathTaken,
    /// How it was asked.
    pub spoken: Spoken,
    /// Why the answer is what it is.
    pub reason: Reason,
    /// Who asked.
    pub client: SocketAddr,
    /// Which VIP address.
    pub vip: IpAddr,
    /// What for.
    pub asked: Asked,
    /// What was chosen.
    pub chosen: Chosen,
}

impl Decision {
    /// Of the fast path; `None` if the record is none. `offset` leads from its clock to the time since 1970.
    pub fn of_sample(record: &[u8], offset: Duration) -> Option<Self> {
        let read = sample::read(record)?;
        let told = read.told;
        let count = (told.count as usize).min(sample::TARGETS_TOLD);
        let mut targets = [NONE; MAX_ENDPOINTS];
        targets[..count].copy_from_slice(&told.targets[..count]);
        let dns = read.vip.port() == DNS_PORT;
        Some(Self {
            time: micros(offset + Duration::from_nanos(told.time)),
            generation: told.generation,
            epoch: told.epoch,
            one_in: told.one_in,
            path: PathTaken::Fast,
            spoken: if dns { Spoken::Dns } else { Spoken::Cdsr },
            reason: Reason::from_code(u16::try_from(told.reason).ok()?)?,
            client: read.client,
            vip: read.vip.ip(),
            asked: Asked::Message {
                bytes: read.message.into(),
                length: u32::try_from(read.message_length).ok()?,
            },
            chosen: Chosen {
                vip: told.vip,
                service: told.service,
                region: told.region,
                account: told.account,
                count: count as u8,
                targets,
            },
        })
    }

    /// What is asked for in CDSR is told with what failed before.
    pub fn failed(&self) -> Vec<(IpAddr, u16)> {
        match (&self.asked, self.spoken) {
            (Asked::Message { bytes, .. }, Spoken::Cdsr) => cdsr::failed_servers(bytes).collect(),
            _ => Vec::new(),
        }
    }
}

/// Microseconds since 1970 now; 0 if the clock stands before.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, micros)
}

fn micros(since: Duration) -> u64 {
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
