//! What a command holds of the volumes that it works on, as a container would: a volume that somebody holds is not taken
//! from them.

use crate::clock;
use crate::error::Error;
use crate::ground::Ground;
use crate::judge::Over;
use crate::ledger::Ledger;
use crate::patience;
use crate::work::Work;
use jiff::Timestamp;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_api::Remark;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::LeasedVolume;
use volhook_core::names::Command;
use volhook_core::names::ContainerId;
use volhook_core::names::Target;
use volhook_core::names::VolumeId;
use volhook_core::plan;
use volhook_core::record::LeaseRecord;
use volhook_core::record::ReleaseReason;
use volhook_core::record::Steps;
use volhook_core::volume::Volume;
use volhook_journal::Encoded;
use volhook_mounts::device::device_is_free;
use volhook_mounts::process;
use volhook_mounts::process::Process;
use volhook_mounts::source::image_is_free;
use volhook_volumes::failpoint;

/// Fails if somebody holds the volume, naming who.
///
/// # Errors
/// [`Error::Held`].
pub fn refuse_held(table: &LeaseTable, id: &VolumeId) -> Result<(), Error> {
    let Some((grant, lease)) = table.holders(id).next() else { return Ok(()) };
    Err(Error::Held {
        volume: id.clone(),
        by: grant.container.clone(),
        how: (lease.access, lease.sharing),
        since: grant.since,
    })
}

/// Waits until the kernel has let go of a volume that was unmounted just now, so that whoever needs it next finds it free.
pub fn await_free(ground: &Ground, volume: &Volume) {
    // Others may have one that containers share.
    if volume.sharing == Some(Sharing::Shared) {
        return;
    }
    let is_free = || match &volume.backing {
        Backing::Image(_) => image_is_free(&ground.store().image_path(volume)),
        Backing::Device(device) => device_is_free(Path::new(device.path.as_str())),
        Backing::Directory(_) | Backing::HostPath(_) | Backing::Tmpfs(_) => Ok(true),
    };
    volhook_locks::waits("the kernel");
    let patience = Instant::now() + patience::LETTING_GO;
    while matches!(is_free(), Ok(false)) && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A volume that a command needs.
#[derive(Debug, Clone)]
pub struct Need<'a> {
    /// The volume.
    pub volume: &'a Volume,
    /// What is done with it.
    pub access: Access,
    /// Nobody else may hold it meanwhile, even if its driver lets containers share it.
    pub alone: bool,
    /// Where it is mounted on the host.
    pub target: Option<Target>,
}

impl<'a> Need<'a> {
    /// A volume that others may hold as well, if its driver lets containers share it.
    #[must_use]
    pub fn of(volume: &'a Volume, access: Access) -> Self {
        Self { volume, access, alone: false, target: None }
    }

    /// A volume that nobody else may hold.
    #[must_use]
    pub fn alone(volume: &'a Volume) -> Self {
        Self { alone: true, ..Self::of(volume, Access::ReadWrite) }
    }
}

/// Why a hold ends.
const DONE: &str = "it is done";

/// Leases of a command on the volumes that it works on. They end when it is done, and if it dies.
pub struct Hold<'a> {
    ledger: &'a Ledger,
    work: Work<'a>,
    grant: Grant,
}

impl<'a> Hold<'a> {
    /// Takes leases on all of `needs`, or on none.
    ///
    /// # Errors
    /// [`Error::Held`], [`Error::NoSuchVolume`] when one was removed meanwhile, [`Error::Hold`].
    pub fn take(
        ledger: &'a Ledger,
        command: Command,
        needs: &[Need<'_>],
        work: &Work<'a>,
    ) -> Result<Self, Error> {
        Self::attempt(ledger, command, needs, true, work)?.map_err(|(table, id)| in_the_way(&table, id))
    }

    /// Takes the lease on a volume that is only going to be made: nobody has it before its maker is done.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn ahead(
        ledger: &'a Ledger,
        command: Command,
        planned: &Volume,
        work: &Work<'a>,
    ) -> Result<Self, Error> {
        let needs = [Need::alone(planned)];
        Self::attempt(ledger, command, &needs, false, work)?.map_err(|(table, id)| in_the_way(&table, id))
    }

