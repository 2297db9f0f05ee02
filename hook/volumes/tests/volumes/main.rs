//! The volume store from outside: what it makes, what it finds, races, leftovers and hostile content, and the
//! trash.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

mod adopt;
mod create;
mod empty;
mod find;
mod fixture;
mod races;
mod rename;
mod sizes;
mod trash;
