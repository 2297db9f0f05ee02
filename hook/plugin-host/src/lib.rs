//! Stands in until the crate's first module lands.
