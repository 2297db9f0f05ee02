//! Adopting, killed at each step: what was to be adopted is a whole volume, or where it was, or told of; it is never deleted.
//!
//! A test starts its own program again, told by an environment variable to be who is killed.

use crate::fixture::ROOT;
use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::image;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::store;
use crate::fixture::tree;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use uuid::Uuid;
use volhook_core::volume::Volume;
use volhook_volumes::Adoptable;
use volhook_volumes::Created;
use volhook_volumes::Store;

/// The environment variables that tell the process that is killed what to adopt, and how large its volume's labels are.
const WHAT: &str = "VOLUMES_TEST_ADOPT";
const LABELS: &str = "VOLUMES_TEST_LABELS";

/// Steps before the volume is in its place, and after that.
const BEFORE: [&str; 2] = ["adopt.recorded", "adopt.moved"];
const AFTER: &str = "adopt.placed";

/// More bytes of labels than a sidecar has room for.
const TOO_LARGE: usize = 4 << 20;

/// A store, and something beside it that can be adopted.
struct Case {
    folder: TempDir,
    store: Store,
    path: PathBuf,
    content: Content,
}

/// Files by path: mode, owner, inode and bytes. The path of the top is empty.
type Content = BTreeMap<PathBuf, (u32, u32, u64, Vec<u8>)>;

fn content(top: &Path) -> Content {
    let mut content = Content::new();
    let mut paths = vec![top.to_owned()];
    while let Some(path) = paths.pop() {
        let data = fs::symlink_metadata(&path).unwrap();
        let bytes = if data.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if data.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let relative = path.strip_prefix(top).unwrap().to_owned();
        content.insert(relative, (data.mode(), data.uid(), data.ino(), bytes));
    }
    content
}

impl Case {
    fn new(is_image: bool) -> Self {
        let (folder, store) = store();
        // Its name need not be text.
        let parent = folder.path().join("kept");
        let path = parent.join(std::ffi::OsStr::from_bytes(b"made \xff before"));
        fs::create_dir(&parent).unwrap();
        if is_image {
            fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
            let made = Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096"]).arg(&path).output();
            assert!(made.unwrap().status.success());
        } else {
            fs::create_dir_all(path.join("a/data")).unwrap();
            fs::write(path.join("a/data/file"), "kept").unwrap();
            // Nothing in it is taken for what belongs to a volume.
            fs::write(path.join("origin.json"), "{}").unwrap();
            fs::write(path.join("volume.json"), "{}").unwrap();
        }
        let content = content(&path);
        Self { folder, store, path, content }
    }

    fn adopt(&self) -> Result<Created, volhook_volumes::StoreError> {
        let found = Adoptable::look(&self.path)?;
        self.store.adopt(&found, &self.volume(&found))
    }

    fn volume(&self, found: &Adoptable) -> Volume {
        let like = if self.is_image() { image("v", 8 << 20) } else { directory("v") };
        Volume { backing: found.backing().clone(), pod: None, ..fresh(like) }
    }

    fn is_image(&self) -> bool {
        self.content.len() == 1
    }

