//! The stub and the command from outside, against a redirector and a name server that do as they are told.

#[cfg(feature = "cli")]
mod command;
mod common;
mod discovery;
mod document;
mod properties;
#[path = "../../../../tests/vectors/reader.rs"]
mod reader;
mod redirector;
mod stub;
mod vectors;
