//! Hook entries in a bundle, by which its runtime calls this program.

use crate::bundle::read_spec;
use crate::bundle::write_spec;
use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::start::root;
use crate::start::spec;
use volhook_api::bundle::Install;
use volhook_api::bundle::Installed;
use volhook_core::claims;
use volhook_core::last_step;
use volhook_core::rewrite;
use volhook_leases::Work;

/// Puts the entries into the bundle's `config.json`; twice changes nothing.
///
/// # Errors
/// When the spec cannot be read, is none, or cannot be written; and when a path that an entry names is no text.
pub fn install(engine: &Engine, asked: &Install, work: &Work<'_>) -> Result<Installed, Failure> {
    let context = &Context::new(engine, *work);
    let mut spec = read_spec(&asked.bundle)?;
    // A spec that was planned for the spec stage would have its volumes twice.
    let prefix = &context.config()?.annotation_prefix;
    let stripped = rewrite::strip(&mut spec, prefix, &|source| context.is_volume_source(source))?.is_some();
    let has_last_step =
        spec.annotations()?.contains_key(&claims::pod_key(prefix)) && root::before_editing(&spec).is_none();
    let stage = asked.stage.as_str();
    let mark = has_last_step.then(|| last_step::MARK.to_owned());
    let mut hooks = vec![(stage, spec::hook_entry(context, stage, mark, asked.timeout)?)];
    hooks.extend(has_last_step.then(|| ("startContainer", last_step::entry(None, asked.timeout))));
    hooks.push(("poststop", spec::hook_entry(context, "poststop", None, asked.timeout)?));
    let file = asked.bundle.join("config.json");
    let written = rewrite::install_hooks(&mut spec, &hooks)? || stripped;
    if written {
        write_spec(&file, &spec)?;
    }
    Ok(Installed { file, written, has_last_step })
}
