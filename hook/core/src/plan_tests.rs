//! Tests of the planner: order, refusals, and the checker as a second opinion.

use super::*;
use crate::check::Finding;
use crate::check::check;
use crate::claims::from_annotations;
use crate::decision::Directory;
use crate::decision::Filesystem;
use crate::decision::Image;
use crate::grants::Grants;
use proptest::prelude::*;

struct Case {
    claims: Vec<&'static str>,
    sharing: Sharing,
    /// What the driver answers instead to whoever only reads.
    readers: Option<Sharing>,
    /// Whether somebody began to fill the volumes and was not seen to end.
    begun: bool,
    mounts: Vec<SpecMount>,
    resolved: BTreeMap<String, Result<Resolved, String>>,
    table: LeaseTable,
    user_namespace: bool,
    stage: Stage,
}

impl Case {
    fn new(claims: &[&'static str]) -> Self {
        Self {
            claims: claims.to_vec(),
            sharing: Sharing::Shared,
            readers: None,
            begun: false,
            mounts: vec![],
            resolved: BTreeMap::new(),
            table: LeaseTable::default(),
            user_namespace: false,
            stage: Stage::Live,
        }
    }

    fn resolve(mut self, asked: &str, path: &str, kind: Option<EntryKind>, shared: bool) -> Self {
        self.resolved.insert(asked.into(), Ok(Resolved { path: path.into(), kind, shared }));
        self
    }

    fn plan(mut self) -> Result<Plan, PlanError> {
        let annotations: BTreeMap<_, _> = self
            .claims
            .iter()
            .enumerate()
            .map(|(i, text)| (format!("dev.volhook.mount.m{i}"), (*text).to_owned()))
            .collect();
        let claims = from_annotations(&annotations, "dev.volhook").unwrap().claims;
        for claim in &claims {
            let target = claim.target.to_string();
            self.resolved.entry(target.clone()).or_insert_with(|| {
                Ok(Resolved { path: target, kind: Some(EntryKind::Directory), shared: false })
            });
        }
        let sharing = |claim: &Claim| match self.readers {
            Some(readers) if claim.access == Access::ReadOnly => readers,
            _ => self.sharing,
        };
        let decided = claims.into_iter().map(|claim| (sharing(&claim), claim));
        let decided = decided.map(|(sharing, claim)| decide(claim, sharing)).map(|one| match self.begun {
            true => Decided {
                volume: Volume { copy_up: CopyUp::Begun, ..one.volume },
                new: false,
                has_source: true,
                ..one
            },
            false => one,
        });
        let decided: Vec<Decided> = decided.collect();
        let found = decided.iter().filter(|one| !one.new);
        let found = found.map(|one| (one.volume.id.clone(), one.volume.clone())).collect();
        let container = ContainerId::new("c2").unwrap();
        let facts = Facts {
            attempt: "a2",
            stage: self.stage,
            container: &container,
            tenant: &Tenant::default(),
            pod: None,
            mounts: &self.mounts,
            user_namespace: self.user_namespace,
            keeps_all: false,
            folders: None,
            resolved: &self.resolved,
            table: &self.table,
            stepped_back: &[],
            remarks: &[],
            now: Timestamp::UNIX_EPOCH,
        };
        let plan = plan(&facts, decided)?;
        check(&plan, &found, &Grants::default(), &self.table).unwrap();
        Ok(plan)
    }
}

fn id(name: &str) -> VolumeId {
    VolumeId { tenant: Tenant::default(), name: crate::names::VolumeName::new(name).unwrap() }
}

fn decide(claim: Claim, sharing: Sharing) -> Decided {
    let backing = if claim.driver.as_deref() == Some("block") {
        Backing::Image(Image::new(1 << 20, Filesystem::Ext4))
    } else {
        Backing::Directory(Directory { mode: 0o755, uid: 0, gid: 0 })
    };
    let creation = Creation { backing, options: vec![], limit: None, sharing: None, notes: vec![] };
    let driver = claim.driver.clone().unwrap_or("local".into());
    let volume_id = VolumeId { tenant: Tenant::default(), name: claim.volume.clone() };
    let volume = new_volume(
        volume_id,
        &claim.labels,
        claim.member.as_ref(),
        &driver,
        creation,
        "u".into(),
        Timestamp::UNIX_EPOCH,
    );
    let attachment =
        Attachment { access: Access::ReadWrite, sharing, flags: MountFlags::default(), notes: vec![] };
    Decided { claim, volume, new: true, met: None, has_source: false, attachment }
}

fn held(volume: &str, access: Access, sharing: Sharing) -> LeaseTable {
    let mut table = LeaseTable::default();
    table.insert(Grant {
        attempt: "a1".into(),
        container: ContainerId::new("c1").unwrap(),
        holder: None,
        leases: vec![LeasedVolume {
            volume: id(volume),
            uuid: "u".into(),
            driver: "block".into(),
            access,
            sharing,
            image: true,
            target: Some(Target::new("/d").unwrap()),
        }],
        since: Timestamp::UNIX_EPOCH,
        since_boot_ms: None,
    });
    table
}

#[test]
fn parents_come_first_by_component() {
    let plan = Case::new(&["src=a,dst=/var/lib", "src=b,dst=/var-x", "src=c,dst=/var"]).plan().unwrap();
    let order: Vec<_> = plan.mounts.iter().map(|m| m.target.as_str()).collect();
    assert_eq!(order, ["/var", "/var/lib", "/var-x"]);
}

#[test]
fn symlinks_decide_the_order() {
    let plan = Case::new(&["src=a,dst=/a/x", "src=b,dst=/usr"])
        .resolve("/a/x", "/usr/lib/x", None, false)
        .plan()
        .unwrap();
    assert_eq!(plan.mounts[0].target.as_str(), "/usr");
}

#[test]
fn the_busy_message_is_the_documented_one() {
    let mut case = Case::new(&["src=mydb,dst=/data,volume-driver=block"]);
    case.sharing = Sharing::Exclusive;
    case.table = held("mydb", Access::ReadWrite, Sharing::Exclusive);
    let error = case.plan().unwrap_err();
    assert_eq!(
        format!("{error}; {}", error.hint().unwrap()),
        "volume \"mydb\" is held exclusively by container \"c1\" (driver block); stop that container, or use driver \
         local for a volume that containers share"
    );
}

#[test]
fn one_lease_for_two_mounts_of_one_volume() {
    let plan = Case::new(&["src=a,dst=/x,ro,volume-subpath=s", "src=a,dst=/y"]).plan().unwrap();
    assert_eq!((plan.leases.len(), plan.create.len(), plan.mounts.len()), (1, 1, 2));
    assert_eq!(plan.leases[0].access, Access::ReadWrite);
    assert_eq!(plan.mounts[0].access, Access::ReadOnly);
}

/// A driver may give readers another answer than writers, and a container may be both.
#[test]
fn of_several_answers_about_a_volume_the_strictest_counts() {
    let reader = "src=a,dst=/x,ro,volume-subpath=s";
    for claims in [[reader, "src=a,dst=/y"], ["src=a,dst=/y", reader]] {
        let case = || {
            let mut case = Case::new(&claims);
            (case.sharing, case.readers) = (Sharing::Exclusive, Some(Sharing::Shared));
            case
        };
        let plan = case().plan().unwrap();
        assert_eq!(
            (plan.leases.len(), plan.leases[0].access, plan.leases[0].sharing),
            (1, Access::ReadWrite, Sharing::Exclusive)
        );
        assert!(plan.mounts.iter().all(|mount| mount.sharing == Sharing::Exclusive), "{plan:?}");
        let mut second = case();
        second.table = held("a", Access::ReadOnly, Sharing::Shared);
        assert!(matches!(second.plan(), Err(PlanError::Busy { .. })));
    }
}

/// Whoever began it was killed, and by now somebody looks into the volume who does not fill it.
#[test]
fn what_is_half_filled_is_shown_to_nobody() {
    let mut case = Case::new(&["src=a,dst=/x"]);
    case.begun = true;
    assert_eq!(case.plan().unwrap().copy_up[0].volume, id("a"));
    let mut case = Case::new(&["src=a,dst=/x"]);
    (case.begun, case.table) = (true, held("a", Access::ReadOnly, Sharing::Shared));
    assert!(matches!(case.plan(), Err(PlanError::Busy { .. })));
}

#[test]
fn unusable_targets() {
    let ro = SpecMount {
        destination: "/ro".into(),
        kind: "bind".into(),
        source: "/h".into(),
        options: vec!["ro".into()],
    };
    let message = |case: Case| case.plan().unwrap_err().to_string();
    let claim = || Case::new(&["src=a,dst=/x"]);
    let mut looping = claim();
    looping.resolved.insert("/x".into(), Err("too many levels of symbolic links".into()));
    assert!(message(looping).contains("too many levels"));
    assert!(
        message(claim().resolve("/x", "/proc/sys", Some(EntryKind::Directory), false)).contains("/proc/sys")
    );
    assert!(message(claim().resolve("/x", "/x", Some(EntryKind::Directory), true)).contains("propagates"));
    assert!(message(claim().resolve("/x", "/x", Some(EntryKind::File), false)).contains("subpath"));
    assert!(message(claim().resolve("/x", "/x", Some(EntryKind::Other), false)).contains("neither"));
    let shared = SpecMount {
        destination: "/shared".into(),
        kind: "bind".into(),
        source: "/h".into(),
        options: vec!["rbind".into(), "rshared".into()],
    };
    let mut below = claim().resolve("/x", "/shared/x", Some(EntryKind::Directory), false);
    below.mounts = vec![shared];
    below.stage = Stage::Spec;
    assert!(message(below).contains("propagates"));
    let mut itself = claim().resolve("/x", "/x", None, false);
    itself.mounts = vec![SpecMount { destination: "/x".into(), kind: VOLHOOK_TYPE.into(), ..ro.clone() }];
    itself.stage = Stage::Spec;
    assert!(itself.plan().is_ok(), "a read-only volume stood in its own way");
    let mut missing = claim().resolve("/x", "/ro/new", None, false);
    missing.mounts = vec![ro.clone()];
    assert!(message(missing).contains("read-only mount /ro"));
    let mut present = claim().resolve("/x", "/ro/there", Some(EntryKind::Directory), false);
    present.mounts = vec![ro];
    assert!(present.plan().is_ok());
}

#[test]
fn what_the_spec_stage_leaves_to_the_hook() {
    let apply = |text: &'static str, user_namespace| {
        let mut case = Case::new(&[text]);
        case.stage = Stage::Spec;
        case.user_namespace = user_namespace;
        case.plan().unwrap().mounts[0].apply
    };
    assert_eq!(apply("src=a,dst=/x", false), Apply::Spec);
    assert_eq!(apply("src=a,dst=/x", true), Apply::Inject);
    assert_eq!(apply("src=a,dst=/x,volume-driver=block", false), Apply::Inject);
    assert_eq!(apply("src=a,dst=/x,volume-subpath=s", false), Apply::Inject);
}

