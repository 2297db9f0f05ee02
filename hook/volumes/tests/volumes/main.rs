//! The volume store from outside: what it makes, what it finds, races, leftovers and hostile content, the
//! trash, and copies of trees and of volumes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

mod adopt;
mod adopt_killed;
mod archive;
mod clone;
mod copy;
mod copy_hostile;
mod copy_up;
mod create;
mod empty;
mod find;
mod fixture;
mod identity;
mod inside;
mod listing;
mod pods;
mod populate;
mod races;
mod rename;
mod renew;
mod reset;
mod sizes;
mod trash;
mod unfinished;
