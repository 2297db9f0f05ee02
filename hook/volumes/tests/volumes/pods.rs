//! Storages of pods: their parts' names, how they are found, creators at the same time and killed ones.

use crate::copy::patient;
use crate::copy::run;
use crate::fixture::ROOT;
use crate::fixture::Rounds;
use crate::fixture::at;
use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::id;
use crate::fixture::image;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::start;
use crate::fixture::store;
use crate::fixture::tree;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_core::decision::Population;
use volhook_core::image::ImageIdentity;
use volhook_core::image::PackageDatabase;
use volhook_core::image::Stamp;
use volhook_core::names::Pod;
use volhook_core::names::Target;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeName;
use volhook_core::volume::Offer;
use volhook_core::volume::Part;
use volhook_core::volume::PodMember;
use volhook_core::volume::PodStorage;
use volhook_core::volume::Volume;
use volhook_mounts::source;
use volhook_mounts::source::ImageUse;
use volhook_volumes::Cloning;
use volhook_volumes::Created;
use volhook_volumes::Holder;
use volhook_volumes::OtherKind;
use volhook_volumes::Store;
use volhook_volumes::StoreError;

pub(crate) fn pod(name: &str) -> Pod {
    Pod::new(name).unwrap()
}

/// The part of the pod `pod` at `path`: `usr-local` for `/usr/local`.
pub(crate) fn part(pod: &str, path: &str) -> Part {
    let member = path.trim_start_matches('/').replace('/', "-");
    Part {
        name: VolumeName::new(format!("vol-{pod}-{member}")).unwrap(),
        member,
        path: Target::new(path).unwrap(),
        created: at(1),
    }
}

/// The storage of the pod `pod` with parts at these places.
pub(crate) fn storage(pod: &str, population: Population, paths: &[&str]) -> Volume {
    let parts = paths.iter().map(|path| part(pod, path)).collect();
    let volume = directory(&format!("pod-{pod}"));
    in_pod(fresh(volume), pod, PodStorage { population, parts, image: None, offered: None })
}

fn in_pod(volume: Volume, pod: &str, storage: PodStorage) -> Volume {
    let pod = PodMember { pod: Pod::new(pod).unwrap(), member: "storage".to_owned() };
    Volume { pod: Some(pod), storage: Some(storage), ..volume }
}

pub(crate) fn made(store: &Store, volume: Volume) -> Volume {
    match store.create(&volume, soon()).unwrap() {
        Created::New(volume) => volume,
        Created::Existing(volume) => panic!("{volume:?} is there already"),
    }
}

fn staged(folder: &TempDir) -> Vec<String> {
    tree(&root(folder).join("staging"))
}

fn links(folder: &TempDir) -> Vec<String> {
    let is_link = |path: &String| root(folder).join(path).is_symlink();
    tree(&root(folder)).into_iter().filter(is_link).collect()
}

const EIGHT: [&str; 8] = ["/etc", "/home", "/root", "/usr", "/usr/local", "/var", "/opt", "/srv"];

#[test]
fn a_storage_is_found_by_its_pod_and_its_parts_by_their_names() {
    let (folder, store) = store();
    assert_eq!(store.pod_storage(&Tenant::default(), &pod("alice")).unwrap(), None);
    let volume = made(&store, storage("alice", Population::Copy, &EIGHT));
    assert_eq!(store.pod_storage(&Tenant::default(), &pod("alice")).unwrap().as_ref(), Some(&volume));
    assert_eq!(store.pod_storage(&Tenant::default(), &pod("bob")).unwrap(), None);
    assert_eq!(store.find(&volume.id).unwrap().as_ref(), Some(&volume));
    let wanted = part("alice", "/usr/local");
    assert_eq!(store.find_part(&id("vol-alice-usr-local")).unwrap(), Some((volume.clone(), wanted)));
    assert_eq!(store.find_part(&id("vol-alice-nothing")).unwrap(), None);
    assert_eq!(store.find_part(&volume.id).unwrap(), None);
    let error = store.find(&id("vol-alice-etc")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "volume \"vol-alice-etc\" is a part of volume \"pod-alice\", which holds the volumes of pod \"alice\""
    );
    assert!(matches!(error, StoreError::IsPart { .. }));
    let listing = store.list().unwrap();
    assert_eq!(listing.volumes, std::slice::from_ref(&volume));
    assert_eq!(listing.others, []);
    let mut names: Vec<_> = EIGHT.map(|path| part("alice", path).name).to_vec();
    names.sort();
    assert_eq!(listing.parts.iter().map(|part| part.id.name.clone()).collect::<Vec<_>>(), names);
    assert!(listing.parts.iter().all(|part| part.storage == volume.id && part.pod == Some(pod("alice"))));
    assert_eq!(store.usage(&Tenant::default(), &vec![]).unwrap().volumes, 1);
    assert_eq!(tree(&store.directory_path(&volume.id)), ["files"]);
    assert_eq!(staged(&folder), Vec::<String>::new());
}

