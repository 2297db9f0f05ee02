//! A pod begins anew from its image: a fresh storage is built where nobody sees it, takes the place of the one that the
//! pod has, and that goes to the trash.
//!
//! Whoever does it holds the storage meanwhile, as any command does that works on volumes. A start builds first, then takes
//! its leases, which end that hold, and exchanges the two under them: until then nothing of the pod is changed.

use crate::context::Context;
use crate::failure::Failure;
use crate::image::Image;
use crate::start::fill;
use crate::start::make::Making;
use jiff::Timestamp;
use std::time::Duration;
use std::time::Instant;
use tracing::debug_span;
use volhook_api::PodRef;
use volhook_core::decision::Sharing;
use volhook_core::image::ImageIdentity;
use volhook_core::lease::Grant;
use volhook_core::names::Command;
use volhook_core::names::ContainerId;
use volhook_core::plan;
use volhook_core::plan::Plan;
use volhook_core::plan::PlannedRenewal;
use volhook_core::record::Step;
use volhook_core::record::VolumeRecord;
use volhook_core::volume::Volume;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_leases::judge::Over;
use volhook_volumes::Discarded;
use volhook_volumes::Renewal;
use volhook_volumes::StoreError;
use volhook_volumes::Watch;

/// How long deleting may take what is not to take a pod's place after all.
const DELETING: Duration = Duration::from_secs(1);

/// The storages that begin anew with one start.
pub(crate) struct Renewals<'a> {
    context: &'a Context<'a>,
    container: Option<&'a ContainerId>,
    image: &'a Image<'a>,
    watch: &'a Watch<'a>,
    built: Vec<Built<'a>>,
}

/// One that is built.
struct Built<'a> {
    planned: PlannedRenewal,
    /// On what the pod has so far, until the container's leases are taken.
    hold: Option<Hold<'a>>,
    fresh: Renewal<'a>,
    /// What the journal is told when it has its place.
    records: Vec<VolumeRecord>,
}

impl<'a> Renewals<'a> {
    /// None yet.
    pub(crate) fn new(making: &Making<'a>) -> Self {
        let Making { context, container, image, watch } = *making;
        Self { context, container, image, watch, built: Vec::new() }
    }

    /// Builds what the plan says, as far as it is not built already. `false`: nothing was to be done.
    pub(crate) fn build(&mut self, plan: &Plan) -> Result<bool, Failure> {
        // What was built for a plan that is another one now is gone with this.
        self.built.retain(|built| plan.renew.contains(&built.planned));
        let is_built = |planned: &&PlannedRenewal| self.built.iter().any(|built| built.planned == **planned);
        let missing: Vec<PlannedRenewal> =
            plan.renew.iter().filter(|planned| !is_built(planned)).cloned().collect();
        for planned in &missing {
            let _building = self.context.enter(Step::Fill, debug_span!("fill", volume = %planned.volume.id));
            if let Some(built) = self.build_one(planned)? {
                self.built.push(built);
            }
        }
        Ok(!missing.is_empty())
    }

