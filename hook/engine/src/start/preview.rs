//! What a start would do, and nothing done.

use crate::bundle::read_spec;
use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::image::Image;
use crate::start::claim;
use crate::start::leased::Leased;
use crate::start::propose;
use crate::start::root;
use crate::start::spec;
use crate::start::subject::Subject;
use volhook_api::bundle::Preview;
use volhook_core::claims;
use volhook_core::names::ContainerId;
use volhook_core::plan::Plan;
use volhook_core::rewrite;
use volhook_core::spec::VOLHOOK_TYPE;
use volhook_core::stage::Stage;
use volhook_leases::Work;
use volhook_leases::judge;
use volhook_mounts::rootfs::Rootfs;

/// The plan that a start of the bundle's container would make now.
///
/// # Errors
/// Those for which the start would be refused, and when the bundle or the journal cannot be read.
pub fn preview(engine: &Engine, asked: &Preview, work: &Work<'_>) -> Result<Plan, Failure> {
    let context = &Context::new(engine, *work);
    let bundle = asked.bundle.as_path();
    let mut spec = read_spec(bundle)?;
    let config = context.config()?;
    rewrite::strip(&mut spec, &config.annotation_prefix, &|source| context.is_volume_source(source))?;
    let annotations = spec.annotations()?;
    let mounts = spec.mounts()?;
    // A mount of our type can only have been meant for the spec stage.
    let stage = if mounts.iter().any(|m| m.kind == VOLHOOK_TYPE) { Stage::Spec } else { Stage::Live };
    let container = match &asked.container {
        Some(container) => container.clone(),
        None => ContainerId::new("planned").map_err(Failure::internal)?,
    };
    let subject = Subject {
        attempt: spec::new_attempt(),
        stage,
        container,
        tenant: claims::tenant(&annotations, config.tenant_annotation.as_deref())?,
        wishes: claims::wishes(&annotations, config)?,
        mounts,
        user_namespace: spec.has_user_namespace(),
        folders: root::foreseen(&spec),
    };
    let root_path = bundle.join(spec.root_path()?);
    let rootfs = Rootfs::on_host(&root_path).map_err(|error| {
        Failure::context(format!("cannot open the root filesystem {}", root_path.display()), error)
    })?;
    let image = Image::new(&root_path, &rootfs, &annotations).for_users(subject.user_namespace);
    let claimed = claim::claim(context, &subject, &rootfs, &image)?;
    let table = context.seen()?;
    let (dead, _) = context.dead(table.grants());
    let living = judge::after(&table, dead.iter().map(|over| &over.record));
    let leased = Leased::by(context, &subject, &claimed);
    Ok(propose::propose(context, &subject, &claimed, &image, &leased, &living)?.plan)
}
