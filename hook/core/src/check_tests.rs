//! Tests of the checker: each invariant broken by itself.

#[path = "check/generated_tests.rs"]
mod generated;

use super::*;
use crate::claims::Claim;
use crate::claims::Origin;
use crate::decision::Attachment;
use crate::decision::Creation;
use crate::decision::Device;
use crate::decision::Directory;
use crate::decision::EntryKind;
use crate::decision::Filesystem;
use crate::decision::HostPath;
use crate::decision::Image;
use crate::decision::MountFlags;
use crate::decision::Tmpfs;
use crate::image::ImageIdentity;
use crate::last_step::PodRoot;
use crate::lease::Grant;
use crate::names::AbsolutePath;
use crate::names::Pod;
use crate::names::SubPath;
use crate::names::Target;
use crate::names::Tenant;
use crate::plan::Decided;
use crate::plan::Facts;
use crate::plan::Met;
use crate::plan::Note;
use crate::plan::PlannedCopyUp;
use crate::plan::PlannedPart;
use crate::plan::bounded;
use crate::plan::new_volume;
use crate::plan::plan;
use crate::resolved::Resolved;
use crate::spec::SpecMount;
use crate::volume::Part;
use crate::volume::PodMember;
use jiff::Timestamp;

const GRANTS: &str = r#"
paths = [{ path = "/srv/data", read_only = true }, "/srv/free"]
devices = ["/dev/vg/*"]
"#;

fn id(name: &str) -> VolumeId {
    VolumeId { tenant: Tenant::default(), name: VolumeName::new(name).unwrap() }
}

fn member(pod: &str, member: &str) -> PodMember {
    PodMember { pod: Pod::new(pod).unwrap(), member: member.into() }
}

fn directory() -> Backing {
    Backing::Directory(Directory::default())
}

fn image() -> Backing {
    Backing::Image(Image::new(1 << 20, Filesystem::Ext4))
}

fn tmpfs() -> Backing {
    Backing::Tmpfs(Tmpfs { size: None, inodes: None, root: Directory::default() })
}

fn host(path: &str) -> Backing {
    Backing::HostPath(HostPath { path: AbsolutePath::new(path).unwrap() })
}

fn device() -> Backing {
    Backing::Device(Device { path: AbsolutePath::new("/dev/vg/lv").unwrap(), filesystem: Filesystem::Ext4 })
}

fn volume(name: &str, backing: Backing) -> Volume {
    let creation = Creation { backing, options: vec![], limit: None, sharing: None, notes: vec![] };
    let uuid = format!("uuid of {name}");
    new_volume(id(name), &vec![], None, "local", creation, uuid, Timestamp::UNIX_EPOCH)
}

fn storage(name: &str, pod: &str, population: Population, parts: Vec<Part>) -> Volume {
    let storage = Some(PodStorage { population, parts, image: None, offered: None });
    let pod = Some(member(pod, "storage"));
    Volume { storage, pod, copy_up: CopyUp::Over, ..volume(name, directory()) }
}

fn image_called(name: &str) -> ImageIdentity {
    ImageIdentity { name: Some(name.into()), ..ImageIdentity::default() }
}

fn with_image(storage: &Volume, image: &str) -> Volume {
    let mut volume = storage.clone();
    volume.storage.as_mut().unwrap().image = Some(image_called(image));
    volume
}

/// The part of a storage that belongs to the folder `path`.
fn part(storage: &str, path: &str) -> Part {
    let member = path[1..].replace('/', "-");
    let name = VolumeName::new(format!("{storage}-{member}")).unwrap();
    Part { name, member, path: Target::new(path).unwrap(), created: Timestamp::UNIX_EPOCH }
}

fn claim(volume: &str, target: &str, access: Access) -> Claim {
    Claim {
        origin: Origin::Annotation(target.into()),
        volume: VolumeName::new(volume).unwrap(),
        target: Target::new(target).unwrap(),
        driver: None,
        options: vec![],
        labels: vec![],
        access,
        no_copy: false,
        subpath: None,
        flags: MountFlags::default(),
        member: None,
        storage: None,
    }
}

/// A policy's claim on the part of `storage` that belongs to the target.
fn claim_of_policy(storage: &str, target: &str, access: Access) -> Claim {
    let part = part(storage, target);
    Claim {
        origin: Origin::Policy("universal".into()),
        member: Some(member("p", &part.member)),
        storage: Some(VolumeName::new(storage).unwrap()),
        ..claim(part.name.as_str(), target, access)
    }
}

