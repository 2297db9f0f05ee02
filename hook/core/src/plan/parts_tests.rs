//! Tests of planning a pod's volumes.

use crate::check::check;
use crate::claims::Claim;
use crate::claims::Origin;
use crate::claims::from_policy;
use crate::decision::Access;
use crate::decision::Attachment;
use crate::decision::Backing;
use crate::decision::Creation;
use crate::decision::Directory;
use crate::decision::EntryKind;
use crate::decision::MountFlags;
use crate::decision::PolicyClaim;
use crate::decision::PolicyGrant;
use crate::decision::Population;
use crate::decision::Sharing;
use crate::decision::StorageClaim;
use crate::grants::Grants;
use crate::image::ImageIdentity;
use crate::last_step::PodRoot;
use crate::last_step::WhyFolders;
use crate::lease::Grant;
use crate::lease::LeaseTable;
use crate::names::ContainerId;
use crate::names::Pod;
use crate::names::Target;
use crate::names::Tenant;
use crate::names::VolumeId;
use crate::names::VolumeName;
use crate::plan::Decided;
use crate::plan::Facts;
use crate::plan::Layer;
use crate::plan::Met;
use crate::plan::Plan;
use crate::plan::PlanError;
use crate::plan::bounded;
use crate::plan::meet;
use crate::plan::new_volume;
use crate::plan::plan;
use crate::resolved::Resolved;
use crate::spec::Spec;
use crate::spec::SpecMount;
use crate::stage::Apply;
use crate::stage::Stage;
use crate::volume::CopyUp;
use crate::volume::Part;
use crate::volume::PodMember;
use crate::volume::PodStorage;
use crate::volume::Volume;
use jiff::Timestamp;
use std::collections::BTreeMap;

const STORAGE: &str = "vol-p-storage";

fn pod() -> Pod {
    Pod::new("p").unwrap()
}

fn claims(targets: &[&str]) -> Vec<Claim> {
    let storage = StorageClaim {
        volume: STORAGE.into(),
        driver: None,
        options: vec![],
        labels: vec![],
        population: Population::Overlay,
        renew: false,
    };
    let claim = |target: &&str| PolicyClaim {
        volume: format!("vol-p{}", target.replace('/', "-")),
        member: target[1..].replace('/', "-"),
        target: (*target).into(),
        driver: None,
        options: vec![],
        labels: vec![],
        access: Access::ReadWrite,
        subpath: None,
        no_copy: false,
    };
    let grant =
        PolicyGrant { storage: Some(storage), claims: targets.iter().map(claim).collect(), notes: vec![] };
    from_policy("universal", Some(&pod()), grant).unwrap().claims
}

fn storage(population: Population, parts: Vec<Part>) -> Volume {
    let id = VolumeId { tenant: Tenant::default(), name: VolumeName::new(STORAGE).unwrap() };
    let backing = Backing::Directory(Directory::default());
    let creation = Creation { backing, options: vec![], limit: None, sharing: None, notes: vec![] };
    let member = PodMember { pod: pod(), member: "storage".into() };
    let time = Timestamp::UNIX_EPOCH;
    let volume = new_volume(id, &vec![], Some(&member), "local", creation, "u".into(), time);
    let storage = PodStorage { population, parts, image: None, offered: None };
    Volume { storage: Some(storage), copy_up: CopyUp::Over, ..volume }
}

fn part(target: &str, path: &str) -> Part {
    Part {
        name: VolumeName::new(format!("vol-p{}", target.replace('/', "-"))).unwrap(),
        member: target[1..].replace('/', "-"),
        path: Target::new(path).unwrap(),
        created: Timestamp::UNIX_EPOCH,
    }
}

struct Case {
    storage: Volume,
    new: bool,
    claims: Vec<Claim>,
    pod: Option<Pod>,
    mounts: Vec<SpecMount>,
    resolved: BTreeMap<String, Result<Resolved, String>>,
    table: LeaseTable,
    stage: Stage,
    user_namespace: bool,
    keeps_all: bool,
    folders: Option<WhyFolders>,
    access: Access,
    met: Option<Met>,
}

impl Case {
    fn new(storage: Volume, targets: &[&str]) -> Self {
        let directory = |path: &str| {
            Ok(Resolved { path: path.to_owned(), kind: Some(EntryKind::Directory), shared: false })
        };
        Self {
            storage,
            new: false,
            claims: claims(targets),
            pod: Some(pod()),
            mounts: vec![],
            resolved: targets.iter().map(|target| ((*target).to_owned(), directory(target))).collect(),
            table: LeaseTable::default(),
            stage: Stage::Live,
            user_namespace: false,
            keeps_all: false,
            folders: None,
            access: Access::ReadWrite,
            met: None,
        }
    }

