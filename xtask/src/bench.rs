//! `cargo xtask bench`.
pub(crate) fn run(_options: &[&str]) -> Result<(), String> {
    Err("no benchmarks".into())
}
