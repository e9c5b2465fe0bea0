//! field.
