//! Decisions as they are made: who gets to hear of them inside the daemon, and the log that they are written to.
//!
//! The fast path tells one decision in so many by a ring buffer ([`Collector`]), the slow path what its subscribers want;
//! [`Hub`] hands both on, bounded, and counts what found no room. [`Journal`] writes them to files, which [`Reader`] reads.

mod collect;
mod decision;
mod files;
mod format;
mod hub;
mod question;
mod reader;
mod shown;
mod writer;

pub use collect::Collector;
pub(crate) use decision::now;
pub use decision::{Asked, Chosen, Decision, PathTaken, Spoken};
pub use files::{FileCounts, Files, files};
pub use format::{Cause, Entry, Kind, written};
pub use hub::{Hub, Lost, Subscription, Told, Wanted};
pub use question::{Question, subnet};
pub use reader::{Damage, Names, Reader};
pub use shown::{Shown, moment};
pub use writer::{Health, Journal, LogReport, SlotNames};
