//! Members of a cluster, without sockets: several nodes, the log they agree on, links that are cut and joined by hand. Time
//! is an argument; the simulator does the same with everything that can go wrong.

mod cycles;
mod doubts;
mod groups;
mod locks;
mod moves;
mod paths;
mod persist;
mod places;
mod placing;
mod ranges;
mod recovery;
mod rig;
mod rules;
mod seals;
mod transactions;
mod turns;
