//! No plan of the planner's breaks an invariant, whatever is there and claimed.

use super::*;
use crate::plan::look_again;
use proptest::prelude::*;

/// Where volumes are claimed; what is below `/m` the spec covers.
const TARGETS: [&str; 6] = ["/a", "/a/x", "/b", "/c", "/m/f", "/m/f/g"];

/// What a volume is, of which one is generated.
#[derive(Debug, Clone)]
struct Kept {
    kind: usize,
    new: bool,
    begun: bool,
    said: Option<Sharing>,
    pod: &'static str,
    parts: Vec<bool>,
    held: Option<(Access, Sharing)>,
}

/// A claim, and what its driver answers.
#[derive(Debug, Clone)]
struct Wish {
    volume: usize,
    part: usize,
    by_policy: bool,
    access: Access,
    subpath: bool,
    no_copy: bool,
    has_content: bool,
    granted: Access,
    sharing: Sharing,
}

fn sharing() -> impl Strategy<Value = Sharing> {
    prop::sample::select(vec![Sharing::Shared, Sharing::SingleWriter, Sharing::Exclusive])
}

fn access() -> impl Strategy<Value = Access> {
    prop::sample::select(vec![Access::ReadOnly, Access::ReadWrite])
}

prop_compose! {
    fn kept()(
        kind in 0..9usize,
        new in prop::bool::weighted(0.3),
        begun in prop::bool::weighted(0.2),
        said in prop::option::weighted(0.3, sharing()),
        pod in prop::sample::select(vec!["p", "q"]),
        parts in prop::collection::vec(any::<bool>(), TARGETS.len()),
        held in prop::option::weighted(0.2, (access(), sharing())),
    ) -> Kept {
        Kept { kind, new, begun, said, pod, parts, held }
    }
}

prop_compose! {
    fn wish(volumes: usize)(
        volume in 0..volumes,
        part in 0..TARGETS.len(),
        by_policy in any::<bool>(),
        access in access(),
        subpath in prop::bool::weighted(0.3),
        no_copy in prop::bool::weighted(0.2),
        has_content in any::<bool>(),
        granted in access(),
        sharing in sharing(),
    ) -> Wish {
        Wish { volume, part, by_policy, access, subpath, no_copy, has_content, granted, sharing }
    }
}

impl Kept {
    fn volume(&self, name: &str) -> Volume {
        let parts = || {
            let made = TARGETS.iter().zip(&self.parts).filter(|(_, made)| **made && !self.new);
            made.map(|(target, _)| part(name, target)).collect()
        };
        let plain = |backing| volume(name, backing);
        let volume = match self.kind {
            0 => plain(directory()),
            1 => plain(image()),
            2 => plain(tmpfs()),
            3 => plain(host("/srv/data/x")),
            4 => plain(host("/srv/free")),
            5 => plain(device()),
            6 => storage(name, self.pod, Population::Copy, parts()),
            7 => storage(name, self.pod, Population::Empty, parts()),
            _ => storage(name, self.pod, Population::Overlay, parts()),
        };
        let begun = self.begun && !self.new && volume.copy_up == CopyUp::Due;
        let copy_up = if begun { CopyUp::Begun } else { volume.copy_up };
        Volume { sharing: self.said, copy_up, ..volume }
    }
}

impl Wish {
    /// The claim, which is none where nobody can make it.
    fn claim(&self, on: &Volume, target: &str) -> Option<Claim> {
        let subpath = self.subpath.then(|| SubPath::new("s/t").unwrap());
        let claim = match &on.storage {
            None => claim(on.id.name.as_str(), target, self.access),
            Some(_) if self.by_policy => {
                let of_its_pod = on.pod == Some(member("p", "storage"));
                of_its_pod.then(|| claim_of_policy(on.id.name.as_str(), target, self.access))?
            }
            Some(storage) => {
                let part = part(on.id.name.as_str(), TARGETS[self.part]);
                storage.parts.contains(&part).then(|| claim(part.name.as_str(), target, self.access))?
            }
        };
        Some(Claim { subpath, no_copy: self.no_copy, ..claim })
    }

    fn decide(&self, claim: Claim, volume: &Volume, new: bool, grants: &Grants) -> Decided {
        let most = match &volume.backing {
            Backing::HostPath(host) if grants.path(&volume.id.tenant, &host.path).unwrap().read_only => {
                Access::ReadOnly
            }
            _ => Access::ReadWrite,
        };
        let granted = match volume.sharing {
            Some(said) => attachment(claim.access, said),
            None if claim.access == Access::ReadOnly => attachment(Access::ReadOnly, self.sharing),
            None => attachment(self.granted, self.sharing),
        };
        let is_wanted = !claim.no_copy && claim.subpath.is_none() && self.has_content;
        let has_source = match volume.copy_up {
            CopyUp::Over => false,
            CopyUp::Due => !new && is_wanted,
            CopyUp::Begun => true,
        };
        Decided {
            claim,
            volume: volume.clone(),
            new,
            met: None,
            has_source,
            attachment: bounded(granted, volume, most),
        }
    }
}