    fn plan(self) -> Result<Plan, PlanError> {
        let granted = Attachment {
            access: self.access,
            sharing: Sharing::Shared,
            flags: MountFlags::default(),
            notes: vec![],
        };
        let attachment = bounded(granted, &self.storage, Access::ReadWrite);
        let decided = self.claims.into_iter().map(|claim| Decided {
            claim,
            volume: self.storage.clone(),
            new: self.new,
            met: self.met.clone(),
            has_source: false,
            attachment: attachment.clone(),
        });
        let container = ContainerId::new("c1").unwrap();
        let facts = Facts {
            attempt: "a1",
            stage: self.stage,
            container: &container,
            tenant: &Tenant::default(),
            pod: self.pod.as_ref(),
            mounts: &self.mounts,
            user_namespace: self.user_namespace,
            keeps_all: self.keeps_all,
            folders: self.folders,
            resolved: &self.resolved,
            table: &self.table,
            stepped_back: &[],
            remarks: &["a remark".to_owned()],
            now: Timestamp::UNIX_EPOCH,
        };
        let plan = plan(&facts, decided.collect())?;
        let found = [(self.storage.id.clone(), self.storage)].into_iter().filter(|_| !self.new).collect();
        check(&plan, &found, &Grants::default(), &self.table).unwrap();
        Ok(plan)
    }
}

fn places(plan: &Plan) -> Vec<(String, Layer, &str, Apply)> {
    plan.mounts
        .iter()
        .map(|mount| {
            let (place, kind) = mount.subpath.as_ref().unwrap();
            assert_eq!(*kind, EntryKind::Directory);
            (mount.shown().name.to_string(), mount.layer, place.as_str(), mount.apply)
        })
        .collect()
}

#[test]
fn a_new_overlay_has_its_parts_from_the_start() {
    let case = Case { new: true, ..Case::new(storage(Population::Overlay, vec![]), &["/usr/local", "/usr"]) };
    let plan = case.plan().unwrap();
    assert_eq!(
        places(&plan),
        [
            ("vol-p-usr".to_owned(), Layer::Overlay, "usr", Apply::Inject),
            ("vol-p-usr-local".to_owned(), Layer::Overlay, "usr/local", Apply::Inject),
        ]
    );
    assert!(plan.parts.is_empty());
    let made = plan.create[0].storage.as_ref().unwrap();
    assert_eq!(made.parts, [part("/usr/local", "/usr/local"), part("/usr", "/usr")]);
    // One lease for all, on what holds them, and nobody else's.
    assert_eq!(plan.leases.len(), 1);
    assert_eq!((plan.leases[0].volume.name.as_str(), plan.leases[0].sharing), (STORAGE, Sharing::Exclusive));
    assert_eq!(plan.notes[0].text, "a remark");
}

#[test]
fn copies_are_planned_until_they_are_there_and_shared_then() {
    let known = part("/etc", "/etc");
    let plan = Case::new(storage(Population::Copy, vec![known]), &["/etc", "/var"]).plan().unwrap();
    let parts: Vec<(&str, bool)> = plan.parts.iter().map(|p| (p.part.name.as_str(), p.copy)).collect();
    assert_eq!(parts, [("vol-p-var", true)]);
    assert_eq!(
        places(&plan),
        [
            ("vol-p-etc".to_owned(), Layer::Content, "files/etc", Apply::Inject),
            ("vol-p-var".to_owned(), Layer::Content, "files/var", Apply::Inject),
        ]
    );
    assert_eq!(plan.leases[0].sharing, Sharing::Shared);
    let plan = Case::new(storage(Population::Empty, vec![]), &["/var"]).plan().unwrap();
    assert!(!plan.parts[0].copy);
}

#[test]
fn an_overlay_of_everything_becomes_the_root_or_it_is_said_why_not() {
    let case = |population| {
        let case = Case::new(storage(population, vec![part("/etc", "/etc")]), &["/etc"]);
        Case { keeps_all: true, ..case }
    };
    let told = |case: Case| {
        let plan = case.plan().unwrap();
        let notes: Vec<String> = plan.notes.into_iter().skip(1).map(|note| note.text).collect();
        (plan.root, notes)
    };
    let because = |why: &str| vec![format!("what is made at / itself is not kept: {why}")];
    assert_eq!(told(case(Population::Overlay)), (Some(PodRoot::Overlay), vec![]));
    assert_eq!(told(Case { keeps_all: false, ..case(Population::Overlay) }), (None, vec![]));
    for (folders, access, why) in [
        (Some(WhyFolders::ReadOnly), Access::ReadWrite, WhyFolders::ReadOnly),
        (None, Access::ReadOnly, WhyFolders::OnlyRead),
    ] {
        let case = Case { folders, access, ..case(Population::Overlay) };
        assert_eq!(told(case), (Some(PodRoot::Folders(why)), because(&why.to_string())));
    }
    for population in [Population::Copy, Population::Empty] {
        let why = "the pod has folders of its own, and is no overlay over the image";
        assert_eq!(told(case(population)), (None, because(why)));
    }
}

