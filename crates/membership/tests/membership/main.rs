//! Groups of real nodes in one process: real files, real sockets on loopback.

mod force;
mod group;
mod lag;
mod loss;
mod support;
