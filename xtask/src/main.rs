//! Every script of the project.
fn main() {}
