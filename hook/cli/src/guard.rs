//! The guard: a volume that somebody holds is not taken from them. Commands that work on volumes hold them while they do.

use crate::context::Context;
use crate::error::Failure;
use crate::error::Kind;
use crate::evidence;
use crate::evidence::Over;
use crate::execute;
use crate::execute::DYING_PATIENCE;
use crate::output::warn;
use jiff::Timestamp;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseRecord;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::LeasedVolume;
use volhook_core::lease::ReleaseReason;
use volhook_core::names::Command;
use volhook_core::names::ContainerId;
use volhook_core::names::Target;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::plan;
use volhook_core::volume::Volume;
use volhook_journal::Interest;
use volhook_journal::Locked;
use volhook_mounts::device::device_is_free;
use volhook_mounts::process;
use volhook_mounts::process::Process;
use volhook_mounts::source::image_is_free;
use volhook_volumes::StoreError;

/// How long the kernel may take to write out a filesystem that was unmounted, and to let go of what it was on.
const LETTING_GO: Duration = Duration::from_secs(5);

/// A volume's identity from what a person typed.
pub(crate) fn volume_id(tenant: &str, name: &str) -> Result<VolumeId, Failure> {
    Ok(VolumeId {
        tenant: Tenant::new(tenant).map_err(Failure::usage)?,
        name: VolumeName::new(name).map_err(Failure::usage)?,
    })
}

/// The volume that a person means.
pub(crate) fn existing(context: &Context, id: &VolumeId) -> Result<Volume, Failure> {
    match context.store.find(id) {
        Ok(Some(volume)) => Ok(volume),
        Ok(None) => Err(no_such(id)),
        Err(error) => {
            let hint = match &error {
                StoreError::IsPart { pod: Some(pod), .. } => Some(format!(
                    "it lives and goes with its pod: `volhook pod inspect {pod}`, `volhook pod reset {pod}`, `volhook pod rm {pod}`"
                )),
                _ => None,
            };
            let mut failure = Failure::new(error).about(id.clone());
            failure.hints.extend(hint);
            Err(failure)
        }
    }
}

/// The error for a volume that is not there, with its own exit code.
pub(crate) fn no_such(id: &VolumeId) -> Failure {
    let failure = Failure::new(format!("no such volume: {id:?}"));
    Failure { kind: Kind::NoSuchVolume, ..failure.hint("`volhook volume ls` shows which there are") }
}

/// The journal under its lock, with the leases on `volumes` that are not provably dead; those that are have been given
/// back.
pub(crate) fn lock<'a>(
    context: &'a Context,
    volumes: &[VolumeId],
) -> Result<(Locked<'a>, LeaseTable), Failure> {
    let interest = Interest { volumes, ..Interest::default() };
    let patience = Instant::now() + DYING_PATIENCE;
    loop {
        let (dead, dying) = evidence::dead(context, context.grants_about(&interest)?.grants());
        if dying && Instant::now() < patience.min(context.deadline) {
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        let mut locked = context.lock(context.deadline)?;
        let table = locked.about(&interest).map_err(Failure::new)?;
        let dead: Vec<Over> = dead.into_iter().filter(|over| over.stands_in(&table)).collect();
        let released: Vec<LeaseRecord> = dead.iter().map(|over| over.record.clone()).collect();
        if !released.is_empty() {
            locked.append(Timestamp::now(), &released).map_err(Failure::new)?;
        }
        return Ok((locked, evidence::after(&table, released.iter())));
    }
}

/// Fails if somebody holds the volume, naming who.
pub(crate) fn refuse_held(table: &LeaseTable, id: &VolumeId) -> Result<(), Failure> {
    let Some((grant, lease)) = table.holders(id).next() else { return Ok(()) };
    let hint = match grant.container.command() {
        Some((Command::Mount, _)) => "`volhook volume umount` gives it back",
        Some(_) => "try again when that command is done",
        None => "stop that container; --force does not touch what is held",
    };
    let (who, how) = (plan::whom(&grant.container), format!("{} {}", lease.access, lease.sharing));
    let reason = format!("volume {id:?} is held by {who} ({how}, since {})", grant.since);
    Err(Failure::new(reason).hint(hint).about(id.clone()))
}

/// Waits until the kernel has let go of a volume that was unmounted just now, so that whoever needs it next finds it free.
pub(crate) fn await_free(context: &Context, volume: &Volume) {
    // Others may have one that containers share.
    if volume.sharing == Some(Sharing::Shared) {
        return;
    }
    let is_free = || match &volume.backing {
        Backing::Image(_) => image_is_free(&context.store.image_path(volume)),
        Backing::Device(device) => device_is_free(Path::new(device.path.as_str())),
        Backing::Directory(_) | Backing::HostPath(_) | Backing::Tmpfs(_) => Ok(true),
    };
    let patience = Instant::now() + LETTING_GO;
    while matches!(is_free(), Ok(false)) && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A volume that a command needs.
pub(crate) struct Need<'a> {
    pub(crate) volume: &'a Volume,
    pub(crate) access: Access,
    /// Nobody else may hold it meanwhile, even if its driver lets containers share it.
    pub(crate) alone: bool,
    /// Where it is mounted on the host.
    pub(crate) target: Option<Target>,
}

impl<'a> Need<'a> {
    /// A volume that others may hold as well, if its driver lets containers share it.
    pub(crate) fn of(volume: &'a Volume, access: Access) -> Self {
        Self { volume, access, alone: false, target: None }
    }

    /// A volume that nobody else may hold.
    pub(crate) fn alone(volume: &'a Volume) -> Self {
        Self { alone: true, ..Self::of(volume, Access::ReadWrite) }
    }
}

/// Leases of a command on the volumes that it works on. They end when it is done, and if it dies.
pub(crate) struct Hold<'a> {
    context: &'a Context,
    grant: Grant,
}

