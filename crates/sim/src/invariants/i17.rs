//! I17, at each decision and each end of a session.

use lockstead_node::Node;
use lockstead_types::Time;

pub(crate) const STATEMENT: &str =
    "a node without a valid authority lease neither grants, converts, expires nor answers as master";

/// Something was decided at `now` of the node's own clock.
pub(crate) fn decided(node: &Node, now: Time) -> Result<(), String> {
    if node.cluster_state().is_some() && now >= node.authority() {
        let late = now.since(node.authority()).as_millis();
        return Err(format!("decided {late} ms after its authority had run out"));
    }
    Ok(())
}
