//! What must hold of any input from outside, parser by parser: the bodies of the fuzz targets, and the inputs that they
//! begin with. `cargo xtask fuzz` runs the targets; an ordinary test runs each over its corpus and mutants of that.
//!
//! A body panics with what was broken. Targets whose name ends in `_made` take their bytes as choices in the making of an
//! input that comes deeper than changed bytes do.

mod choices;
mod client;
mod connections;
mod control;
mod files;
mod made;
mod messages;
pub mod mutants;
mod network;
mod proofs;
pub mod seeds;

pub use client::{cdsr_reply, client_dns, client_url};
pub use connections::{dns_stream, http_request, probe_answer, rtsp_request};
pub use control::{control_socket, control_socket_made};
pub use files::{configuration, configuration_made, prefix_file, state_file};
pub use messages::{cdsr_request, cdsr_request_made, dns_message, dns_message_made, frame, url_text};
pub use proofs::proof;

/// A parser with what must hold of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As the fuzz target is called.
    pub name: &'static str,
    /// Panics if something is broken.
    pub run: fn(&[u8]),
    /// Whether the parser takes an input: what comes behind it is reached.
    pub takes: fn(&[u8]) -> bool,
    /// Mutants of each seed that the ordinary test tries: what takes it about a second.
    pub mutants: usize,
}

/// All targets.
pub const TARGETS: [Target; 20] = [
    Target { name: "dns_message", run: dns_message, takes: messages::dns_is_answered, mutants: 20_000 },
    Target {
        name: "dns_message_made",
        run: dns_message_made,
        takes: messages::made_dns_is_answered,
        mutants: 20_000,
    },
    Target { name: "dns_stream", run: dns_stream, takes: connections::dns_is_answered, mutants: 10_000 },
    Target { name: "cdsr_request", run: cdsr_request, takes: messages::cdsr_is_answered, mutants: 10_000 },
    Target {
        name: "cdsr_request_made",
        run: cdsr_request_made,
        takes: messages::made_cdsr_is_answered,
        mutants: 20_000,
    },
    Target { name: "frame", run: frame, takes: messages::frame_is_answered, mutants: 10_000 },
    Target { name: "proof", run: proof, takes: proofs::is_taken, mutants: 10_000 },
    Target { name: "url_text", run: url_text, takes: |_| true, mutants: 10_000 },
    Target { name: "client_url", run: client_url, takes: client::url_is_one, mutants: 5000 },
    Target { name: "http_request", run: http_request, takes: connections::http_is_answered, mutants: 2000 },
    Target { name: "rtsp_request", run: rtsp_request, takes: connections::rtsp_is_answered, mutants: 3000 },
    Target { name: "cdsr_reply", run: cdsr_reply, takes: client::reply_is_one, mutants: 20_000 },
    Target { name: "client_dns", run: client_dns, takes: client::dns_is_answer, mutants: 20_000 },
    Target { name: "configuration", run: configuration, takes: files::configuration_is_good, mutants: 1000 },
    Target { name: "configuration_made", run: configuration_made, takes: files::made_is_good, mutants: 40 },
    Target { name: "prefix_file", run: prefix_file, takes: files::prefixes_are_good, mutants: 2000 },
    Target { name: "control_socket", run: control_socket, takes: control::is_message, mutants: 10_000 },
    Target {
        name: "control_socket_made",
        run: control_socket_made,
        takes: control::made_is_explained,
        mutants: 5000,
    },
    Target { name: "state_file", run: state_file, takes: files::state_is_good, mutants: 5000 },
    Target { name: "probe_answer", run: probe_answer, takes: connections::has_status, mutants: 50_000 },
];
