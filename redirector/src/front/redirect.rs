//! From a URL to a redirect, the same for HTTP and RTSP.

use super::location::{Location, location};
use super::proof::{Carried, examine};
use super::url::{Denied, Url, UrlDecision, UrlError, decide_url};
use super::{Shared, vip_entry};
use crate::dataplane::Reading;
use crate::state::Generation;
use redirector_core::decide::FAST_ENDPOINTS;
use redirector_core::lookup::Scheme;
use redirector_core::table::{NONE, SPEAKS_HTTP, SPEAKS_RTSP};
use redirector_core::verdict::Reason;
use redirector_core::wire::Trace;
use redirector_plan::model::Service;
use std::net::{IpAddr, SocketAddr};

/// A redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirect {
    /// Where to.
    pub(super) location: String,
    /// Other servers for the same, best first.
    pub(super) alternates: Vec<String>,
    /// Name of the service.
    pub(super) service: String,
    /// Name of the client's region, if it has one.
    pub(super) region: Option<String>,
    /// Why there.
    pub(super) reason: Reason,
}

/// Why there is no redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request's URL is none.
    Malformed,
    /// The URL is longer than any that can be decided.
    TooLong,
    /// No rule holds for the URL here.
    NotOurs,
    /// No server can take the client now.
    NothingUsable(Reason),
    /// The URL needs a proof, and has no good one, or is ill-formed.
    Denied(Denied, Reason),
    /// The client was redirected for this URL too often, or would come back here.
    Loop,
    /// The VIP or its protocol was removed, or the tables contradict themselves.
    Unavailable,
}

impl Refusal {
    /// Its reason code.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Malformed => UrlError::Malformed.reason(),
            Self::TooLong => UrlError::TooLong.reason(),
            Self::NotOurs => Reason::NotOurUrl,
            Self::NothingUsable(reason) => reason,
            Self::Denied(_, reason) => reason,
            Self::Loop => Reason::Loop,
            Self::Unavailable => Reason::PuntTable,
        }
    }

    /// In words, for whoever reads the answer.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Malformed => {
                "the URL is malformed: it needs one host name or address, without user or password"
            }
            Self::TooLong => "the URL is too long: at most 1024 characters, scheme and host included",
            Self::NotOurs => "no service for this URL here",
            Self::Denied(Denied::Refused, _) => "this URL is for those who are authorised",
            Self::Denied(Denied::Empty, _) => "no service for this URL here",
            Self::NothingUsable(_) => "no server can take this request now; try again",
            Self::Loop => "too many redirects for this URL: it seems to lead back here",
            Self::Unavailable => "not answered here now; try again",
        }
    }
}

/// Who asks where, and what for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// VIP address.
    pub(super) vip: IpAddr,
    /// The client's address and port.
    pub(super) client: SocketAddr,
    /// The client is sent there, and not told only: it can go round in circles.
    pub(super) sent: bool,
}

/// Decides where a client is redirected to for a URL, and counts it; a refusal that is known already is counted only.
pub(super) fn redirect(
    shared: &Shared,
    asked: Asked,
    url: Result<&Url<'_>, Refusal>,
) -> Result<Redirect, Refusal> {
    let generation = shared.current.load();
    let mut trace = Trace::default();
    let outcome = decided(shared, &generation, asked, url, &mut trace);
    trace.reason = match &outcome {
        Ok(redirect) => redirect.reason,
        Err(refusal) => refusal.reason(),
    };
    shared.counters.count(&trace, &generation.tables.read());
    outcome
}

/// Counts an answer about the protocol itself: no server is chosen.
pub(super) fn count_protocol(shared: &Shared, vip: IpAddr) {
    let generation = shared.current.load();
    let tables = &generation.tables.read();
    let vip = vip_entry(tables, vip).map_or(NONE, |vip| vip.vip as u32);
    shared.counters.count(&Trace { reason: Reason::Protocol, vip, ..Trace::default() }, tables);
}