    /// Takes a lease on `need`, unless somebody holds it in a way that does not go together with that: then says who.
    ///
    /// # Errors
    /// [`Error::NoSuchVolume`] when it was removed meanwhile, [`Error::Hold`].
    pub fn take_unless_held(
        ledger: &'a Ledger,
        command: Command,
        need: &Need<'_>,
        work: &Work<'a>,
    ) -> Result<Result<Self, ContainerId>, Error> {
        let taken = Self::attempt(ledger, command, std::slice::from_ref(need), true, work)?;
        Ok(taken.map_err(|(table, id)| {
            let holder = table.holders(&id).map(|(grant, _)| grant.container.clone()).next();
            holder.unwrap_or_else(|| ContainerId::of_command(command, std::process::id()))
        }))
    }

    /// The hold, or who holds what of it. With `there` the volumes have to be there.
    fn attempt(
        ledger: &'a Ledger,
        command: Command,
        needs: &[Need<'_>],
        there: bool,
        work: &Work<'a>,
    ) -> Result<Result<Self, (LeaseTable, VolumeId)>, Error> {
        let volumes: Vec<VolumeId> = needs.iter().map(|need| need.volume.id.clone()).collect();
        let leases = needs.iter().map(lease).collect();
        let pid = std::process::id();
        let process = Process::open(pid.cast_signed()).map_err(Error::Process)?;
        let grant = Grant {
            attempt: uuid::Uuid::new_v4().to_string(),
            container: ContainerId::of_command(command, pid),
            holder: Some(process::holder(ledger.host()?, &process).map_err(Error::Process)?),
            leases,
            since: Timestamp::now(),
            since_boot_ms: clock::since_boot_ms(),
        };
        let record = Encoded::of(&LeaseRecord::Granted(grant.clone()))?;
        let (mut locked, table) = ledger
            .lock_volumes(&volumes, work)
            .map_err(|source| Error::Hold { volumes: volumes.clone(), source: Box::new(source) })?;
        for lease in &grant.leases {
            if plan::conflicts(lease, &table).next().is_some() {
                return Ok(Err((table, lease.volume.clone())));
            }
        }
        // They are removed and renamed under a lease that nobody else has.
        for need in needs.iter().filter(|_| there) {
            let found = ledger.store().find(&need.volume.id)?;
            if found.is_none_or(|found| found.uuid != need.volume.uuid) {
                return Err(Error::NoSuchVolume { volume: need.volume.id.clone() });
            }
        }
        locked.append_encoded(grant.since, vec![record])?;
        drop(locked);
        let hold = Self { ledger, work: *work, grant };
        failpoint::reached("held").map_err(|errno| Error::Stopped { step: "held", source: errno.into() })?;
        Ok(Ok(hold))
    }

    /// Whether nobody else can hold any of its volumes.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.grant.leases.iter().all(|lease| lease.sharing == Sharing::Exclusive)
    }

    /// Its end, for somebody who records that together with something else, and then [keeps](Self::keep) it.
    #[must_use]
    pub fn over(&self) -> Over {
        Over::new(&self.grant, ReleaseReason::Done, DONE.to_owned())
    }

    /// Leaves the leases to what was mounted: they last as long as that.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let evidence = DONE.to_owned();
        if let Err(error) =
            self.ledger.release(&self.grant, ReleaseReason::Done, evidence, Steps::new(), &self.work)
        {
            // Whoever needs the volume next finds this process dead.
            self.work.watcher.told(&Remark::NotGivenBack { cause: error.line() });
        }
    }
}

/// Why a volume could not be taken.
fn in_the_way(table: &LeaseTable, id: VolumeId) -> Error {
    match refuse_held(table, &id) {
        Err(error) => error,
        Ok(()) => Error::InItsOwnWay { volume: id },
    }
}

fn lease(need: &Need<'_>) -> LeasedVolume {
    let Volume { id, uuid, driver, backing, .. } = need.volume;
    let shared = !need.alone && need.volume.sharing == Some(Sharing::Shared);
    LeasedVolume {
        volume: id.clone(),
        uuid: uuid.clone(),
        driver: driver.clone(),
        access: need.access,
        sharing: if shared { Sharing::Shared } else { Sharing::Exclusive },
        image: matches!(backing, Backing::Image(_)),
        target: need.target.clone(),
    }
}
