//! Placeholder page.
#![no_std]
#![forbid(unsafe_code)]
