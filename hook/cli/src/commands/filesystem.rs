//! `volhook volume fsck` and `resize`: the filesystems in images.

use crate::output::out;
use crate::progress;
use jiff::Timestamp;
use std::cmp::Ordering;
use volhook_core::decision::Backing;
use volhook_core::lease::VolumeRecord;
use volhook_core::names::Command;
use volhook_core::size;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_engine::named;
use volhook_journal::Interest;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_volumes::Checked;
use volhook_volumes::StoreError;

/// Images are made of whole blocks of so many bytes.
const BLOCK: u64 = 4096;

const ONLINE: &str = "growing an ext4 filesystem while it is mounted needs CAP_SYS_RESOURCE; once its container has \
                      stopped it grows without";

/// `volhook volume fsck NAME`: whether an image's filesystem is sound; with `repair`, mends it.
pub(crate) fn fsck(context: &Context<'_>, tenant: &str, name: &str, repair: bool) -> Result<(), Failure> {
    let volume = named::existing(context, &named::volume_id(tenant, name)?)?;
    let _hold = Hold::take(&context.ledger, Command::Fsck, &[Need::alone(&volume)], &context.work())?;
    let changing = context.store.change("check", &volume).map_err(Failure::new)?;
    let id = &volume.id;
    let checked =
        progress::spinning("checking the filesystem", || changing.check(repair, context.long_deadline()));
    match checked.map_err(Failure::new)? {
        Checked::Clean => out(&format!("{id}: clean\n")),
        Checked::Repaired(said) => out(&format!("{id}: repaired: {said}\n")),
        Checked::Damaged(said) => {
            let failure = Failure::new(format!("the filesystem of volume {id:?} has errors: {said}"));
            Err(if repair {
                failure.hint("take out what is readable with `volhook volume cp`, or restore a copy")
            } else {
                failure
                    .hint(format!("`volhook volume fsck --repair {id}` mends it, as far as that is possible"))
            })
        }
    }
}

/// `volhook volume resize NAME SIZE`: an image grows also while containers use it, and shrinks while nobody does.
pub(crate) fn resize(context: &Context<'_>, tenant: &str, name: &str, wanted: &str) -> Result<(), Failure> {
    let volume = named::existing(context, &named::volume_id(tenant, name)?)?;
    let size = size::parse(wanted).map_err(|error| {
        Failure::usage(error).during(format!("cannot resize volume {:?} to {wanted:?}", volume.id))
    })?;
    let size = size.checked_next_multiple_of(BLOCK).unwrap_or(size);
    let mut changing = context.store.change("resize", &volume).map_err(Failure::new)?;
    let what = match &changing.volume().backing {
        Backing::Image(_) => "an image",
        Backing::Directory(_) | Backing::HostPath(_) => "a directory",
        Backing::Tmpfs(_) => "memory",
        Backing::Device(_) => "a device",
    };
    let Backing::Image(image) = &changing.volume().backing else {
        return Err(Failure::new(format!("volume {:?} is {what} and has no size of its own", volume.id))
            .hint("`volhook volume create -o size=SIZE` makes volumes with a limit"));
    };
    let before = image.size;
    // Somebody who holds it is in the way of shrinking only; any other failure is one of its own.
    let held = context
        .grants_about(&Interest { volumes: std::slice::from_ref(&volume.id), ..Interest::default() })?;
    let hold = match Hold::take(&context.ledger, Command::Resize, &[Need::alone(&volume)], &context.work())
        .map_err(Failure::from)
    {
        Ok(hold) => Some(hold),
        Err(failure) if held.holders(&volume.id).next().is_none() => return Err(failure),
        Err(failure) if size < before => {
            return Err(failure.hint("only growing is possible while it is held"));
        }
        Err(_) => None,
    };
    match size.cmp(&before) {
        Ordering::Less => {
            let shrink = || changing.shrink(size, context.long_deadline());
            progress::spinning("making it smaller", shrink).map_err(Failure::new)?;
        }
        // Also with the same size: it may be what is left of a resize that was killed.
        Ordering::Equal | Ordering::Greater => {
            let mounted = hold.is_none();
            let grow = || changing.grow(size, mounted, context.long_deadline());
            let grown = progress::spinning("making it larger", grow);
            grown.map_err(|error| match error {
                StoreError::Image { .. } if mounted => Failure::new(error).hint(ONLINE),
                StoreError::Find { .. } => {
                    Failure::new(error).during(format!("cannot resize volume {:?}", volume.id))
                }
                error => Failure::new(error),
            })?;
        }
    }
    if size != before {
        let (volume, uuid) = (volume.id.clone(), volume.uuid.clone());
        let resized = VolumeRecord::Resized { volume, uuid, size };
        context.lock(context.deadline)?.append_volumes(Timestamp::now(), &[resized]).map_err(Failure::new)?;
    }
    out(&format!("{} {}\n", volume.id, size::format(size)))
}