/// The image's layout may change below a pod: what was copied stays where it is in the storage, and an overlay is
/// looked at where the image has the folder now.
#[test]
fn a_folder_that_moved_in_the_image() {
    for (population, expected) in [(Population::Copy, "files/lib"), (Population::Overlay, "usr/lib")] {
        let mut case = Case::new(storage(population, vec![part("/lib", "/lib")]), &["/lib"]);
        let moved = Resolved { path: "/usr/lib".into(), kind: Some(EntryKind::Directory), shared: false };
        case.resolved.insert("/lib".into(), Ok(moved));
        let plan = case.plan().unwrap();
        assert_eq!(places(&plan)[0].2, expected);
        assert!(plan.parts.is_empty());
    }
}

/// A part may be claimed by its name, at any target: what is shown is the part, not what the overlay has at the target.
#[test]
fn a_part_claimed_by_name_is_that_part() {
    for (population, expected) in [(Population::Copy, "files/etc"), (Population::Overlay, "etc")] {
        for target in ["/etc", "/mnt"] {
            let mut case = Case::new(storage(population, vec![part("/etc", "/etc")]), &[target]);
            case.claims[0].origin = Origin::Annotation("dev.volhook.mount.etc".to_owned());
            case.claims[0].volume = VolumeName::new("vol-p-etc").unwrap();
            (case.claims[0].member, case.claims[0].storage) = (None, None);
            assert_eq!(places(&case.plan().unwrap())[0].2, expected, "on {target}");
        }
    }
}

#[test]
fn an_overlay_is_for_its_pod_and_for_one_container() {
    let known = || vec![part("/etc", "/etc")];
    let mut case = Case::new(storage(Population::Overlay, known()), &["/etc"]);
    case.pod = None;
    let error = case.plan().unwrap_err();
    assert!(
        matches!(error, PlanError::OfOverlay { .. }) && error.hint().unwrap().contains("population=copy")
    );

    let held = |sharing| {
        let mut table = LeaseTable::default();
        let mut leases = Case::new(storage(Population::Overlay, known()), &["/etc"]).plan().unwrap().leases;
        leases[0].sharing = sharing;
        table.insert(Grant {
            attempt: "a0".into(),
            container: ContainerId::new("c0").unwrap(),
            holder: None,
            leases,
            since: Timestamp::UNIX_EPOCH,
            since_boot_ms: None,
        });
        table
    };
    let mut case = Case::new(storage(Population::Overlay, known()), &["/etc"]);
    case.table = held(Sharing::Exclusive);
    let error = case.plan().unwrap_err();
    assert!(matches!(error, PlanError::Busy { overlay: true, .. }), "{error}");
    assert!(error.hint().unwrap().contains("population=copy"));
    let mut case = Case::new(storage(Population::Copy, known()), &["/etc"]);
    case.table = held(Sharing::Shared);
    assert!(case.plan().is_ok());
}

#[test]
fn an_engine_s_anonymous_volume_below_gives_way_and_a_user_s_mount_does_not() {
    let hex = "ab".repeat(32);
    let text = format!(
        r#"{{"mounts":[{{"type":"bind","source":"/x/volumes/{hex}/_data","destination":"/var/lib/db"}},
                     {{"type":"bind","source":"/home/u/www","destination":"/var/www"}}]}}"#
    );
    for stage in [Stage::Live, Stage::Spec] {
        let mut case = Case::new(storage(Population::Copy, vec![]), &["/var", "/etc"]);
        case.mounts = Spec::parse(text.as_bytes()).unwrap().mounts().unwrap();
        case.stage = stage;
        let plan = case.plan().unwrap();
        assert_eq!(plan.mounts[1].target.as_str(), "/var");
        assert_eq!(plan.mounts[1].covers, ["/var/lib/db"]);
        assert!(plan.mounts[0].covers.is_empty());
    }
}

