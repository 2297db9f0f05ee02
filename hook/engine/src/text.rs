//! Paths that are to stand in documents: those hold Unicode, and paths may be any bytes.

use crate::failure::Failure;
use std::path::Path;

/// `path` as text; `what` says what it is the path of.
pub(crate) fn of_path<'a>(what: &str, path: &'a Path) -> Result<&'a str, Failure> {
    path.to_str().ok_or_else(|| {
        Failure::new(format!("the path of {what}, {path:?}, is not UTF-8: it cannot stand in a document"))
            .hint("move it to a path that is")
    })
}
