//! A bundle's spec: read, looked at for what it asks for, and written anew.

use crate::context::Context;
use crate::failure::Failure;
use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use volhook_core::spec::MAX_READ_BYTES;
use volhook_core::spec::Outline;
use volhook_core::spec::Spec;
use volhook_core::spec::SpecError;

/// Reads at most `limit` bytes and one more, so that too much is noticed without being read.
///
/// # Errors
/// Those of reading.
pub fn read_limited(input: impl std::io::Read, limit: usize) -> std::io::Result<Vec<u8>> {
    // Room for what is usual, so that it is read at once.
    let mut bytes = Vec::with_capacity(32 << 10);
    input.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a bundle's `config.json`.
///
/// # Errors
/// When it cannot be read or is no spec.
pub(crate) fn read_spec(bundle: &Path) -> Result<Spec, Failure> {
    read_spec_file(&bundle.join("config.json"))
}

/// Reads a spec.
///
/// # Errors
/// When it cannot be read or is no spec.
pub(crate) fn read_spec_file(path: &Path) -> Result<Spec, Failure> {
    Spec::parse(&read_bytes(path)?).map_err(|error| not_usable(path, error))
}

/// Reads a spec, unless it asks for nothing; then it may be one that cannot be edited, such as a larger one.
///
/// # Errors
/// When it cannot be read or is no spec, and those of what is asked for.
pub fn read_claiming_spec(context: &Context<'_>, path: &Path) -> Result<Option<Spec>, Failure> {
    claiming(context, &read_bytes(path)?, |error| not_usable(path, error))
}

/// A spec, unless it asks for nothing; then it may be one that cannot be edited, such as a larger one.
///
/// # Errors
/// When it is no spec, and those of what is asked for.
pub fn claiming_spec(context: &Context<'_>, bytes: &[u8]) -> Result<Option<Spec>, Failure> {
    claiming(context, bytes, Failure::from)
}

fn claiming(
    context: &Context<'_>,
    bytes: &[u8],
    not_usable: impl Fn(SpecError) -> Failure,
) -> Result<Option<Spec>, Failure> {
    match Spec::parse(bytes) {
        Ok(spec) => {
            let claims = could_claim(context, &spec.outline()?)?;
            Ok(claims.then_some(spec))
        }
        // It cannot be edited; who asks for nothing starts with it all the same.
        Err(error) => {
            let outline = Outline::parse(bytes).map_err(&not_usable)?;
            if could_claim(context, &outline)? { Err(not_usable(error)) } else { Ok(None) }
        }
    }
}

/// Whether a spec may ask for volumes, or gets some without asking.
///
/// # Errors
/// When a claim makes no sense, and when the configuration is not usable for a container that may have some.
pub(crate) fn could_claim(context: &Context<'_>, spec: &Outline) -> Result<bool, Failure> {
    Ok(spec.volume_mounts || !context.wishes(&spec.annotations)?.is_empty())
}

/// `root.path` of a spec, which may be one that cannot be edited.
///
/// # Errors
/// When it cannot be read, is no spec or names no root.
pub(crate) fn root_path(path: &Path) -> Result<String, Failure> {
    let outline = Outline::parse(&read_bytes(path)?).map_err(|error| not_usable(path, error))?;
    outline.root_path.ok_or_else(|| Failure::new(format!("{} names no root.path", path.display())))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed =
        |error| Failure::context(format!("cannot read the container's spec {}", path.display()), error);
    let file = std::fs::File::open(path).map_err(failed)?;
    read_limited(file, MAX_READ_BYTES).map_err(failed)
}

fn not_usable(path: &Path, error: SpecError) -> Failure {
    Failure::context(format!("{} is not usable", path.display()), error)
}

/// Replaces a spec's file: whole and durable, or not at all. Owner and mode stay.
///
/// # Errors
/// When it is not written.
pub fn write_spec(path: &Path, spec: &Spec) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = folder.join(format!(".config.json.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let before = fs::metadata(path)?;
        let mut text = serde_json::to_vec_pretty(spec.document())?;
        text.push(b'\n');
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(before.mode() & 0o7777)
            .open(&temporary)?;
        file.write_all(&text)?;
        std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        volhook_locks::flush(&file)?;
        fs::rename(&temporary, path)?;
        Ok(volhook_locks::flush(fs::File::open(folder)?)?)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Failure::context(format!("cannot rewrite {}", path.display()), error)
    })
}
