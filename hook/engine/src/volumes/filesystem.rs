//! The filesystems in images: whether they are sound, and how large they are.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::named;
use std::cmp::Ordering;
use volhook_api::volume::Check;
use volhook_api::volume::Checked;
use volhook_api::volume::Resize;
use volhook_api::volume::Resized;
use volhook_core::decision::Backing;
use volhook_core::names::Command;
use volhook_core::record::VolumeRecord;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_leases::Work;
use volhook_volumes::StoreError;

/// Images are made of whole blocks of so many bytes.
const BLOCK: u64 = 4096;

const ONLINE: &str = "growing an ext4 filesystem while it is mounted needs CAP_SYS_RESOURCE; once its container has \
                      stopped it grows without";

/// Whether an image's filesystem is sound; it is mended if that is asked for.
///
/// # Errors
/// [`Kind::Held`](volhook_api::Kind), and when it has errors that are not mended.
pub fn check(engine: &Engine, asked: &Check, work: &Work<'_>) -> Result<Checked, Failure> {
    let context = &Context::new(engine, *work);
    let volume = named::existing(context, asked.volume.id())?;
    let _hold = Hold::take(&context.ledger, Command::Fsck, &[Need::alone(&volume)], &context.work())?;
    let changing = context.store.change("check", &volume).map_err(Failure::new)?;
    let id = &volume.id;
    let checked = |repaired| Checked { name: asked.volume.clone(), repaired };
    match changing.check(asked.repair, context.long_deadline()).map_err(Failure::new)? {
        volhook_volumes::Checked::Clean => Ok(checked(None)),
        volhook_volumes::Checked::Repaired(said) => Ok(checked(Some(said))),
        volhook_volumes::Checked::Damaged(said) => {
            let failure = Failure::new(format!("the filesystem of volume {id:?} has errors: {said}"));
            let failure = failure.about(id.clone());
            Err(if asked.repair {
                failure.hint("take out what is readable with `volhook volume cp`, or restore a copy")
            } else {
                failure
                    .hint(format!("`volhook volume fsck --repair {id}` mends it, as far as that is possible"))
            })
        }
    }
}

