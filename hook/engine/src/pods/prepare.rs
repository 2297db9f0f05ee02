//! A pod's volumes, made ahead of its first start.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::image::Image;
use crate::start::claim;
use crate::start::leased::Leased;
use crate::start::make::Making;
use crate::start::propose;
use crate::start::spec;
use crate::start::storage;
use crate::start::subject::Subject;
use crate::volumes::copying::Copying;
use std::collections::BTreeMap;
use volhook_api::PodRef;
use volhook_api::pod::Prepare;
use volhook_core::claims;
use volhook_core::names::ContainerId;
use volhook_core::plan::Plan;
use volhook_core::plan::PlannedRenewal;
use volhook_core::stage::Stage;
use volhook_journal::Interest;
use volhook_leases::Work;
use volhook_leases::judge;
use volhook_mounts::rootfs::Rootfs;

/// Does what a first start would do, without a container and however long it takes. What is there already stays as it is.
///
/// # Errors
/// Those for which a start would be refused, and when the pod would begin anew from this image.
pub fn prepare(engine: &Engine, asked: &Prepare, work: &Work<'_>) -> Result<(), Failure> {
    let context = &Context::new(engine, *work);
    let Prepare { pod: PodRef { tenant, pod }, rootfs: path, policy } = asked;
    let config = context.config()?;
    let key = |name: &str| format!("{}.{name}", config.annotation_prefix);
    let mut annotations = BTreeMap::from([(key("pod"), pod.to_string())]);
    annotations.extend(policy.clone().map(|policy| (key("policy"), policy)));
    let rootfs = Rootfs::on_host(path).map_err(|error| {
        Failure::context(format!("cannot open the root filesystem {}", path.display()), error)
    })?;
    let image = Image::new(path, &rootfs, &annotations);
    let subject = Subject {
        attempt: spec::new_attempt(),
        stage: Stage::Live,
        container: ContainerId::new("prepared").map_err(Failure::internal)?,
        tenant: tenant.clone(),
        wishes: claims::wishes(&annotations, config).map_err(Failure::usage)?,
        mounts: Vec::new(),
        user_namespace: false,
        folders: None,
    };
    let copying = Copying::begin(*work, None);
    let watch = &copying.watch();
    let claimed = claim::claim(context, &subject, &rootfs, &image)?;
    loop {
        let leased = Leased::by(context, &subject, &claimed);
        let table = context.grants_about(&Interest { volumes: &leased.volumes, ..Interest::default() })?;
        let (dead, _) = context.dead(table.grants());
        let living = judge::after(&table, dead.iter().map(|over| &over.record));
        let proposal = propose::propose(context, &subject, &claimed, &image, &leased, &living)?;
        refuse_renewal(&asked.pod, &proposal.plan)?;
        let making = Making { context, container: None, image: &image, watch };
        if !making.make(&proposal, context.long_deadline())? {
            return storage::follow(context, &proposal);
        }
    }
}

/// What a pod has is thrown away for a container that its user has started, or when it is asked for; never ahead of that.
fn refuse_renewal(pod: &PodRef, plan: &Plan) -> Result<(), Failure> {
    let Some(PlannedRenewal { storage, from, .. }) = plan.renew.first() else { return Ok(()) };
    let from = from.describe();
    let reason = format!(
        "pod {:?} was made from {from}, and begins anew from another image (on-image-change=reset)",
        pod.to_string()
    );
    Err(Failure::new(reason)
        .hint(format!("`volhook pod reset {pod}` does that now: its files go to the trash; prepare it then"))
        .about(storage.clone()))
}