fn sharing() -> impl Strategy<Value = Sharing> {
    prop::sample::select(vec![Sharing::Shared, Sharing::SingleWriter, Sharing::Exclusive])
}

fn access() -> impl Strategy<Value = Access> {
    prop::sample::select(vec![Access::ReadOnly, Access::ReadWrite])
}

proptest! {
    /// The planner and the checker were written apart; they must agree on who may hold what together.
    #[test]
    fn planner_and_checker_agree_on_sharing(mine in sharing(), theirs in sharing(), my in access(), their in access()) {
        let claim = if my == Access::ReadOnly { "src=v,dst=/x,ro" } else { "src=v,dst=/x" };
        let mut case = Case::new(&[claim]);
        case.sharing = mine;
        let alone = case.plan().unwrap();
        let table = held("v", their, theirs);
        let mut contested = Case::new(&[claim]);
        contested.sharing = mine;
        contested.table = held("v", their, theirs);
        let checked = check(&alone, &BTreeMap::new(), &Grants::default(), &table);
        prop_assert_eq!(checked.is_ok(), contested.plan().is_ok());
    }
}

fn bind(destination: &str, options: &[&str]) -> SpecMount {
    SpecMount {
        destination: destination.into(),
        kind: "bind".into(),
        source: "/somewhere".into(),
        options: options.iter().map(ToString::to_string).collect(),
    }
}

