//! The node itself: what it holds, and the ways in and out.

use alloc::{collections::VecDeque, string::String, vec::Vec};

use lockstead_types::{Span, Time, Token, report::NodeStatus};

use crate::io::{Input, NodeConfig, Output};

/// One node.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    outputs: VecDeque<Output>,
    started: Time,
}

impl Node {
    /// A node that has just started at `now`.
    #[must_use]
    pub fn new(config: NodeConfig, now: Time) -> Node {
        Node { config, outputs: VecDeque::new(), started: now }
    }

    /// Takes in what happened. `now` never goes back. What it causes is to be fetched with [`Node::poll_output`].
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        let _ = (now, input);
    }

    /// The next thing to do, `None` where nothing is left.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Time> {
        None
    }

    /// The node in numbers.
    #[must_use]
    pub fn status(&self, now: Time) -> NodeStatus {
        NodeStatus {
            node: self.config.node,
            epoch: self.config.epoch,
            version: self.config.version.clone(),
            uptime: now.since(self.started),
            frozen_for: Span::ZERO,
            sessions: 0,
            groups: 0,
            spaces: 0,
            resources: 0,
            granted: 0,
            converting: 0,
            waiting: 0,
            orphans: 0,
            token: Token::NONE,
            counters: Vec::new(),
        }
    }

    /// Whether new locks are granted: not frozen after a restart.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        true
    }

    /// Proves the whole state.
    ///
    /// # Errors
    /// Says what is broken.
    pub fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
