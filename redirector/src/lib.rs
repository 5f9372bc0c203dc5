//! The redirector daemon.