#[test]
fn an_overlays_storage_has_the_folders_that_overlayfs_wants() {
    use std::os::unix::fs::MetadataExt;
    let (_folder, store) = store();
    let volume = made(&store, storage("alice", Population::Overlay, &[]));
    let data = store.directory_path(&volume.id);
    assert_eq!(tree(&data), ["upper", "work"]);
    assert_eq!(data.join("upper").metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn privileged_an_image_has_the_folders_as_well_and_is_free_at_once() {
    let (_folder, store) = store();
    for (name, population, wanted) in
        [("a", Population::Overlay, vec!["upper", "work"]), ("b", Population::Empty, vec!["files"])]
    {
        let PodStorage { parts, .. } = storage(name, population, &["/etc"]).storage.unwrap();
        let described = PodStorage { population, parts, image: None, offered: None };
        let volume = made(&store, in_pod(fresh(image(&format!("pod-{name}"), 32 << 20)), name, described));
        let volhook_core::decision::Backing::Image(image) = &volume.backing else { panic!() };
        let mount = source::mount_image(&store.image_path(&volume), image, ImageUse::Exclusive)
            .expect("mounting needs root: run the privileged_ tests as root");
        let top = rustix::fs::openat(&mount, ".", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .unwrap();
        let names: Vec<String> = rustix::fs::Dir::read_from(&top)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
            .filter(|name| !name.starts_with('.'))
            .collect();
        let mut names = names;
        names.sort();
        assert_eq!(names, wanted);
    }
}

#[test]
fn a_parts_name_that_is_taken_is_refused_and_nothing_stays() {
    let (folder, store) = store();
    made(&store, fresh(directory("vol-alice-usr")));
    let before = tree(&root(&folder));
    let error = store.create(&storage("alice", Population::Copy, &EIGHT), soon()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot create volume \"pod-alice\": the name \"vol-alice-usr\" of one of its parts is that of another volume"
    );
    made(&store, storage("bob", Population::Copy, &["/etc"]));
    let mut clash = storage("carol", Population::Copy, &EIGHT);
    clash.storage.as_mut().unwrap().parts[3].name = part("bob", "/etc").name;
    match store.create(&clash, soon()).unwrap_err() {
        StoreError::NameHeld { name, by: Holder::PartOf(storage), .. } => {
            assert_eq!((name.as_str(), storage.as_str()), ("vol-bob-etc", "pod-bob"));
        }
        error => panic!("{error:?}"),
    }
    let error = store.create(&fresh(directory("vol-bob-etc")), soon()).unwrap_err();
    assert!(matches!(error, StoreError::IsPart { .. }), "{error:?}");
    store.discard_pod(&Tenant::default(), &pod("bob"), at(5)).unwrap().unwrap();
    let after: Vec<String> =
        tree(&root(&folder)).into_iter().filter(|path| !path.starts_with("trash")).collect();
    let made_for_links = |path: &&String| !path.starts_with("pods");
    assert_eq!(
        after.iter().filter(made_for_links).collect::<Vec<_>>(),
        before.iter().filter(made_for_links).collect::<Vec<_>>()
    );
    assert_eq!(links(&folder), Vec::<String>::new());
}

#[test]
fn what_cannot_be_a_storage_is_refused() {
    let (folder, store) = store();
    let good = storage("alice", Population::Copy, &["/etc", "/usr"]);
    let refused = |change: &dyn Fn(&mut Volume)| {
        let mut volume = good.clone();
        change(&mut volume);
        let error = store.create(&volume, soon()).unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    };
    fn parts(volume: &mut Volume) -> &mut Vec<Part> {
        &mut volume.storage.as_mut().unwrap().parts
    }
    refused(&|volume| volume.pod = None);
    refused(&|volume| parts(volume)[0].name = VolumeName::new("pod-alice").unwrap());
    refused(&|volume| parts(volume)[0].name = part("alice", "/usr").name);
    refused(&|volume| parts(volume)[0].member = "usr".to_owned());
    refused(&|volume| parts(volume)[0].path = Target::new("/usr").unwrap());
    for member in ["", "..", "a/b", "/", "a\nb"] {
        refused(&|volume| parts(volume)[0].member = member.to_owned());
    }
    assert!(!root(&folder).exists());
    made(&store, good);
}

#[test]
fn of_two_storages_for_one_pod_the_first_is_used_whatever_it_is_called() {
    let (folder, store) = store();
    let first = made(&store, storage("alice", Population::Copy, &["/etc"]));
    let mut second = storage("alice", Population::Overlay, &["/etc", "/usr"]);
    second.id = id("another-name");
    assert_eq!(store.create(&second, soon()).unwrap(), Created::Existing(first.clone()));
    assert_eq!(store.find(&second.id).unwrap(), None);
    // A volume of its name that is another thing.
    made(&store, fresh(directory("pod-bob")));
    let error = store.create(&storage("bob", Population::Copy, &[]), soon()).unwrap_err();
    assert!(matches!(error, StoreError::Impossible { .. }), "{error:?}");
    // Without its links, as in a backup that leaves them out.
    for link in links(&folder) {
        std::fs::remove_file(root(&folder).join(link)).unwrap();
    }
    assert_eq!(store.pod_storage(&Tenant::default(), &pod("alice")).unwrap(), None);
    let again = storage("alice", Population::Copy, &["/etc"]);
    assert_eq!(store.create(&again, soon()).unwrap(), Created::Existing(first.clone()));
    assert_eq!(store.pod_storage(&Tenant::default(), &pod("alice")).unwrap(), Some(first));
    assert_eq!(links(&folder), ["pods/default/alice", "volumes/default/vol-alice-etc"]);
}

#[test]
fn of_eight_creators_one_makes_a_pods_storage() {
    let (folder, store) = store();
    for round in 0..20 {
        let pod_name = format!("p{round}");
        let results: Vec<_> = std::thread::scope(|scope| {
            let create = |number: usize| {
                let (store, pod_name) = (&store, &pod_name);
                move || {
                    let mut volume = storage(pod_name, Population::Copy, &EIGHT);
                    // As after a change of the template.
                    volume.id = id(&format!("pod-{}-{pod_name}", number % 2));
                    store.create(&volume, soon()).unwrap()
                }
            };
            let threads: Vec<_> = (0..8).map(|number| scope.spawn(create(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let new = results.iter().filter(|created| matches!(created, Created::New(_))).count();
        assert_eq!(new, 1, "{results:#?}");
        let found = store.pod_storage(&Tenant::default(), &pod(&pod_name)).unwrap().unwrap();
        assert!(results.iter().all(|created| *created.volume() == found));
    }
    let listing = store.list().unwrap();
    assert_eq!((listing.volumes.len(), listing.parts.len(), listing.others), (20, 160, vec![]));
    assert_eq!(staged(&folder), Vec::<String>::new());
}

#[test]
fn a_name_goes_to_a_volume_or_to_a_part_and_never_to_both() {
    let (_folder, store) = store();
    for round in 0..40 {
        let pod_name = format!("p{round}");
        let name = part(&pod_name, "/srv").name;
        let (volume, storage) = std::thread::scope(|scope| {
            let volume = scope.spawn(|| store.create(&fresh(directory(name.as_str())), soon()));
            let storage = scope.spawn(|| store.create(&storage(&pod_name, Population::Copy, &EIGHT), soon()));
            (volume.join().unwrap(), storage.join().unwrap())
        });
        match (&volume, &storage) {
            (Ok(_), Err(StoreError::NameHeld { by: Holder::Volume, .. }))
            | (Err(StoreError::IsPart { .. }), Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(store.list().unwrap().others, []);
}

#[test]
fn links_that_are_left_over_name_nobody_and_are_replaced_or_removed() {
    let (folder, store) = store();
    made(&store, fresh(directory("v1")));
    made(&store, storage("bob", Population::Copy, &["/etc"]));
    let volumes = root(&folder).join("volumes/default");
    let pods = root(&folder).join("pods/default");
    let plant = || {
        symlink("pod-alice/etc", volumes.join("vol-alice-etc")).unwrap();
        symlink("pod-bob/usr", volumes.join("vol-alice-usr")).unwrap();
        symlink("v1/etc", volumes.join("vol-alice-opt")).unwrap();
        symlink("pod-bob/etc", volumes.join("vol-alice-srv")).unwrap();
        symlink("self/etc", volumes.join("self")).unwrap();
        symlink("self/etc", volumes.join("pod-alice")).unwrap();
        symlink("pod-bob", pods.join("alice")).unwrap();
        symlink("v1", pods.join("carol")).unwrap();
    };
    plant();
    let listing = store.list().unwrap();
    assert_eq!((listing.volumes.len(), listing.parts.len(), listing.others.len()), (2, 1, 8));
    assert!(listing.others.iter().all(|other| other.kind == OtherKind::Leftover), "{:#?}", listing.others);
    for name in ["vol-alice-etc", "vol-alice-usr", "self"] {
        assert_eq!(store.find(&id(name)).unwrap(), None);
        assert_eq!(store.find_part(&id(name)).unwrap(), None);
    }
    assert_eq!(store.pod_storage(&Tenant::default(), &pod("alice")).unwrap(), None);
    // Those of a creator at work are as young.
    assert_eq!(store.leftovers().unwrap(), Vec::<std::path::PathBuf>::new());
    run(Command::new("touch").args(["-h", "-d", "2 minutes ago"]).arg(pods.join("carol")));
    assert_eq!(store.leftovers().unwrap(), [pods.join("carol")]);
    store.clean_staging(soon()).unwrap();
    assert_eq!(links(&folder), ["pods/default/bob", "volumes/default/vol-bob-etc"]);

    plant();
    let alice = made(&store, storage("alice", Population::Copy, &EIGHT));
    assert_eq!(store.pod_storage(&Tenant::default(), &pod("alice")).unwrap(), Some(alice));
    made(&store, fresh(directory("self")));
    let listing = store.list().unwrap();
    assert_eq!((listing.volumes.len(), listing.parts.len(), listing.others.len()), (4, 9, 1));
}

#[test]
fn odd_things_in_the_places_of_links_are_never_followed() {
    let (folder, store) = store();
    let real = made(&store, storage("bob", Population::Copy, &["/etc"]));
    let volumes = root(&folder).join("volumes/default");
    let pods = root(&folder).join("pods/default");
    let long = "x".repeat(300);
    let texts = [
        "/etc/passwd",
        "/",
        "..",
        "../default/pod-bob",
        "pod-bob",
        "./pod-bob/etc",
        "pod-bob/etc/",
        "pod-bob//etc",
        "pod-bob/../pod-bob/etc",
        "odd",
        "pod-bob/etc\n",
        &long,
    ];
    for text in texts {
        let link = volumes.join("odd");
        symlink(text, &link).unwrap();
        let error = store.find(&id("odd")).unwrap_err();
        assert!(matches!(error, StoreError::Foreign { .. }), "{text:?}: {error:?}");
        assert!(matches!(store.find_part(&id("odd")), Err(StoreError::Foreign { .. })), "{text:?}");
        assert!(matches!(store.create(&fresh(directory("odd")), soon()), Err(StoreError::Foreign { .. })));
        let mut clash = storage("carol", Population::Copy, &["/etc"]);
        clash.storage.as_mut().unwrap().parts[0].name = VolumeName::new("odd").unwrap();
        assert!(matches!(store.create(&clash, soon()), Err(StoreError::Foreign { .. })), "{text:?}");
        store.clean_staging(soon()).unwrap();
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(text), "what is not ours stays");
        std::fs::remove_file(&link).unwrap();
    }
    for text in ["/etc", "..", "../../volumes/default/pod-bob", "pod-bob/etc", "pod-bob/", "odd", &long] {
        let link = pods.join("odd");
        symlink(text, &link).unwrap();
        assert_eq!(store.pod_storage(&Tenant::default(), &pod("odd")).unwrap(), None, "{text:?}");
        std::fs::remove_file(&link).unwrap();
    }
    std::fs::create_dir(pods.join("odd")).unwrap();
    std::fs::create_dir(volumes.join("vol-odd-etc")).unwrap();
    assert_eq!(store.pod_storage(&Tenant::default(), &pod("odd")).unwrap(), None);
    let error = store.create(&storage("odd", Population::Copy, &["/etc"]), soon()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
    let error = store.create(&storage("odd", Population::Copy, &["/usr"]), soon()).unwrap_err();
    assert!(matches!(error, StoreError::Change { .. }), "{error:?}");
    let listing = store.list().unwrap();
    assert_eq!(listing.volumes, [real]);
    assert_eq!(listing.others.len(), 2, "{:#?}", listing.others);
    assert!(listing.others.iter().all(|other| other.kind == OtherKind::Foreign));
    // A whole folder that is a symlink.
    std::fs::remove_dir(pods.join("odd")).unwrap();
    std::fs::rename(&pods, root(&folder).join("away")).unwrap();
    symlink(root(&folder).join("away"), &pods).unwrap();
    assert!(store.pod_storage(&Tenant::default(), &pod("bob")).is_err());
}

#[test]
fn parts_are_added_with_their_names() {
    let (folder, store) = store();
    let volume = made(&store, storage("alice", Population::Copy, &["/etc"]));
    let mut changing = store.change("fill", &volume).unwrap();
    changing.add_parts(vec![part("alice", "/usr"), part("alice", "/etc")]).unwrap();
    let now = changing.volume().clone();
    assert_eq!(now.storage.as_ref().unwrap().parts, [part("alice", "/etc"), part("alice", "/usr")]);
    assert_eq!(store.find_part(&id("vol-alice-usr")).unwrap(), Some((now, part("alice", "/usr"))));
    let mut moved = part("alice", "/usr");
    moved.path = Target::new("/elsewhere").unwrap();
    let error = changing.add_parts(vec![moved]).unwrap_err();
    assert!(matches!(error, StoreError::Impossible { .. }), "{error:?}");
    made(&store, fresh(directory("vol-alice-srv")));
    let error = changing.add_parts(vec![part("alice", "/opt"), part("alice", "/srv")]).unwrap_err();
    assert!(matches!(error, StoreError::NameHeld { by: Holder::Volume, .. }), "{error:?}");
    assert_eq!(store.find_part(&id("vol-alice-opt")).unwrap(), None);
    assert!(!links(&folder).iter().any(|link| link.contains("opt")));

    let image = ImageIdentity { name: Some("debian:13".to_owned()), ..ImageIdentity::default() };
    let other = ImageIdentity { name: Some("debian:14".to_owned()), ..ImageIdentity::default() };
    changing.set_image(Some(image.clone())).unwrap();
    let offer = Offer { image: other.clone(), rootfs: "/bundle/rootfs".to_owned() };
    changing.offer_image(offer.clone()).unwrap();
    let read = || store.find(&volume.id).unwrap().unwrap().storage.unwrap();
    assert_eq!((read().image, read().offered), (Some(image), Some(offer)));
    changing.set_image(Some(other.clone())).unwrap();
    assert_eq!((read().image, read().offered), (Some(other), None));
    // The same list of packages in another file is noted, so that it is not read at every start.
    let mut listed = ImageIdentity {
        packages: Some(PackageDatabase {
            path: "/var/lib/dpkg/status".to_owned(),
            digest: "d".to_owned(),
            stamp: Some(Stamp { inode: 1, size: 2, modified: (3, 4), changed: (5, 6) }),
        }),
        ..ImageIdentity::default()
    };
    for inode in [1, 7] {
        listed.packages.as_mut().unwrap().stamp.as_mut().unwrap().inode = inode;
        changing.set_image(Some(listed.clone())).unwrap();
        assert_eq!(read().image.unwrap().packages.unwrap().stamp.unwrap().inode, inode);
    }
    drop(changing);
    let plain = store.find(&id("vol-alice-srv")).unwrap().unwrap();
    let error = store.change("fill", &plain).unwrap().add_parts(vec![part("alice", "/opt")]).unwrap_err();
    assert!(matches!(error, StoreError::Impossible { .. }), "{error:?}");
}

#[test]
fn removed_its_names_are_free_and_restored_they_are_its_again() {
    let (folder, store) = store();
    let volume = made(&store, storage("alice", Population::Copy, &EIGHT));
    let before = links(&folder);
    let discarded = store.discard_pod(&Tenant::default(), &pod("alice"), at(9)).unwrap().unwrap();
    assert_eq!(links(&folder), Vec::<String>::new());
    assert_eq!(store.discard_pod(&Tenant::default(), &pod("alice"), at(9)).unwrap(), None);
    assert_eq!(store.restore(&discarded).unwrap(), volume);
    assert_eq!(links(&folder), before);
    let listing = store.list().unwrap();
    assert_eq!((listing.volumes, listing.parts.len(), listing.others), (vec![volume.clone()], 8, vec![]));

    let discarded = store.discard(&volume, at(10)).unwrap();
    let taken = made(&store, fresh(directory("vol-alice-usr")));
    let error = store.restore(&discarded).unwrap_err();
    assert!(matches!(error, StoreError::NameHeld { work: "restore", .. }), "{error:?}");
    assert_eq!(links(&folder), Vec::<String>::new());
    store.discard(&taken, at(11)).unwrap();
    let mut second = storage("alice", Population::Copy, &[]);
    second.id = id("another-name");
    let second = made(&store, second);
    let error = store.restore(&discarded).unwrap_err();
    assert!(matches!(error, StoreError::NameTaken { .. }), "{error:?}");
    store.discard(&second, at(12)).unwrap();
    symlink("nobody/etc", root(&folder).join("volumes/default/pod-alice")).unwrap();
    store.restore(&discarded).unwrap();
    assert_eq!(links(&folder), before);
}

#[test]
fn a_storage_has_its_names_from_its_pod_and_is_not_cloned() {
    let (_folder, store) = store();
    let volume = made(&store, storage("alice", Population::Copy, &["/etc"]));
    let error = store.change("rename", &volume).unwrap().rename(VolumeName::new("x").unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot rename volume \"pod-alice\": it holds the volumes of a pod, whose policy gives the names"
    );
    let uuid = fresh(directory("x")).uuid;
    let cloning = Cloning { id: id("x"), uuid, labels: vec![], created: at(3) };
    let error = store.clone_volume(&volume, &cloning, &patient()).unwrap_err();
    assert!(matches!(error, StoreError::Impossible { work: "clone", .. }), "{error:?}");
    // Nor may a volume get the name of a part.
    let plain = made(&store, fresh(directory("plain")));
    let to = part("alice", "/etc").name;
    let error = store.change("rename", &plain).unwrap().rename(to).unwrap_err();
    assert!(matches!(error, StoreError::IsPart { .. }), "{error:?}");
}

#[test]
fn what_killed_creators_left_is_completed_by_the_next() {
    if let Some(root) = std::env::var_os(ROOT) {
        let store = Store::new(Path::new(&root));
        for number in 0.. {
            let pod_name = format!("p{number}");
            store.create(&storage(&pod_name, Population::Copy, &EIGHT), soon()).unwrap();
            store.discard_pod(&Tenant::default(), &pod(&pod_name), at(number)).unwrap();
            store.create(&storage(&pod_name, Population::Overlay, &EIGHT), soon()).unwrap();
            println!("{pod_name}");
        }
        return;
    }
    let (folder, store) = store();
    let name = "pods::what_killed_creators_left_is_completed_by_the_next";
    let (mut left, mut most) = (0, 0);
    let mut rounds = Rounds::at_least(20);
    while let Some(round) = rounds.next(left > 0) {
        let mut children: Vec<_> = (0..2).map(|_| start(name, &root(&folder))).collect();
        std::thread::sleep(Duration::from_millis(30 + round * 5));
        for child in &mut children {
            child.kill().unwrap();
        }
        for child in &mut children {
            child.wait().unwrap();
        }
        let listing = store.list().unwrap();
        assert!(
            listing.others.iter().all(|other| other.kind == OtherKind::Leftover),
            "{:#?}",
            listing.others
        );
        left += listing.others.len() + staged(&folder).len();
        assert_eq!(
            listing.parts.len(),
            listing.volumes.len() * 8,
            "a storage without the names of its parts"
        );
        most = most.max(listing.volumes.len());
        for number in 0..=most {
            let pod_name = format!("p{number}");
            let volume = storage(&pod_name, Population::Overlay, &EIGHT);
            let created = store.create(&volume, soon()).unwrap();
            let found = store.pod_storage(&Tenant::default(), &pod(&pod_name)).unwrap();
            assert_eq!(found.as_ref(), Some(created.volume()));
        }
        let end = Instant::now() + Duration::from_secs(5);
        while !staged(&folder).is_empty() || !store.list().unwrap().others.is_empty() {
            assert!(Instant::now() < end, "{:?} {:?}", staged(&folder), store.list().unwrap().others);
            store.clean_staging(soon()).unwrap();
        }
        for volume in store.list().unwrap().volumes {
            store.discard(&volume, at(1)).unwrap();
        }
        store.empty_trash(at(1_000_000), soon()).unwrap();
        assert_eq!(links(&folder), Vec::<String>::new());
    }
    assert!(left > 0, "no creator was killed in the middle");
}