/// Does what a plan says of making.
fn make(plan: &Plan, volumes: &mut BTreeMap<VolumeId, Volume>) {
    for new in &plan.create {
        volumes.insert(new.id.clone(), new.clone());
    }
    for filled in &plan.copy_up {
        volumes.get_mut(&filled.volume).unwrap().copy_up = CopyUp::Over;
    }
    for planned in &plan.parts {
        let storage = volumes.get_mut(&planned.storage).and_then(|volume| volume.storage.as_mut());
        storage.unwrap().parts.push(planned.part.clone());
    }
}

proptest! {
    /// Whatever is there and claimed: nothing is found in what the planner makes of it, from the first plan to the one
    /// under which everything is mounted.
    #[test]
    fn no_plan_of_the_planner_s_has_a_finding(
        kept in prop::collection::vec(kept(), 4),
        wishes in prop::collection::vec(prop::option::weighted(0.6, wish(4)), TARGETS.len()),
        stage in prop::sample::select(vec![Stage::Live, Stage::Spec]),
        (user_namespace, covered, anonymous, linked) in any::<(bool, bool, bool, bool)>(),
    ) {
        let grants: Grants = toml::from_str(GRANTS).unwrap();
        let names = ["v0", "v1", "v2", "v3"];
        let mut volumes: BTreeMap<VolumeId, Volume> = BTreeMap::new();
        let mut wanted: BTreeMap<VolumeId, Volume> = BTreeMap::new();
        let mut table = LeaseTable::default();
        for (kept, name) in kept.iter().zip(names) {
            let volume = kept.volume(name);
            if let (Some((access, sharing)), false) = (kept.held, kept.new) {
                table.insert(grant(name, &volume, access, sharing));
            }
            if kept.new { &mut wanted } else { &mut volumes }.insert(volume.id.clone(), volume);
        }
        let mut resolved: BTreeMap<String, Result<Resolved, String>> =
            TARGETS.iter().chain(&["/m"]).map(|target| ((*target).to_owned(), Ok(found_at(target)))).collect();
        if linked {
            resolved.insert("/c".into(), Ok(found_at("/b/linked")));
        }
        let mut mounts = Vec::new();
        if covered {
            mounts.push(bind("/m"));
        }
        if anonymous {
            let source = format!("/var/lib/docker/volumes/{}/_data", "ab".repeat(32));
            mounts.push(SpecMount { source, ..bind("/a/x") });
        }
        for _ in 0..4 {
            let of = |name: &str| match volumes.get(&id(name)) {
                Some(found) => (found, false),
                None => (&wanted[&id(name)], true),
            };
            let decided: Vec<Decided> = wishes.iter().zip(TARGETS).filter_map(|(wish, target)| {
                let wish = wish.as_ref()?;
                let (volume, new) = of(names[wish.volume]);
                Some(wish.decide(wish.claim(volume, target)?, volume, new, &grants))
            }).collect();
            let facts = Facts {
                attempt: "a2",
                stage,
                container: &ContainerId::new("c2").unwrap(),
                tenant: &Tenant::default(),
                pod: Some(&Pod::new("p").unwrap()),
                mounts: &mounts,
                user_namespace,
                keeps_all: false,
            folders: None,
            resolved: &resolved,
                table: &table,
                stepped_back: &[],
                remarks: &["a remark".to_owned()],
                now: Timestamp::UNIX_EPOCH,
            };
            let Ok(mut plan) = plan(&facts, decided) else { return Ok(()) };
            prop_assert_eq!(check(&plan, &volumes, &grants, &table), Ok(()));
            if plan.create.is_empty() && plan.copy_up.is_empty() && plan.parts.is_empty() {
                let elsewhere = |path: &str| Ok(found_at(&path.replace("/m/f", "/m/linked")));
                let seen = resolved.keys().map(|path| (path.clone(), elsewhere(path))).collect();
                look_again(&mut plan, &mounts, &seen).unwrap();
                prop_assert_eq!(check(&plan, &volumes, &grants, &table), Ok(()));
                return Ok(());
            }
            make(&plan, &mut volumes);
        }
        prop_assert!(false, "there is always something more to make");
    }
}
