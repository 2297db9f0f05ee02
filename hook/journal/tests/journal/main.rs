//! The journal from outside: its bytes, its fold, crashes, damage, and processes that fight for it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

mod check;
mod checkpoint;
mod counted;
mod crash;
mod cursor;
mod damage;
mod disk;
mod fold;
mod full;
mod golden;
mod processes;
mod records;
mod repair;
mod retain;
mod salvage;
mod story;
