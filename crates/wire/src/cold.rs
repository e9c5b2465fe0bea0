//! cold.
