//! What has to be done before leases can be taken: volumes are created and filled.

use crate::context::Context;
use crate::failpoint;
use crate::failure::Failure;
use crate::image::Image;
use crate::start::fill;

use crate::start::subject::Proposal;
use std::time::Instant;
use tracing::debug_span;
use volhook_api::Remark;
use volhook_core::names::ContainerId;
use volhook_core::plan::Plan;
use volhook_core::record::Step;
use volhook_core::record::VolumeRecord;
use volhook_volumes::Created;
use volhook_volumes::Watch;

/// What makes the volumes of a plan.
pub(crate) struct Making<'a> {
    /// The engine at the work that this is part of.
    pub context: &'a Context<'a>,
    /// For whom.
    pub container: Option<&'a ContainerId>,
    /// What volumes are filled from.
    pub image: &'a Image<'a>,
    /// Who watches the copying.
    pub watch: &'a Watch<'a>,
}

impl Making<'_> {
    /// Does the next of what has to be done before the leases can be taken. `false`: nothing was to be done.
    pub(crate) fn make(&self, proposal: &Proposal, deadline: Instant) -> Result<bool, Failure> {
        let plan = &proposal.plan;
        if !plan.create.is_empty() {
            self.create(plan, deadline)?;
            return Ok(true);
        }
        if plan.copy_up.is_empty() && plan.parts.is_empty() {
            return Ok(false);
        }
        if Instant::now() >= deadline {
            let reason = "the volumes of the container could not be filled from its image in time";
            return Err(Failure::new(reason));
        }
        let _filling = self.context.enter(Step::Fill, debug_span!("fill"));
        fill::fill(self.context, self.container, plan, &proposal.volumes, self.image, self.watch)?;
        Ok(true)
    }

    /// Creates the plan's new volumes and records them. Whoever else creates the same volume at the same time may
    /// win; the next proposal finds the winner's.
    fn create(&self, plan: &Plan, deadline: Instant) -> Result<(), Failure> {
        let context = self.context;
        let mut records = Vec::new();
        for volume in &plan.create {
            let _creating = context.enter(Step::Volumes, debug_span!("volumes", volume = %volume.id));
            let created = context.store.create(volume, deadline).map_err(|error| {
                Failure::context(format!("cannot create volume {:?}", volume.id), error)
                    .about(volume.id.clone())
            })?;
            if let Created::New(volume) = created {
                records.push(VolumeRecord::created(&volume, self.container));
            }
        }
        failpoint::reached("volumes-created")?;
        let _recording = context.enter(Step::Journal, debug_span!("journal"));
        if !records.is_empty() {
            context.append_volumes(&records)?;
            // A start that creates volumes waits for the disk anyway, and comes by often enough. A container's start does not
            // depend on it.
            if let Err(failure) = context.trim_history() {
                let cause = failure.cause_line();
                context.work().watcher.told(&Remark::HistoryStays { cause });
            }
        }
        Ok(())
    }
}