fn attachment(access: Access, sharing: Sharing) -> Attachment {
    Attachment { access, sharing, flags: MountFlags::default(), notes: vec!["a note".into()] }
}

fn grant(attempt: &str, volume: &Volume, access: Access, sharing: Sharing) -> Grant {
    let leases = vec![LeasedVolume {
        volume: volume.id.clone(),
        uuid: volume.uuid.clone(),
        driver: volume.driver.clone(),
        access,
        sharing,
        image: matches!(volume.backing, Backing::Image(_)),
        target: None,
    }];
    let (container, since) = (ContainerId::new("c1").unwrap(), Timestamp::UNIX_EPOCH);
    Grant { attempt: attempt.into(), container, holder: None, leases, since, since_boot_ms: None }
}

fn found_at(path: &str) -> Resolved {
    Resolved { path: path.into(), kind: Some(EntryKind::Directory), shared: false }
}

fn bind(destination: &str) -> SpecMount {
    SpecMount {
        destination: destination.into(),
        kind: "bind".into(),
        source: "/somewhere".into(),
        options: vec![],
    }
}

/// A plan, and what the checker is told beside it.
struct World {
    plan: Plan,
    volumes: BTreeMap<VolumeId, Volume>,
    grants: Grants,
    table: LeaseTable,
}

impl World {
    /// A plan of the planner's with something of everything.
    fn sound() -> Self {
        use Access::ReadOnly;
        use Access::ReadWrite;
        let said = Volume { sharing: Some(Sharing::Exclusive), ..volume("image", image()) };
        let copies = storage("copies", "q", Population::Copy, vec![part("copies", "/etc")]);
        let overlay = storage("overlay", "p", Population::Overlay, vec![part("overlay", "/home")]);
        let met = |volume: &Volume| match volume.id.name.as_str() {
            "anew" => {
                Some(Met::Renew(Box::new(Volume { uuid: "uuid of old".into(), ..with_image(volume, "old") })))
            }
            "kept" => Some(Met::Follow(image_called("new"))),
            _ => None,
        };
        let anew = with_image(&storage("anew", "p", Population::Empty, vec![]), "new");
        let kept = with_image(&storage("kept", "p", Population::Empty, vec![part("kept", "/opt")]), "old");
        let decided = |claim, volume: &Volume, sharing| Decided {
            attachment: bounded(attachment(ReadWrite, sharing), volume, ReadWrite),
            claim,
            volume: volume.clone(),
            new: volume.id == id("new"),
            met: met(volume),
            has_source: volume.id == id("dir"),
        };
        let all = vec![
            decided(claim("new", "/new", ReadWrite), &volume("new", directory()), Sharing::Shared),
            decided(claim("dir", "/dir", ReadWrite), &volume("dir", directory()), Sharing::Shared),
            decided(
                claim("unseen", "/m/x", ReadWrite),
                &volume("unseen", directory()),
                Sharing::SingleWriter,
            ),
            decided(claim("image", "/image", ReadWrite), &said, Sharing::Exclusive),
            decided(claim("host", "/host", ReadOnly), &volume("host", host("/srv/data")), Sharing::Shared),
            decided(claim("device", "/device", ReadWrite), &volume("device", device()), Sharing::Shared),
            decided(claim("copies-etc", "/q/etc", ReadWrite), &copies, Sharing::Shared),
            decided(claim_of_policy("copies", "/var", ReadWrite), &copies, Sharing::Shared),
            decided(claim_of_policy("overlay", "/home", ReadWrite), &overlay, Sharing::Shared),
            decided(claim_of_policy("anew", "/srv", ReadWrite), &anew, Sharing::Shared),
            decided(claim_of_policy("kept", "/opt", ReadWrite), &kept, Sharing::Shared),
        ];
        let mut resolved: BTreeMap<String, Result<Resolved, String>> = BTreeMap::new();
        for one in &all {
            resolved.insert(one.claim.target.to_string(), Ok(found_at(one.claim.target.as_str())));
        }
        let volumes =
            all.iter().filter(|one| !one.new).map(|one| (one.volume.id.clone(), one.volume.clone()));
        let volumes = volumes.collect();
        let mut table = LeaseTable::default();
        table.insert(grant("a1", &copies, ReadWrite, Sharing::Shared));
        let facts = Facts {
            attempt: "a2",
            stage: Stage::Spec,
            container: &ContainerId::new("c2").unwrap(),
            tenant: &Tenant::default(),
            pod: Some(&Pod::new("p").unwrap()),
            mounts: &[bind("/m")],
            user_namespace: false,
            keeps_all: false,
            folders: None,
            resolved: &resolved,
            table: &table,
            stepped_back: &[],
            remarks: &[],
            now: Timestamp::UNIX_EPOCH,
        };
        let plan = plan(&facts, all).unwrap();
        Self { plan, volumes, grants: toml::from_str(GRANTS).unwrap(), table }
    }

