//! What authors of plugins work with: a new project, its build, fixtures and what is measured of a component.
//!
//! The way of an author is [`create`] → [`build()`] → [`test()`] → [`check()`], and [`replay()`] before a newer build is
//! installed where decisions were recorded. Everything that a project needs of volhook is embedded here:
//! an author has the binary and a compiler of the language, and nothing of this repository.
//!
//! A [`Fixture`] is a question with the right answer. It is asked twice: of the project's own code as an ordinary
//! program, and of the component in the sandbox that containers' starts use.

mod bench;
mod build;
mod check;
mod culprit;
mod diff;
mod error;
#[cfg(test)]
mod examples;
mod fixture;
mod kit;
mod lang;
mod measure;
mod native;
mod new;
mod probe;
mod project;
mod replay;
mod rust_name;
mod schema;
mod subject;
mod sysroot;
mod test;
mod toolchain;
mod tools;
mod write;

pub use bench::Bench;
pub use bench::bench;
pub use build::Built;
pub use build::build;
pub use build::native;
pub use check::Checked;
pub use check::check;
pub use diff::decision_text;
pub use error::BuildError;
pub use error::Error;
pub use error::FixtureError;
pub use fixture::Fixture;
pub use fixture::fixtures_in;
pub use measure::Cold;
pub use new::NewProject;
pub use new::create;
pub use project::LanguageName;
pub use project::Project;
pub use replay::Replayed;
pub use replay::replay;
pub use subject::Compile;
pub use subject::Subject;
pub use test::Asked;
pub use test::Only;
pub use test::Report;
pub use test::test;
