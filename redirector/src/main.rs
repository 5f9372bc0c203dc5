//! The redirector command.
fn main() {}