    fn findings(&self) -> Vec<Finding> {
        let checked = check(&self.plan, &self.volumes, &self.grants, &self.table);
        checked.map_or_else(|refused| refused.findings, |()| Vec::new())
    }

    fn lease(&mut self, name: &str) -> &mut LeasedVolume {
        self.plan.leases.iter_mut().find(|lease| lease.volume == id(name)).unwrap()
    }

    fn mount(&mut self, at: &str) -> &mut PlannedMount {
        self.plan.mounts.iter_mut().find(|mount| mount.target.as_str() == at).unwrap()
    }

    fn volume(&mut self, name: &str) -> &mut Volume {
        self.volumes.get_mut(&id(name)).unwrap()
    }

    fn storage(&mut self, name: &str) -> &mut PodStorage {
        self.volume(name).storage.as_mut().unwrap()
    }

    fn share(&mut self, name: &str, sharing: Sharing) {
        self.lease(name).sharing = sharing;
        self.plan.mounts.iter_mut().filter(|m| m.volume == id(name)).for_each(|m| m.sharing = sharing);
    }

    fn hold(&mut self, name: &str, access: Access, sharing: Sharing) {
        let held = grant("a1", &self.volumes[&id(name)], access, sharing);
        self.table.insert(held);
    }

    fn all_live(&mut self) {
        self.plan.stage = Stage::Live;
        self.plan.mounts.iter_mut().for_each(|mount| mount.apply = Apply::Inject);
    }
}

/// One line for each kind of finding: what a broken planner does to a sound plan, and what is said of that.
macro_rules! mutations {
    ($($kind:ident($said:literal): |$world:ident| $mutate:expr;)*) => {
        fn kind(finding: &Finding) -> &'static str {
            match finding {
                $(Finding::$kind { .. } => stringify!($kind),)*
            }
        }

        const MUTATIONS: &[(&str, &str, fn(&mut World))] = &[
            $((stringify!($kind), $said, |$world| { $mutate; }),)*
        ];
    };
}