/// A claim on a target that a mount of the spec will cover, at the spec stage.
fn below_a_bind(claim: &'static str, options: &[&str]) -> (Plan, Vec<SpecMount>) {
    let mut case = Case::new(&[claim]).resolve("/conf/file", "/conf/file", None, false);
    case.stage = Stage::Spec;
    case.mounts = vec![bind("/conf", options)];
    let mounts = case.mounts.clone();
    (case.plan().unwrap(), mounts)
}

fn seen(kind: Option<EntryKind>, shared: bool) -> BTreeMap<String, Result<Resolved, String>> {
    [("/conf/file".to_owned(), Ok(Resolved { path: "/conf/file".into(), kind, shared }))].into()
}

#[test]
fn what_the_spec_will_cover_is_left_to_the_live_look() {
    let (mut plan, mounts) = below_a_bind("src=a,dst=/conf/file,volume-subpath=f", &["ro"]);
    let planned = &plan.mounts[0];
    assert!(planned.unseen && planned.apply == Apply::Inject && planned.resolved.kind.is_none());

    look_again(&mut plan, &mounts, &seen(Some(EntryKind::File), false)).unwrap();
    let planned = &plan.mounts[0];
    assert!(!planned.unseen);
    assert_eq!(planned.resolved.kind, Some(EntryKind::File));
    assert_eq!(planned.subpath.as_ref().unwrap().1, EntryKind::File);
}