    /// Adopts it in a process that does so at a step.
    fn start(&self, step: &str, labels: usize) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "adopt_killed::killed_anywhere_it_is_a_volume_or_where_it_was", "--nocapture"])
            .env(ROOT, root(&self.folder))
            .env(WHAT, &self.path)
            .env(LABELS, labels.to_string())
            .env("VOLHOOK_FAILPOINT", step)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn killed_at(&self, step: &str) {
        let output = self.start(step, 1).wait_with_output().unwrap();
        assert!(
            std::os::unix::process::ExitStatusExt::signal(&output.status).is_some(),
            "{step}: {output:?}"
        );
    }

    /// Where the content lies in the volume that it became.
    fn in_volume(&self) -> PathBuf {
        root(&self.folder).join("volumes/default/v").join(if self.is_image() { "volume.img" } else { "data" })
    }

    fn staging(&self) -> Vec<String> {
        let staging = root(&self.folder).join("staging");
        if staging.exists() { tree(&staging) } else { Vec::new() }
    }

    fn assert_back(&self, what: &str) {
        assert_eq!(content(&self.path), self.content, "{what}");
        assert!(!self.in_volume().exists(), "{what}");
        assert_eq!(self.staging(), Vec::<String>::new(), "{what}");
        assert_eq!(self.store.stranded().unwrap(), []);
        assert!(matches!(self.adopt(), Ok(Created::New(_))), "{what}: once more");
        self.assert_volume(what);
    }

    fn assert_volume(&self, what: &str) {
        assert_eq!(content(&self.in_volume()), self.content, "{what}");
        assert!(!self.path.exists(), "{what}");
        assert_eq!(self.staging(), Vec::<String>::new(), "{what}");
        let volumes = self.store.list().unwrap().volumes;
        assert_eq!(volumes.iter().map(|volume| volume.id.name.as_str()).collect::<Vec<_>>(), ["v"]);
        assert_eq!(self.store.leftovers().unwrap(), Vec::<PathBuf>::new(), "{what}");
    }
}

