//! How long an uncontended lock and release take in process: `embedded_cycle [NAMES] [CYCLES]`.

use core::hint::black_box;
use std::{env, time::Instant};

use lockstead::Engine;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut args = env::args().skip(1);
    let names: usize = args.next().map_or(Ok(1), |n| n.parse())?;
    let cycles: usize = args.next().map_or(Ok(2_000_000), |n| n.parse())?;
    let names: Vec<String> = (0..names.max(1)).map(|n| format!("name{n:012}")).collect();
    let client = Engine::embedded().client();
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let mut at = 1usize;
        let began = Instant::now();
        for _ in 0..cycles / 5 {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let guard = client.lock(&names[(at >> 33) % names.len()]).forever().await?;
            black_box(&guard);
        }
        best = best.min(began.elapsed().as_nanos() as f64 / (cycles / 5) as f64);
    }
    println!("{best:.0} ns a cycle, best of 5, {} names", names.len());
    Ok(())
}
