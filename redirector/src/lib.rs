//! The redirector daemon.

pub mod config;
