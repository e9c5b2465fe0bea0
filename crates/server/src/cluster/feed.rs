//! The thread that tells the node what the members agreed on, in order, and how long it may act.

use core::time::Duration;
use std::sync::{
    Arc,
    mpsc::{Receiver, RecvTimeoutError},
};

use lockstead_membership::{Event, Timing};
use lockstead_node::Input;

use super::authority;
use crate::{
    clock,
    shared::{Phase, Shared},
};

/// Events told in one turn.
const BATCH: usize = 256;
/// Whether the server has ended is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Runs until the server has ended or the group has.
pub(crate) fn run(shared: &Arc<Shared>, events: &Receiver<Event>) {
    let t_auth = Timing::default().steward.t_auth;
    let (mut led, mut acts) = (None, false);
    loop {
        shared.feed.beat();
        acts = tell_authority(shared, acts);
        let first = match events.recv_timeout(LOOK_EVERY) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) if shared.phase() == Phase::Halted => return,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return shared.halt("the membership group has ended".into()),
        };
        let mut batch = vec![first];
        batch.extend(events.try_iter().take(BATCH - 1));
        if let Some(why) = batch.iter().find_map(|event| if let Event::Fatal(why) = event { Some(why) } else { None }) {
            return shared.halt(format!("the membership group cannot go on: {why}"));
        }
        let newest = batch.iter().rev().find_map(|event| match event {
            Event::Authority { leader, .. } => Some(*leader),
            _ => None,
        });
        let news = newest.filter(|leader| led != Some(*leader));
        led = newest.or(led);
        let inputs = batch.iter().filter_map(|event| match event {
            Event::Committed(command) => Some(Input::Committed { command }),
            Event::Snapshot(state) => Some(Input::Snapshot { state: state.clone() }),
            Event::Authority { sent, .. } => Some(Input::Authority { until: authority(t_auth, *sent) }),
            // This start was told before the node was made, and comes but once.
            Event::Started { .. } | Event::Overtaken | Event::Fatal(_) => None,
        });
        let inputs = inputs.chain(news.map(|by| Input::Led { by }));
        if shared.turn_outside(inputs).is_err() {
            return;
        }
        if batch.iter().any(|event| !matches!(event, Event::Authority { .. })) {
            if shared.core.lock().node.is_out() && shared.phase() == Phase::Serving {
                return shared.halt_out();
            }
            if let Some(cluster) = &shared.cluster {
                cluster.ring();
            }
        }
    }
}

/// Whether the node may act, said where that has changed: an operator who finds all clients turned away looks here first.
fn tell_authority(shared: &Shared, acted: bool) -> bool {
    let acts = clock::now() < shared.core.lock().node.authority();
    match (acted, acts) {
        (false, true) => tracing::info!("a majority of the members confirms this node: it serves"),
        (true, false) => tracing::warn!(
            "no majority of the members confirms this node any more: its clients are turned away, and others may take its place"
        ),
        (true, true) | (false, false) => {}
    }
    acts
}