    /// `None`: somebody else holds the storage.
    fn build_one(&self, planned: &PlannedRenewal) -> Result<Option<Built<'a>>, Failure> {
        let context = self.context;
        let old = Volume { uuid: planned.uuid.clone(), ..planned.volume.clone() };
        let taken =
            Hold::take_unless_held(&context.ledger, Command::Reset, &Need::alone(&old), &context.work())?;
        let Ok(hold) = taken else { return Ok(None) };
        let mut fresh = renewal(context, &planned.volume, self.watch.deadline)?;
        let mut records = Vec::new();
        if !planned.parts.is_empty() {
            let parts: Vec<_> = planned.parts.iter().collect();
            let wanted = fill::wanted(&parts, self.image)?;
            let copied =
                fresh.fill(&wanted, self.watch).map_err(|error| fill::failed(&planned.volume, error))?;
            records = fill::populated(self.container, &planned.volume, &parts, copied);
        }
        Ok(Some(Built { planned: planned.clone(), hold: Some(hold), fresh, records }))
    }

    /// The holds that end when the container's leases are taken.
    pub(crate) fn holds(&self) -> impl Iterator<Item = Over> {
        self.built.iter().filter_map(|built| built.hold.as_ref()).map(Hold::over)
    }

    /// Says that the holds have ended.
    pub(crate) fn handed_over(&mut self) {
        for built in &mut self.built {
            if let Some(hold) = built.hold.take() {
                hold.keep();
            }
        }
    }

    /// Puts what was built in its place, under the container's leases.
    pub(crate) fn replace(self) -> Result<(), Failure> {
        for Built { planned, fresh, records, .. } in self.built {
            let told = told(&planned.uuid, fresh.volume(), self.container);
            replace(fresh, &planned.uuid)?;
            self.context.append_volumes(&told.into_iter().chain(records).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

fn renewal<'a>(context: &'a Context<'a>, fresh: &Volume, deadline: Instant) -> Result<Renewal<'a>, Failure> {
    context.store.renew(fresh, deadline).map_err(|error| Failure::new(error).about(fresh.id.clone()))
}

fn replace(fresh: Renewal<'_>, old: &str) -> Result<Discarded, Failure> {
    let id = fresh.volume().id.clone();
    fresh.replace(old, Timestamp::now()).map_err(|error| Failure::new(error).about(id))
}

/// What the journal is told of a storage that has the place of another.
fn told(old: &str, fresh: &Volume, container: Option<&ContainerId>) -> Vec<VolumeRecord> {
    let Volume { id, uuid, .. } = fresh;
    vec![
        VolumeRecord::Removed { volume: id.clone(), uuid: old.to_owned() },
        VolumeRecord::created(fresh, container),
        VolumeRecord::Reset { volume: id.clone(), uuid: uuid.clone() },
    ]
}

/// The uuid that a volume of a plan has as long as nothing of the plan is done under its leases.
pub(crate) fn uuid_now<'a>(plan: &'a Plan, volume: &'a Volume) -> &'a str {
    let renewed = plan.renew.iter().find(|renewal| renewal.volume.uuid == volume.uuid);
    renewed.map_or(&volume.uuid, |renewal| &renewal.uuid)
}

/// Puts everything back in its place that `plan` has put into the trash. `grant` are the leases of its attempt.
pub(crate) fn take_back(context: &Context<'_>, plan: &Plan, grant: &Grant) -> Result<(), Failure> {
    for renewal in &plan.renew {
        let fresh = &renewal.volume;
        let is_ours = grant.leases.iter().any(|lease| {
            lease.volume == fresh.id && lease.uuid == fresh.uuid && lease.sharing == Sharing::Exclusive
        });
        if !is_ours {
            // Other containers may have it, or have had it: the pod's files stay in the trash.
            continue;
        }
        match context.store.take_back(fresh, &renewal.uuid, Instant::now() + DELETING) {
            Ok(old) => context.append_volumes(&[
                VolumeRecord::Deleted { volume: fresh.id.clone(), uuid: fresh.uuid.clone() },
                VolumeRecord::Restored { volume: old.id, uuid: old.uuid },
            ])?,
            // It was never put there.
            Err(StoreError::Gone { .. }) => {}
            Err(error) => {
                let pod = PodRef { tenant: fresh.id.tenant.clone(), pod: renewal.pod.clone() };
                let uuid = &renewal.uuid;
                return Err(Failure::new(error).hint(format!(
                    "what pod {pod} had is in the trash: `volhook pod rm {pod}`, then `volhook trash restore {uuid}`"
                )));
            }
        }
    }
    Ok(())
}

/// Has a pod's storage begin anew from `image`. What it had goes to the trash.
pub(crate) fn begin_anew(
    context: &Context<'_>,
    old: &Volume,
    image: Option<ImageIdentity>,
    watch: &Watch<'_>,
) -> Result<Discarded, Failure> {
    let hold = Hold::take(&context.ledger, Command::Reset, &[Need::alone(old)], &context.work())?;
    let uuid = uuid::Uuid::new_v4().to_string();
    let fresh = plan::begun_anew(old, image, &uuid, Timestamp::now());
    let renewal = renewal(context, &fresh, watch.deadline)?;
    let discarded = replace(renewal, &old.uuid)?;
    context.append_volumes(&told(&old.uuid, &fresh, None))?;
    drop(hold);
    Ok(discarded)
}