#[test]
fn the_live_look_refuses_what_the_live_stage_refuses() {
    let refuse = |claim, options: &[&str], found: &BTreeMap<_, _>| {
        let (mut plan, mounts) = below_a_bind(claim, options);
        look_again(&mut plan, &mounts, found).unwrap_err().to_string()
    };
    let whole = "src=a,dst=/conf/file";
    let part = "src=a,dst=/conf/file,volume-subpath=f";
    assert!(refuse(part, &["ro"], &seen(None, false)).contains("read-only mount /conf"));
    assert!(refuse(part, &[], &seen(None, true)).contains("propagates"));
    assert!(refuse(whole, &[], &seen(Some(EntryKind::File), false)).contains("subpath"));
    assert!(refuse(whole, &[], &BTreeMap::new()).contains("not looked up"));
    let lost = [("/conf/file".to_owned(), Err("it loops".to_owned()))].into();
    assert!(refuse(whole, &[], &lost).contains("it loops"));
}

/// The image may have a symlink exactly where the spec mounts something: what lies behind it is not what the
/// container will see.
#[test]
fn a_target_is_covered_by_the_mount_as_written_and_as_found() {
    for path in ["/conf/file", "/elsewhere/file"] {
        let mut case = Case::new(&["src=a,dst=/conf/file"]).resolve(
            "/conf/file",
            path,
            Some(EntryKind::Directory),
            false,
        );
        case.stage = Stage::Spec;
        case.mounts = vec![bind("/conf", &[])];
        assert!(case.plan().unwrap().mounts[0].unseen, "{path}");
    }
    let mut case = Case::new(&["src=a,dst=/conf"]);
    case.stage = Stage::Spec;
    case.mounts = vec![bind("/conf/nested", &[])];
    assert!(!case.plan().unwrap().mounts[0].unseen);
}

/// Two targets that differ before the runtime's mounts may be one place afterwards.
#[test]
fn the_checker_looks_at_what_the_live_look_found() {
    let mut case = Case::new(&["src=a,dst=/conf/x", "src=b,dst=/conf/y"]);
    case.stage = Stage::Spec;
    case.mounts = vec![bind("/conf", &[])];
    let mounts = case.mounts.clone();
    let mut plan = case.plan().unwrap();
    let same = Resolved { path: "/conf/x".into(), kind: Some(EntryKind::Directory), shared: false };
    let found = [("/conf/x".to_owned(), Ok(same.clone())), ("/conf/y".to_owned(), Ok(same))].into();
    look_again(&mut plan, &mounts, &found).unwrap();
    let checked = check(&plan, &BTreeMap::new(), &Grants::default(), &LeaseTable::default());
    assert_eq!(checked.unwrap_err().findings, [Finding::Hides { at: "/conf/x".into() }]);
}
