//! Project habits as commands.
fn main() {}
