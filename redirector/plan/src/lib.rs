//! State to snapshot to table image: pure, no IO.
//!
//! [`model`] is the input. [`compile`] turns it and the targets' states into the flat tables of `redirector-core` (an
//! [`image`]), or refuses; `regions`, `names`, `urls`, `vips`, `shares`, [`outcomes`] and [`proofs`] each write one kind of table. [`shares`] is
//! also what follows health and load between generations, and [`explain`] leads back from tables to configuration.

mod buckets;
mod check;
pub mod compile;
pub mod counters;
pub mod divert;
mod entries;
pub mod explain;
pub mod image;
pub mod model;
mod names;
pub mod outcomes;
pub mod peering;
pub mod proofs;
pub mod reference;
pub mod refusal;
mod regions;
pub mod shares;
mod tails;
mod urls;
mod vips;

pub use check::{MAX_ANSWERS, MAX_CDNS, MAX_SERVICES, MAX_TARGETS, MAX_TIER_POOLS, MAX_TTL, MAX_WEIGHT};
pub use compile::{Compiled, compile};
pub use entries::MAX_NAME_ENTRIES;
pub use names::{CDSR_LABEL, MAX_SUFFIX_LABELS, NS_LABEL};
pub use regions::{Class, MAX_IPV4_PAGES, MAX_IPV6_NODES, MAX_REGIONS};
pub use vips::{MAX_VIP_ADDRESSES, ipv4_word, ipv6_words};