/// What a container with a user namespace has in its image has other owners on the host.
#[test]
fn nothing_is_copied_for_other_users() {
    let plan = |population, parts| {
        let case = Case::new(storage(population, parts), &["/etc"]);
        Case { user_namespace: true, ..case }.plan()
    };
    let error = plan(Population::Copy, vec![]).unwrap_err();
    assert!(matches!(error, PlanError::CopyForUsers { .. }));
    assert!(error.hint().unwrap().contains("population=overlay"));
    assert!(plan(Population::Copy, vec![part("/etc", "/etc")]).is_ok());
    assert!(plan(Population::Overlay, vec![]).is_ok() && plan(Population::Empty, vec![]).is_ok());
}

fn image(name: &str) -> ImageIdentity {
    ImageIdentity { name: Some(name.into()), ..ImageIdentity::default() }
}

/// A case of a storage of `debian:12` that meets an image.
fn meeting(population: Population, now: &str, renew: bool) -> Case {
    let mut old = storage(population, vec![part("/etc", "/etc"), part("/opt", "/opt")]);
    if let Some(storage) = &mut old.storage {
        storage.image = Some(image("debian:12"));
    }
    old.limit = Some(7);
    let (volume, met) = meet(old, &image(now), renew, "fresh", Timestamp::UNIX_EPOCH);
    Case { met, ..Case::new(volume, &["/etc", "/var"]) }
}

#[test]
fn a_pod_that_begins_anew_has_its_parts_planned_as_if_it_were_new() {
    for population in [Population::Overlay, Population::Copy, Population::Empty] {
        let plan = meeting(population, "debian:13", true).plan().unwrap();
        let [renewal] = &plan.renew[..] else { panic!("{:?}", plan.renew) };
        assert_eq!((renewal.uuid.as_str(), renewal.volume.uuid.as_str()), ("u", "fresh"));
        assert_eq!(
            (renewal.from.describe(), renewal.to.describe()),
            ("debian:12".into(), "debian:13".into())
        );
        let fresh = renewal.volume.storage.as_ref().unwrap();
        let wanted = [part("/etc", "/etc"), part("/var", "/var")];
        let planned: Vec<Part> = renewal.parts.iter().map(|planned| planned.part.clone()).collect();
        if population == Population::Overlay {
            assert_eq!((&fresh.parts[..], &planned[..]), (&wanted[..], &[][..]));
        } else {
            assert_eq!((&fresh.parts[..], &planned[..]), (&[][..], &wanted[..]));
            assert_eq!(renewal.parts[0].copy, population == Population::Copy);
        }
        // It is otherwise as it was.
        assert_eq!((fresh.population, renewal.volume.limit), (population, Some(7)));
        assert!(plan.create.is_empty() && plan.parts.is_empty() && plan.follow.is_empty());
        // Until it has its mounts, it is alone with what it can take back.
        assert_eq!(plan.leases[0].uuid, "fresh");
        assert_eq!(plan.first_leases()[0].sharing, Sharing::Exclusive);
    }
}

#[test]
fn a_pod_begins_anew_from_another_image_only() {
    let plan = meeting(Population::Overlay, "debian:12", true).plan().unwrap();
    assert!(plan.renew.is_empty() && plan.follow.is_empty());
    let plan = meeting(Population::Overlay, "debian:13", false).plan().unwrap();
    assert!(plan.renew.is_empty());
    assert_eq!((plan.follow[0].uuid.as_str(), plan.follow[0].to.describe()), ("u", "debian:13".into()));
    // Nothing is known of the image that it was made from.
    let unknown = storage(Population::Overlay, vec![]);
    assert_eq!(meet(unknown, &image("debian:13"), true, "fresh", Timestamp::UNIX_EPOCH).1, None);
}

#[test]
fn a_pod_that_somebody_has_does_not_begin_anew() {
    let mut case = meeting(Population::Copy, "debian:13", true);
    let mut leases = meeting(Population::Copy, "debian:12", false).plan().unwrap().leases;
    leases[0].sharing = Sharing::Shared;
    case.table.insert(Grant {
        attempt: "a0".into(),
        container: ContainerId::new("c0").unwrap(),
        holder: None,
        leases,
        since: Timestamp::UNIX_EPOCH,
        since_boot_ms: None,
    });
    assert!(matches!(case.plan().unwrap_err(), PlanError::Busy { .. }));
}

/// Records in the run directory may be of the volhook before.
#[test]
fn a_plan_that_knows_nothing_of_images_is_read() {
    let plan = meeting(Population::Overlay, "debian:12", true).plan().unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert!(!text.contains("\"renew\"") && !text.contains("\"follow\""));
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    let plan = meeting(Population::Copy, "debian:13", true).plan().unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}