fn decided(
    shared: &Shared,
    generation: &Generation,
    Asked { vip, client, sent }: Asked,
    url: Result<&Url<'_>, Refusal>,
    trace: &mut Trace,
) -> Result<Redirect, Refusal> {
    let tables = &generation.tables.read();
    let vip = vip_entry(tables, vip).ok_or(Refusal::Unavailable)?;
    trace.vip = vip.counter as u32;
    let url = url?;
    if vip.speaks & spoken(url.scheme) == 0 {
        return Err(Refusal::Unavailable);
    }
    let mut path = None;
    let examine = |service| {
        let carried = Carried::by_url(*url, None, client.ip());
        let examined = examine(generation, tables, vip, service, carried);
        path = examined.path;
        examined.proof
    };
    let decided = decide_url(tables, vip, client, url, FAST_ENDPOINTS, examine);
    let decision = decided.map_err(|error| match error {
        UrlError::TooLong => Refusal::TooLong,
        UrlError::Malformed => Refusal::Malformed,
        UrlError::NotOurs => Refusal::NotOurs,
        UrlError::Tables => Refusal::Unavailable,
    })?;
    let UrlDecision { service, verdict, .. } = &decision;
    trace.service = *service;
    if let Some(denied) = decision.denied {
        return Err(Refusal::Denied(denied, verdict.reason));
    }
    if verdict.reason == Reason::NoDataFamily {
        return Err(Refusal::NothingUsable(verdict.reason));
    }
    (trace.region, trace.decided, trace.group) = (verdict.region, true, verdict.group);
    if verdict.count == 0 {
        return Err(Refusal::NothingUsable(verdict.reason));
    }
    // The token is for us: whoever gets as far as the server has the right port.
    let bare = Url { path: path.as_deref().unwrap_or(url.path), ..*url };
    let (target, locations) = locations(shared, (generation, tables), &bare, &decision)?;
    if sent && !shared.guard.allows(client.ip(), &url.text()) {
        return Err(Refusal::Loop);
    }
    (trace.target, trace.account) = (target, decision.account);
    let mut locations = locations.into_iter();
    Ok(Redirect {
        location: locations.next().ok_or(Refusal::Unavailable)?,
        alternates: locations.collect(),
        service: written(generation, *service)?.name.clone(),
        region: generation.region(verdict.region).map(|region| region.name.clone()),
        reason: verdict.reason,
    })
}

/// The service of the configuration that a number means.
fn written(generation: &Generation, service: u32) -> Result<&Service, Refusal> {
    let network = &generation.config.network;
    let written = generation.compiled.written(network, service);
    written.and_then(|written| network.services.get(written)).ok_or(Refusal::Unavailable)
}

/// The first target's number and the locations of all, without those that would be answered here again.
fn locations(
    shared: &Shared,
    (generation, tables): (&Generation, &Reading<'_>),
    url: &Url<'_>,
    decision: &UrlDecision,
) -> Result<(u32, Vec<String>), Refusal> {
    let network = &generation.config.network;
    let service = written(generation, decision.service)?;
    let port = generation.compiled.other_port(decision.service);
    let chosen = &decision.verdict.targets[..decision.verdict.count as usize];
    let mut first = None;
    let mut locations = Vec::with_capacity(chosen.len());
    for number in chosen {
        let target = network.targets.get(*number as usize).ok_or(Refusal::Unavailable)?;
        let location = location(service.location.as_deref(), url, target, (decision.v6, port));
        if !is_captured(shared, tables, &location) {
            first = first.or(Some(*number));
            locations.push(location.url);
        }
    }
    Ok((first.ok_or(Refusal::Loop)?, locations))
}

/// Whether a location is one of this box's own VIP addresses, at a port where redirects are answered.
fn is_captured(shared: &Shared, tables: &Reading<'_>, location: &Location) -> bool {
    let port = match location.scheme {
        Scheme::Http => shared.ports.http,
        Scheme::Rtsp => shared.ports.rtsp,
        Scheme::Https => return false,
    };
    let vip = location.address.and_then(|address| vip_entry(tables, address));
    location.port == port && vip.is_some_and(|vip| vip.speaks & spoken(location.scheme) != 0)
}

/// Protocol bit of a scheme; none for one that no listener answers.
fn spoken(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => SPEAKS_HTTP,
        Scheme::Rtsp => SPEAKS_RTSP,
        Scheme::Https => 0,
    }
}