mutations! {
    LeasedTwice(r#"volume "image" is leased twice"#): |w| {
        let again = w.lease("image").clone();
        w.plan.leases.push(again);
    };
    NotMounted(r#"volume "image" is leased and not mounted"#):
        |w| w.plan.mounts.retain(|mount| mount.volume != id("image"));
    OtherTenant(r#"volume "other/image" is another tenant's"#): |w| {
        let other = VolumeId { tenant: Tenant::new("other").unwrap(), ..id("image") };
        let found = w.volumes.remove(&id("image")).unwrap();
        w.volumes.insert(other.clone(), Volume { id: other.clone(), ..found });
        w.lease("image").volume = other.clone();
        w.mount("/image").volume = other;
    };
    NotThere(r#"volume "image" is neither there nor to be created"#): |w| w.volumes.remove(&id("image"));
    OtherUuid(r#"volume "image" is leased as another, and is uuid of image"#):
        |w| w.lease("image").uuid = "another".into();
    OtherDriver(r#"volume "image" is leased by driver block, and has driver local"#):
        |w| w.lease("image").driver = "block".into();
    OtherEvidence(r#"volume "image" is leased as something else than a filesystem image, which it is not"#):
        |w| w.lease("image").image = false;
    Conflict(r#"volume "copies" would have two incompatible holders, "c1" and the container"#):
        |w| w.hold("copies", Access::ReadOnly, Sharing::Exclusive);
    SharedDevice(r#"volume "device" is a device, and its lease is single-writer"#):
        |w| w.share("device", Sharing::SingleWriter);
    SharedOverlay(r#"volume "overlay" lies over an image, and its lease is shared"#):
        |w| w.share("overlay", Sharing::Shared);
    LooserThanSaid(r#"volume "image" is always exclusive, and its lease is single-writer"#):
        |w| w.share("image", Sharing::SingleWriter);
    NotGranted(r#"volume "device" is "/dev/vg/lv" of the host, which is not granted"#):
        |w| w.grants.devices.clear();
    CreatedTwice(r#"volume "new" is created twice"#): |w| {
        let again = w.plan.create[0].clone();
        w.plan.create.push(again);
    };
    CreatedForNobody(r#"volume "more" is created for nobody"#):
        |w| w.plan.create.push(volume("more", directory()));
    CreatedAgain(r#"volume "new" is created, and is there already"#): |w| {
        let there = w.plan.create[0].clone();
        w.volumes.insert(there.id.clone(), there);
    };
    NeverDue(r#"volume "new" is created as due for an image's files, which it cannot have"#): |w| {
        w.plan.create[0].backing = tmpfs();
        w.mount("/new").backing = tmpfs();
        w.mount("/new").apply = Apply::Inject;
    };
    FilledForNobody(r#"volume "more" is filled for nobody"#):
        |w| w.plan.copy_up.push(PlannedCopyUp { volume: id("more"), from: "/dir".into() });
    NotDue(r#"volume "dir" is filled, and is not due for an image's files"#):
        |w| w.volume("dir").copy_up = CopyUp::Over;
    FilledWhileHeld(r#"volume "dir" is filled while "c1" holds it"#):
        |w| w.hold("dir", Access::ReadOnly, Sharing::Shared);
    FilledFromElsewhere(r#"volume "dir" is filled from "/image", where it is not mounted"#):
        |w| w.plan.copy_up[0].from = "/image".into();
    HalfFilled(r#"volume "dir" is half filled, and would be seen so"#): |w| {
        w.volume("dir").copy_up = CopyUp::Begun;
        w.plan.copy_up.clear();
    };
    PartForNobody(r#"storage "more" gets part "more-srv" for nobody"#):
        |w| w.plan.parts.push(PlannedPart { storage: id("more"), part: part("more", "/srv"), copy: true });
    PartThere(r#"storage "copies" gets part "copies-var", and has it already"#):
        |w| w.storage("copies").parts.push(part("copies", "/var"));
    CopiedPart(r#"storage "copies" gets a copy for part "copies-var", and is not populated so"#):
        |w| w.storage("copies").population = Population::Empty;
    NoStorage(r#"volume "dir" is no storage, and part "x" is wanted of it"#):
        |w| w.mount("/dir").part = Some(VolumeName::new("x").unwrap());
    ChangedTwice(r#"storage "anew" begins anew or follows its image twice"#): |w| {
        let again = w.plan.renew[0].clone();
        w.plan.renew.push(again);
    };
    ChangedForNobody(r#"storage "kept" begins anew or follows its image for nobody"#):
        |w| w.plan.follow[0].uuid = "another".into();
    ChangedForAnother(r#"storage "kept" begins anew or follows its image in pod "x", which is not the container's"#):
        |w| w.plan.follow[0].pod = Pod::new("x").unwrap();
    SameImage(r#"storage "anew" begins anew or follows its image, and that is the same"#):
        |w| w.plan.renew[0].from = w.plan.renew[0].to.clone();
    NotAnew(r#"storage "anew" begins anew as itself"#):
        |w| w.plan.renew[0].uuid = w.plan.renew[0].volume.uuid.clone();
    AnewAsAnother(r#"storage "anew" begins anew as another one"#):
        |w| w.plan.renew[0].volume.storage.as_mut().unwrap().image = None;
    AnewWhileHeld(r#"storage "anew" begins anew while "c1" holds it"#):
        |w| w.hold("anew", Access::ReadOnly, Sharing::Shared);
    NotLeased(r#"volume "image" is mounted without a lease"#):
        |w| w.plan.leases.retain(|lease| lease.volume != id("image"));
    MoreThanLeased(r#"volume "image" is mounted on "/image" with more access than leased"#):
        |w| w.lease("image").access = Access::ReadOnly;
    MoreThanGranted(r#"volume "host" is mounted on "/host" with more access than its operator grants"#): |w| {
        w.lease("host").access = Access::ReadWrite;
        w.mount("/host").access = Access::ReadWrite;
    };
    OtherSharing(r#"volume "copies" is mounted exclusive on "/var", and its lease is shared"#):
        |w| w.mount("/var").sharing = Sharing::Exclusive;
    OtherBacking(r#"what is mounted on "/image" is not what holds volume "image""#):
        |w| w.mount("/image").backing = directory();
    Outside(r#"target "/proc/x" is outside of what a volume may cover"#):
        |w| w.mount("/image").resolved.path = "/proc/x".into();
    Propagates(r#"target "/image" propagates to the host"#): |w| w.mount("/image").resolved.shared = true;
    Hides(r#"target "/m" would hide a mount made before it"#):
        |w| w.mount("/new").resolved.path = "/m".into();
    NotForSpec(r#"target "/image" cannot be mounted by the spec"#):
        |w| w.mount("/image").apply = Apply::Spec;
    NeverSeen(r#"target "/m/x" was not seen and will not be looked at"#): |w| w.all_live();
    WholeStorage(r#"storage "copies" would be seen as a whole on "/q/etc""#):
        |w| w.mount("/q/etc").part = None;
    NoPart(r#"storage "copies" has no part "overlay-home""#):
        |w| w.mount("/q/etc").part = Some(VolumeName::new("overlay-home").unwrap());
    OutsidePart(r#"what is mounted on "/q/etc" is not in part "copies-etc" of storage "copies""#):
        |w| w.mount("/q/etc").subpath = Some((SubPath::new("files/etc2").unwrap(), EntryKind::Directory));
    OtherLayer(r#"volume "overlay" is mounted on "/home" as what it is not: changes to an image, or content"#):
        |w| w.mount("/home").layer = Layer::Content;
    OtherPod(r#"storage "overlay" lies over the image of pod "x", which is not the container's"#):
        |w| w.volume("overlay").pod = Some(member("x", "storage"));
    RootOfNobody("the container's root would be an overlay of which it has no folder, or several"): |w| {
        w.plan.root = Some(PodRoot::Overlay);
        w.volume("overlay").pod = None;
    };
    RootMoreThanLeased(r#"storage "overlay" becomes the container's root, with more access than leased"#): |w| {
        w.plan.root = Some(PodRoot::Overlay);
        w.lease("overlay").access = Access::ReadOnly;
        w.mount("/home").access = Access::ReadOnly;
    };
    OtherTenantsNote(r#"a note is about volume "other/dir", which is another tenant's"#): |w| {
        let volume = VolumeId { tenant: Tenant::new("other").unwrap(), ..id("dir") };
        w.plan.notes.push(Note { volume, text: String::new() });
    };
}

#[test]
fn each_broken_invariant_is_found_and_nothing_else() {
    assert_eq!(World::sound().findings(), []);
    for (name, said, mutate) in MUTATIONS {
        let mut world = World::sound();
        mutate(&mut world);
        let findings = world.findings();
        let found: Vec<(&str, String)> = findings.iter().map(|f| (kind(f), f.to_string())).collect();
        assert_eq!(found, [(*name, (*said).to_owned())]);
    }
}

fn findings_after(mutate: impl Fn(&mut World)) -> Vec<Finding> {
    let mut world = World::sound();
    mutate(&mut world);
    world.findings()
}

/// What breaks an invariant in another way than the one above.
#[test]
fn the_other_ways() {
    let path = AbsolutePath::new("/srv/data").unwrap();
    let ungranted = findings_after(|w| w.grants.paths.clear());
    assert_eq!(ungranted, [Finding::NotGranted { volume: id("host"), path }]);
    assert_eq!(findings_after(|w| w.plan.root = Some(PodRoot::Overlay)), []);
    let holder = || ContainerId::new("c1").unwrap();
    let of_another_s = findings_after(|w| {
        w.share("dir", Sharing::Exclusive);
        w.hold("dir", Access::ReadOnly, Sharing::Shared);
    });
    assert_eq!(of_another_s, [Finding::Conflict { volume: id("dir"), holder: holder() }]);
    let second_writer = |access| findings_after(|w| w.hold("unseen", access, Sharing::Shared));
    assert_eq!(
        second_writer(Access::ReadWrite),
        [Finding::Conflict { volume: id("unseen"), holder: holder() }]
    );
    assert_eq!(second_writer(Access::ReadOnly), []);
    let twice = findings_after(|w| w.plan.parts.push(w.plan.parts[0].clone()));
    assert_eq!(
        twice,
        [Finding::PartThere { storage: id("copies"), part: VolumeName::new("copies-var").unwrap() }]
    );
    let not_for_it = findings_after(|w| {
        let part = part("dir", "/x");
        w.plan.parts.push(PlannedPart { storage: id("dir"), part, copy: false });
    });
    assert_eq!(
        not_for_it,
        [Finding::NoStorage { volume: id("dir"), part: VolumeName::new("dir-x").unwrap() }]
    );
    for full in ["overlay", "host"] {
        let findings = findings_after(|w| {
            w.volume(full).copy_up = CopyUp::Due;
            let from = format!("/{}", if full == "overlay" { "home" } else { "host" });
            w.plan.copy_up.push(PlannedCopyUp { volume: id(full), from });
        });
        assert_eq!(findings, [Finding::NotDue { volume: id(full) }]);
    }
    for backing in [image(), host("/srv/free"), tmpfs()] {
        let findings = findings_after(|w| w.mount("/host").backing = backing.clone());
        assert_eq!(findings, [Finding::OtherBacking { volume: id("host"), at: "/host".into() }]);
    }
    for path in ["etc", "/", "", "/a//b", "/a/./b", "/a/../b", "/a/", "/sys", "/dev/shm"] {
        let findings = findings_after(|w| w.mount("/image").resolved.path = path.into());
        let outside = Finding::Outside { at: path.into() };
        assert!(findings.contains(&outside), "{path:?}: {findings:?}");
    }
}

#[test]
fn only_whole_directories_of_the_store_are_for_the_spec() {
    let not_for_spec = |at: &str, mutate: &dyn Fn(&mut PlannedMount)| {
        let findings = findings_after(|w| {
            w.mount(at).apply = Apply::Spec;
            mutate(w.mount(at));
        });
        findings == [Finding::NotForSpec { at: at.into() }]
    };
    for at in ["/m/x", "/host", "/device", "/home", "/var", "/q/etc"] {
        assert!(not_for_spec(at, &|_| {}), "{at}");
    }
    let whole = SubPath::new("x").unwrap();
    assert!(not_for_spec("/dir", &|mount| mount.subpath = Some((whole.clone(), EntryKind::Directory))));
    assert!(!not_for_spec("/dir", &|_| {}));
}

#[test]
fn a_part_is_where_it_belongs_to() {
    let shows = |stage: Stage, at: &str, place: &str| {
        let findings = findings_after(|w| {
            if stage == Stage::Live {
                w.all_live();
                w.mount("/m/x").unseen = false;
            }
            w.mount(at).subpath = Some((SubPath::new(place).unwrap(), EntryKind::Directory));
        });
        assert!(matches!(findings[..], [] | [Finding::OutsidePart { .. }]), "{findings:?}");
        findings.is_empty()
    };
    for stage in [Stage::Live, Stage::Spec] {
        assert!(shows(stage, "/q/etc", "files/etc") && shows(stage, "/q/etc", "files/etc/ssh"));
        assert!(!shows(stage, "/q/etc", "files") && !shows(stage, "/q/etc", "etc"));
        assert!(shows(stage, "/home", "home") && shows(stage, "/home", "home/user"));
    }
    assert!(!shows(Stage::Live, "/home", "etc") && !shows(Stage::Live, "/home", "home2"));
    let claimed_by_name = findings_after(|w| {
        let mount = w.mount("/home");
        mount.origin = Origin::Annotation("home".into());
        mount.target = Target::new("/mnt").unwrap();
        mount.resolved.path = "/mnt".into();
        mount.subpath = Some((SubPath::new("mnt").unwrap(), EntryKind::Directory));
    });
    assert!(matches!(claimed_by_name[..], [Finding::OutsidePart { .. }]), "{claimed_by_name:?}");
}

/// A container's volumes may be told wrong in many ways at once, and a person wants to know of all.
#[test]
fn all_findings_are_told() {
    let mut world = World::sound();
    world.grants.devices.clear();
    world.mount("/image").resolved.shared = true;
    world.plan.create.push(volume("more", directory()));
    let refused = check(&world.plan, &world.volumes, &world.grants, &world.table).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "refusing an unsafe plan for container \"c2\": volume \"device\" is \"/dev/vg/lv\" of the host, which is not \
         granted; volume \"more\" is created for nobody; target \"/image\" propagates to the host"
    );
}
