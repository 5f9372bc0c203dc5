//! The decision: wire views, tables, `decide`, verdicts. Shared by kernel and userspace: no_std, no alloc, no IO.
//!
//! A packet or message is read by `wire`, its name becomes a service by [`lookup`], [`decide`] chooses targets from the
//! [`table`]s, and `wire` writes the reply in place. The XDP program and the slow path call the same functions over
//! the same tables, so they cannot disagree.
#![no_std]
// For `verifier`: inline assembly on the BPF target is an unstable feature.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(test)]
extern crate std;

pub mod decide;
pub mod hash;
pub mod limit;
pub mod lookup;
pub mod outcome;
pub mod rank;
pub mod siphash;
pub mod table;
pub mod tail;
pub mod verdict;
pub mod verifier;
pub mod wire;