/// Gives an image another size: it grows also while containers use it, and shrinks while nobody does.
///
/// # Errors
/// [`Kind::Held`](volhook_api::Kind) for shrinking, when it is no image, and when the filesystem cannot be made so large or small.
pub fn resize(engine: &Engine, asked: &Resize, work: &Work<'_>) -> Result<Resized, Failure> {
    let context = &Context::new(engine, *work);
    let volume = named::existing(context, asked.volume.id())?;
    let size = asked.size;
    let size = size.checked_next_multiple_of(BLOCK).unwrap_or(size);
    let what = match &volume.backing {
        Backing::Image(_) => "an image",
        Backing::Directory(_) | Backing::HostPath(_) => "a directory",
        Backing::Tmpfs(_) => "memory",
        Backing::Device(_) => "a device",
    };
    let hold = match Hold::take(&context.ledger, Command::Resize, &[Need::alone(&volume)], &context.work()) {
        Ok(hold) => Ok(hold),
        // Who has it mounted is in the way of shrinking only; any other failure, and another command, is one of its own.
        Err(error) if has_it_mounted(&error) => Err(Failure::from(error)),
        Err(error) => return Err(error.into()),
    };
    let mut changing = context.store.change("resize", &volume).map_err(Failure::new)?;
    let Backing::Image(image) = &changing.volume().backing else {
        return Err(Failure::new(format!("volume {:?} is {what} and has no size of its own", volume.id))
            .hint("`volhook volume create -o size=SIZE` makes volumes with a limit"));
    };
    let before = image.size;
    let hold = match hold {
        Err(failure) if size < before => {
            return Err(failure.hint("only growing is possible while it is held"));
        }
        hold => hold.ok(),
    };
    match size.cmp(&before) {
        Ordering::Less => {
            changing.shrink(size, context.long_deadline()).map_err(Failure::new)?;
        }
        // Also with the same size: it may be what is left of a resize that was killed.
        Ordering::Equal | Ordering::Greater => {
            let mounted = hold.is_none();
            changing.grow(size, mounted, context.long_deadline()).map_err(|error| match error {
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
        context.append_volumes(&[resized])?;
    }
    Ok(Resized { name: asked.volume.clone(), size })
}

/// Whether a volume could not be taken because somebody has it mounted: a container, the host, or who copies into it. What a
/// command of a later version does with it, nobody knows here.
fn has_it_mounted(error: &volhook_leases::Error) -> bool {
    match error {
        volhook_leases::Error::Held { by, .. } => match by.command() {
            Some((command, _)) => matches!(command, Command::Cp | Command::Mount),
            None => !by.is_command(),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::resize;
    use crate::context::Context;
    use crate::engine::Engine;
    use crate::engine::Places;
    use jiff::Timestamp;
    use std::time::Duration;
    use std::time::Instant;
    use volhook_api::Kind;
    use volhook_api::volume::Resize;
    use volhook_core::decision::Access;
    use volhook_core::decision::Backing;
    use volhook_core::decision::Creation;
    use volhook_core::decision::Directory;
    use volhook_core::decision::Sharing;
    use volhook_core::decision::Tmpfs;
    use volhook_core::lease::Grant;
    use volhook_core::lease::LeasedVolume;
    use volhook_core::names::Command;
    use volhook_core::names::ContainerId;
    use volhook_core::names::Tenant;
    use volhook_core::names::VolumeId;
    use volhook_core::names::VolumeName;
    use volhook_core::plan::new_volume;
    use volhook_core::record::LeaseRecord;
    use volhook_leases::Quiet;
    use volhook_leases::Work;
    use volhook_leases::clock;

    /// How it fails to resize a volume that `by` holds and that has no size: with what is held, or only then.
    fn resized(by: &ContainerId) -> (Kind, String) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let engine = Engine::at(Places {
            root: at("root"),
            run_dir: at("run"),
            config: at("config.toml"),
            program: None,
            environment: Vec::new(),
        });
        let work = Work { until: Instant::now() + Duration::from_secs(60), watcher: &Quiet };
        let context = Context::new(&engine, work);
        let id = VolumeId { tenant: Tenant::default(), name: VolumeName::new("v").unwrap() };
        let backing = Backing::Tmpfs(Tmpfs { size: None, inodes: None, root: Directory::default() });
        let creation = Creation { backing, options: vec![], limit: None, sharing: None, notes: vec![] };
        let uuid = uuid::Uuid::new_v4().to_string();
        let volume = new_volume(id.clone(), &vec![], None, "tmpfs", creation, uuid, Timestamp::now());
        context.store.create(&volume, work.until).unwrap();
        let lease = LeasedVolume {
            volume: id.clone(),
            uuid: volume.uuid,
            driver: volume.driver,
            access: Access::ReadWrite,
            sharing: Sharing::Exclusive,
            image: false,
            target: None,
        };
        let granted = LeaseRecord::Granted(Grant {
            attempt: "a".to_owned(),
            container: by.clone(),
            holder: None,
            leases: vec![lease],
            since: Timestamp::now(),
            since_boot_ms: clock::since_boot_ms(),
        });
        context.lock(work.until).unwrap().append(Timestamp::now(), &[granted]).unwrap();
        let failure = resize(&engine, &Resize { volume: id.into(), size: 1 << 20 }, &work).unwrap_err();
        (failure.kind, failure.cause_line())
    }

    /// An image grows under those who have it mounted, and under nobody who may be at work with the file itself.
    #[test]
    fn only_what_is_mounted_is_resized_while_it_is_held() {
        let mounted = [
            ContainerId::new("c1").unwrap(),
            ContainerId::of_command(Command::Cp, 7),
            ContainerId::of_command(Command::Mount, 7),
        ];
        for by in mounted {
            let (kind, cause) = resized(&by);
            assert_eq!((kind, &*cause), (Kind::Failed, "volume \"v\" is memory and has no size of its own"));
        }
        let at_work = [Command::Clone, Command::Fsck, Command::Populate, Command::Reset, Command::Resize]
            .map(|command| ContainerId::of_command(command, 7));
        for by in at_work.into_iter().chain([ContainerId::recorded("volhook:later:7").unwrap()]) {
            let (kind, cause) = resized(&by);
            assert_eq!(kind, Kind::Held, "{cause}");
        }
        let (_, cause) = resized(&ContainerId::recorded("volhook:later:7").unwrap());
        let told = "volume \"v\" is held by volhook:later:7, a command of a later version, (";
        assert!(cause.starts_with(told), "{cause}");
    }
}
