//! What a run comes to: one JSON object with the comparison harness's field names, and a page for people.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{Plan, Release, Workload, machine::tick_us, run::Measured};

/// The object.
pub(crate) fn json(plan: &Plan, measured: &Measured) -> Value {
    let all = &measured.all;
    let ops = if plan.workload == Workload::W3 { all.grants } else { all.ops };
    let per_op = |ticks: u64| rounded(ticks as f64 * tick_us() / ops.max(1) as f64, 3);
    let config = config(plan, measured.transport);
    let mut line = json!({
        "peer": "lockstead", "workload": name(plan.workload), "label": plan.label.clone().unwrap_or_else(|| config.clone()),
        "clients": plan.clients, "conns": plan.conns, "names": plan.names, "warm": false, "awake": plan.awake,
        "threads": plan.threads, "seconds": plan.seconds, "hold_us": plan.hold.as_micros() as u64,
        "ops_per_s": rounded(ops as f64 / plan.seconds, 1),
        "acquire_us": quantiles(&all.acquire), "release_us": quantiles(&all.release),
        "server_cpu_us_per_op": per_op(measured.cpu.server), "client_cpu_us_per_op": per_op(measured.cpu.client),
        "foreign_cpu": rounded(measured.cpu.foreign(), 3),
        "inflight": plan.clients.div_ceil(plan.conns), "embedded": plan.embedded, "release": release(plan.release),
        "sample": plan.sample, "config": config,
    });
    let pair = quantiles(&all.pair);
    for quantile in ["p50", "p99", "p999", "max"] {
        line[format!("{quantile}_us")] = pair[quantile].clone();
    }
    match plan.workload {
        Workload::W3 => add_hand_overs(&mut line, plan, measured),
        Workload::W4 => line["exclusive_acquire_us"] = quantiles(&all.extra),
        Workload::W1 | Workload::W2 => {}
    }
    if matches!(plan.workload, Workload::W3 | Workload::W4) {
        line["violations"] = measured.violations.into();
        line["refused_tries"] = 0.into();
    }
    line["failed_clients"] = measured.errors.len().into();
    line["stuck_clients"] = measured.stuck.into();
    if let Some(error) = measured.errors.first() {
        line["first_error"] = error.clone().into();
    }
    line
}

fn add_hand_overs(line: &mut Value, plan: &Plan, measured: &Measured) {
    let all = &measured.all;
    let least = measured.per_client.iter().min().copied().unwrap_or(0);
    let most = measured.per_client.iter().max().copied().unwrap_or(0);
    line["handoff_us"] = quantiles(&all.extra);
    line["handoffs_per_s"] = rounded(all.extra.len() as f64 / plan.seconds, 1).into();
    line["takeover_wait_us"] = quantiles(&all.takeover);
    line["grants_min"] = least.into();
    line["grants_max"] = most.into();
    line["fairness_max_over_min"] = if least > 0 { rounded(most as f64 / least as f64, 2).into() } else { Value::Null };
    line["jain"] = rounded(jain(&measured.per_client), 4).into();
    line["same_client_again"] = all.again.into();
}

/// The page.
pub(crate) fn text(line: &Value) -> String {
    let mut text = format!("{}: {}\n", words(&line["workload"]), words(&line["config"]));
    let mut fact = |name: &str, value: String| text.push_str(&format!("{name:26} {value}\n"));
    fact("ops/s", words(&line["ops_per_s"]));
    fact("op us p50 p99 p99.9 max", quantile_words(line, |quantile| format!("{quantile}_us")));
    fact("acquire us", nested_words(&line["acquire_us"]));
    fact("release us", nested_words(&line["release_us"]));
    for (name, key) in [("hand-over us", "handoff_us"), ("wait of a hand-over us", "takeover_wait_us")] {
        if !line[key].is_null() {
            fact(name, nested_words(&line[key]));
        }
    }
    if !line["exclusive_acquire_us"].is_null() {
        fact("exclusive acquire us", nested_words(&line["exclusive_acquire_us"]));
    }
    for (name, key) in [
        ("hand-overs/s", "handoffs_per_s"),
        ("fairness (Jain)", "jain"),
        ("most/least grants", "fairness_max_over_min"),
        ("violations", "violations"),
        ("CPU us/op, node", "server_cpu_us_per_op"),
        ("CPU us/op, this process", "client_cpu_us_per_op"),
        ("CPU of others, share", "foreign_cpu"),
        ("failed clients", "failed_clients"),
        ("stuck clients", "stuck_clients"),
        ("first error", "first_error"),
    ] {
        if !line[key].is_null() {
            fact(name, words(&line[key]));
        }
    }
    text
}

/// `x` to so many decimals.
pub(crate) fn rounded(x: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (x * scale).round() / scale
}

/// Jain's index of fairness: 1 where all have the same, 1/n where one has all.
fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|share| *share as f64).sum();
    let squares: f64 = shares.iter().map(|share| (*share as f64).powi(2)).sum();
    if squares == 0.0 { 0.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

fn quantiles(of: &Histogram<u64>) -> Value {
    if of.is_empty() {
        return Value::Null;
    }
    // To a hundredth of a microsecond: embedded ops take less than a tenth.
    let us = |quantile: f64| rounded(of.value_at_quantile(quantile) as f64 / 1_000.0, 2);
    json!({ "p50": us(0.5), "p99": us(0.99), "p999": us(0.999), "max": us(1.0), "n": of.len() })
}

fn config(plan: &Plan, transport: &str) -> String {
    let each = plan.clients.div_ceil(plan.conns);
    let awake = if plan.awake { ", CPUs kept awake" } else { "" };
    let conns = if plan.embedded { "sessions" } else { "connections" };
    let by = if plan.frames { "hand-made frames" } else { "raw sessions" };
    format!(
        "{transport}, {} {conns} x {each} in flight, {} release, {by}, {} threads{awake}",
        plan.conns,
        release(plan.release),
        plan.threads
    )
}

fn name(workload: Workload) -> &'static str {
    match workload {
        Workload::W1 => "W1",
        Workload::W2 => "W2",
        Workload::W3 => "W3",
        Workload::W4 => "W4",
    }
}

fn release(release: Release) -> &'static str {
    match release {
        Release::OneWay => "one-way",
        Release::Acked => "acked",
    }
}

fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn nested_words(of: &Value) -> String {
    if of.is_null() { "-".to_owned() } else { quantile_words(of, str::to_owned) }
}

fn quantile_words(of: &Value, key: impl Fn(&str) -> String) -> String {
    ["p50", "p99", "p999", "max"].map(|quantile| words(&of[key(quantile)])).join("  ")
}

#[cfg(test)]
mod tests {
    use super::jain;

    #[test]
    fn jains_index() {
        assert!((jain(&[5, 5, 5, 5]) - 1.0).abs() < 1e-9);
        assert!((jain(&[8, 0, 0, 0]) - 0.25).abs() < 1e-9);
        assert!(jain(&[]).abs() < 1e-9);
    }
}