impl<'a> Hold<'a> {
    /// Takes leases on all of `needs`, or on none.
    pub(crate) fn take(context: &'a Context, command: Command, needs: &[Need<'_>]) -> Result<Self, Failure> {
        Self::attempt(context, command, needs)?.map_err(|(table, id)| match refuse_held(&table, &id) {
            Err(failure) => failure,
            Ok(()) => Failure::internal(format!("volume {id:?} is in the way of itself")),
        })
    }

    /// Takes a lease on `need`, unless somebody holds it in a way that does not go together with that: then says who.
    pub(crate) fn take_unless_held(
        context: &'a Context,
        command: Command,
        need: &Need<'_>,
    ) -> Result<Result<Self, ContainerId>, Failure> {
        let taken = Self::attempt(context, command, std::slice::from_ref(need))?;
        Ok(taken.map_err(|(table, id)| {
            let holder = table.holders(&id).map(|(grant, _)| grant.container.clone()).next();
            holder.unwrap_or_else(|| ContainerId::of_command(command, std::process::id()))
        }))
    }

    /// The hold, or who holds what of it.
    fn attempt(
        context: &'a Context,
        command: Command,
        needs: &[Need<'_>],
    ) -> Result<Result<Self, (LeaseTable, VolumeId)>, Failure> {
        let volumes: Vec<VolumeId> = needs.iter().map(|need| need.volume.id.clone()).collect();
        let leases = needs.iter().map(|need| lease(need)).collect();
        let pid = std::process::id();
        let process = i32::try_from(pid)
            .map_err(Failure::internal)
            .and_then(|pid| Process::open(pid).map_err(Failure::new))?;
        let grant = Grant {
            attempt: uuid::Uuid::new_v4().to_string(),
            container: ContainerId::of_command(command, pid),
            holder: Some(process::holder(context.host()?, &process).map_err(Failure::new)?),
            leases,
            since: Timestamp::now(),
        };
        let (mut locked, table) = lock(context, &volumes).map_err(|failure| {
            let names: Vec<String> = volumes.iter().map(|id| format!("{id:?}")).collect();
            failure.during(format!("cannot hold volume {} for this command", names.join(" and ")))
        })?;
        for lease in &grant.leases {
            if plan::conflicts(lease, &table).next().is_some() {
                return Ok(Err((table, lease.volume.clone())));
            }
        }
        // Volumes are removed under this lock.
        for need in needs {
            let found = context.store.find(&need.volume.id).map_err(Failure::new)?;
            if found.is_none_or(|found| found.uuid != need.volume.uuid) {
                return Err(no_such(&need.volume.id));
            }
        }
        locked.append(grant.since, &[LeaseRecord::Granted(grant.clone())]).map_err(Failure::new)?;
        Ok(Ok(Self { context, grant }))
    }

    /// Whether nobody else can hold any of its volumes.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.grant.leases.iter().all(|lease| lease.sharing == Sharing::Exclusive)
    }

    /// Leaves the leases to what was mounted: they last as long as that.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let evidence = "it is done".to_owned();
        if let Err(failure) = execute::release(self.context, &self.grant, ReleaseReason::Done, evidence) {
            // Whoever needs the volume next finds this process dead.
            warn(&failure.cause_line());
        }
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
