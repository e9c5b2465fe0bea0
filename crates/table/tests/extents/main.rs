//! Locks of parts of a resource: by a model that tries every lock against every other, and under all flags, policies, freezes and moves.

mod chaos;
mod dice;
mod model;
mod moments;
