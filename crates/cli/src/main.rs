//! The `lockstead` command.
fn main() {}
