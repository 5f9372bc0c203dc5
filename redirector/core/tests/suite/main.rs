//! Core from outside: messages and frames in, answers out, judged by other libraries.

mod amplification;
mod any_bytes;
mod cdsr;
mod choice;
mod cookies;
mod dns;
mod edns;
mod frames;
mod limits;
mod malformed;
mod mistakes;
mod names;
mod nsid;
mod oracle;
mod records;
mod subnet;