/// What somebody does next, whoever it is.
type Next = (&'static str, fn(&Store));

const NEXT: [Next; 3] = [
    ("gc", |store| store.clean_staging(soon()).unwrap()),
    ("the next adoption", |store| assert_eq!(store.put_back_adopted().unwrap(), [])),
    ("a start that wants the volume", |store| {
        let other = fresh(Volume { pod: None, ..directory("v") });
        assert!(matches!(store.create(&other, soon()).unwrap(), Created::New(_)));
        fs::remove_dir_all(store.directory_path(&other.id).parent().unwrap()).unwrap();
    }),
];

#[test]
fn killed_anywhere_it_is_a_volume_or_where_it_was() {
    if let Some(path) = std::env::var_os(WHAT) {
        let store = Store::new(Path::new(&std::env::var_os(ROOT).unwrap()));
        let found = Adoptable::look(Path::new(&path)).unwrap();
        let is_image = Path::new(&path).is_file();
        let like = if is_image { image("v", 8 << 20) } else { directory("v") };
        let labels = std::env::var(LABELS).unwrap().parse().unwrap();
        let labels = vec![("a".to_owned(), "b".repeat(labels))];
        let volume = Volume { backing: found.backing().clone(), pod: None, labels, ..fresh(like) };
        match store.adopt(&found, &volume) {
            Ok(Created::New(_)) => println!("adopted"),
            Ok(Created::Existing(_)) => println!("failed: there is one"),
            Err(error) => println!("failed: {error}"),
        }
        return;
    }
    for is_image in [false, true] {
        for step in BEFORE {
            for (who, next) in NEXT {
                let case = Case::new(is_image);
                case.killed_at(step);
                assert!(!case.in_volume().exists(), "{step}: an unfinished volume has its name");
                next(&case.store);
                case.assert_back(&format!("{step}, then {who}"));
            }
        }
        let case = Case::new(is_image);
        case.killed_at(AFTER);
        assert_eq!(content(&case.in_volume()), case.content);
        let origin = root(&case.folder).join("volumes/default/v/origin.json");
        assert_eq!(case.store.leftovers().unwrap(), [origin]);
        case.store.clean_staging(soon()).unwrap();
        case.assert_volume(AFTER);
    }
}

/// What fails puts it back itself.
#[test]
fn an_adoption_that_fails_puts_it_back() {
    for (step, labels) in [("adopt.recorded:fail", 1), ("adopt.moved:fail", 1), ("none", TOO_LARGE)] {
        for is_image in [false, true] {
            let case = Case::new(is_image);
            let output = case.start(step, labels).wait_with_output().unwrap();
            assert!(String::from_utf8_lossy(&output.stdout).contains("failed: "), "{step}: {output:?}");
            case.assert_back(step);
        }
    }
}

/// No version that does not know of adoptions takes it for a half volume that is to be deleted.
#[test]
fn what_is_on_its_way_has_no_name_of_a_half_volume() {
    let case = Case::new(false);
    case.killed_at("adopt.moved");
    let names: Vec<_> = case.staging().into_iter().filter(|path| !path.contains('/')).collect();
    assert_eq!(names.len(), 1);
    assert!(names[0].starts_with("adopt-") && Uuid::parse_str(&names[0]).is_err(), "{names:?}");
    case.store.clean_staging(soon()).unwrap();
    case.assert_back("cleaned");
}

/// What keeps it from being put back: how it is made, how it is undone, and why.
type Obstacle = (&'static str, fn(&Case), fn(&Case));

fn kept(case: &Case) -> PathBuf {
    case.path.parent().unwrap().to_owned()
}

fn away(case: &Case) -> PathBuf {
    case.folder.path().join("away")
}

/// The file that says where it came from.
fn origin(case: &Case) -> PathBuf {
    let staging = root(&case.folder).join("staging");
    fs::read_dir(staging).unwrap().next().unwrap().unwrap().path().join("origin.json")
}

/// Moves the folder that it was in away, and `instead` to its place.
fn replaced(case: &Case, instead: impl FnOnce(&Path)) {
    fs::rename(kept(case), away(case)).unwrap();
    instead(&kept(case));
}

fn given_back(case: &Case) {
    let there = kept(case);
    if there.is_symlink() {
        fs::remove_file(&there).unwrap();
    } else if there.exists() {
        fs::remove_dir(&there).unwrap();
    }
    fs::rename(away(case), there).unwrap();
}

const OBSTACLES: [Obstacle; 7] = [
    (
        "something else has its place",
        |case| fs::write(&case.path, "another's").unwrap(),
        |case| {
            assert_eq!(fs::read_to_string(&case.path).unwrap(), "another's");
            fs::remove_file(&case.path).unwrap();
        },
    ),
    // A dangling symlink is something as well, and nothing goes where it leads.
    (
        "something else has its place",
        |case| symlink(case.folder.path().join("elsewhere"), &case.path).unwrap(),
        |case| {
            assert!(!case.folder.path().join("elsewhere").exists());
            fs::remove_file(&case.path).unwrap();
        },
    ),
    ("the folder that it was in is gone", |case| replaced(case, |_| {}), given_back),
    // Even where it leads to the folder that it was in.
    (
        "something else is in the place of the folder",
        |case| replaced(case, |there| symlink(case.folder.path().join("away"), there).unwrap()),
        given_back,
    ),
    (
        "another folder is in the place of the one",
        |case| replaced(case, |there| fs::create_dir(there).unwrap()),
        given_back,
    ),
    (
        "where it came from cannot be read",
        |case| {
            let text = fs::read(origin(case)).unwrap();
            fs::write(away(case), &text).unwrap();
            fs::write(origin(case), &text[..text.len() / 2]).unwrap();
        },
        |case| assert!(fs::copy(away(case), origin(case)).is_ok()),
    ),
    (
        "a newer volhook had moved it",
        |case| {
            let text = fs::read_to_string(origin(case)).unwrap();
            fs::write(origin(case), text.replace("\"format\":1", "\"format\":2")).unwrap();
        },
        |case| {
            let text = fs::read_to_string(origin(case)).unwrap();
            fs::write(origin(case), text.replace("\"format\":2", "\"format\":1")).unwrap();
        },
    ),
];

#[test]
fn what_cannot_be_put_back_stays_and_is_told() {
    for is_image in [false, true] {
        for (why, make, undo) in OBSTACLES {
            let case = Case::new(is_image);
            case.killed_at("adopt.moved");
            make(&case);
            let before = tree(case.folder.path());
            let stranded = case.store.stranded().unwrap();
            assert_eq!(tree(case.folder.path()), before, "a look has changed something");
            let [told] = &stranded[..] else { panic!("{why}: {stranded:?}") };
            assert!(told.reason.starts_with(why), "{why}: {told}");
            let is_known =
                !matches!(why, "where it came from cannot be read" | "a newer volhook had moved it");
            assert_eq!(told.origin.as_ref(), is_known.then_some(&case.path), "{told}");
            assert_eq!(content(&told.path), case.content);
            // Whatever anybody does: nobody takes or deletes it.
            case.store.clean_staging(soon()).unwrap();
            assert_eq!(case.store.put_back_adopted().unwrap(), stranded);
            let other = fresh(Volume { pod: None, ..directory("other") });
            case.store.create(&other, soon()).unwrap();
            fs::remove_dir_all(case.store.directory_path(&other.id).parent().unwrap()).unwrap();
            assert_eq!(content(&told.path), case.content, "{why}");
            assert_eq!(case.store.stranded().unwrap(), stranded);
            undo(&case);
            case.store.clean_staging(soon()).unwrap();
            if away(&case).is_file() {
                fs::remove_file(away(&case)).unwrap();
            }
            case.assert_back(why);
        }
    }
}

/// Somebody has moved it out of there by hand: what is left is nothing.
#[test]
fn what_was_taken_out_by_hand_leaves_nothing() {
    let case = Case::new(false);
    case.killed_at("adopt.moved");
    fs::write(&case.path, "another's").unwrap();
    let [stranded] = &case.store.stranded().unwrap()[..] else { panic!("it is not told") };
    fs::rename(&stranded.path, away(&case)).unwrap();
    assert_eq!(case.store.stranded().unwrap(), []);
    case.store.clean_staging(soon()).unwrap();
    assert_eq!(case.staging(), Vec::<String>::new());
    assert_eq!(content(&away(&case)), case.content);
}

fn paused(child: &mut Child, file: &Path) {
    while !file.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its step");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn go_on(child: Child, file: &Path) -> Output {
    fs::remove_file(file).unwrap();
    child.wait_with_output().unwrap()
}

/// Nobody takes it from under the hands of who is adopting it.
#[test]
fn others_leave_an_adoption_alone_that_is_under_way() {
    let case = Case::new(false);
    let file = case.folder.path().join("paused");
    let mut child = case.start(&format!("adopt.moved:pause={}", file.display()), 1);
    paused(&mut child, &file);
    case.store.clean_staging(soon()).unwrap();
    assert_eq!(case.store.put_back_adopted().unwrap(), []);
    assert!(!case.path.exists());
    let output = go_on(child, &file);
    assert!(String::from_utf8_lossy(&output.stdout).contains("adopted"), "{output:?}");
    case.assert_volume("others came by");
}

/// An adoption that fails, and whose place somebody has taken meanwhile, says where it is.
#[test]
fn an_adoption_that_cannot_put_it_back_says_where_it_lies() {
    let case = Case::new(false);
    let file = case.folder.path().join("paused");
    // With labels that no sidecar has room for.
    let mut child = case.start(&format!("adopt.moved:pause={}", file.display()), TOO_LARGE);
    paused(&mut child, &file);
    fs::write(&case.path, "another's").unwrap();
    let output = go_on(child, &file);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let [stranded] = &case.store.stranded().unwrap()[..] else { panic!("it is not told") };
    assert!(stdout.contains(&format!("it lies at {} now", stranded.path.display())), "{stdout}");
    assert_eq!(content(&stranded.path), case.content);
    fs::remove_file(&case.path).unwrap();
    case.store.clean_staging(soon()).unwrap();
    case.assert_back("put back");
}

/// What takes the place of what was looked at is not adopted for it.
#[test]
fn another_thing_in_its_place_is_not_adopted() {
    for is_image in [false, true] {
        let case = Case::new(is_image);
        let found = Adoptable::look(&case.path).unwrap();
        fs::rename(&case.path, away(&case)).unwrap();
        if is_image {
            fs::copy(away(&case), &case.path).unwrap();
        } else {
            fs::create_dir(&case.path).unwrap();
        }
        let error = case.store.adopt(&found, &case.volume(&found)).unwrap_err().to_string();
        assert!(error.contains("another took its place meanwhile"), "{error}");
        assert!(case.path.exists() && !case.in_volume().exists());
        assert_eq!(case.staging(), Vec::<String>::new());
        assert_eq!(content(&away(&case)), case.content);
    }
}
