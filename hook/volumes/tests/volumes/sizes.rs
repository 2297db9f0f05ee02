//! Sizes: counted by several threads, remembered, and never waited for longer than wanted.

use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::image;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::store;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use volhook_core::volume::Volume;
use volhook_volumes::Size;
use volhook_volumes::Store;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// What du(1) counts.
fn du(path: &Path) -> u64 {
    let output = Command::new("du").args(["-s", "-B1", "--one-file-system"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().split('\t').next().unwrap().parse().unwrap()
}

fn sizes(store: &Store, volumes: &[&Volume], now: Timestamp, deadline: Option<Instant>) -> Vec<Option<Size>> {
    store.sizes(volumes, now, MINUTE, deadline).into_iter().map(Result::unwrap).collect()
}

#[test]
fn privileged_many_trees_are_counted_as_du_counts_them() {
    let (folder, store) = store();
    let mut volumes = Vec::new();
    for nth in 0..20 {
        let volume = fresh(Volume { pod: None, ..directory(&format!("v{nth}")) });
        store.create(&volume, soon()).unwrap();
        let data = store.directory_path(&volume.id);
        for branch in 0..nth % 5 {
            let deep = data.join(format!("{branch}/{}", "d/".repeat(nth * 3)));
            fs::create_dir_all(&deep).unwrap();
            for file in 0..nth {
                fs::write(deep.join(format!("f{file}")), vec![1; 1000 * file]).unwrap();
                fs::hard_link(deep.join(format!("f{file}")), data.join(format!("{branch}-{file}"))).unwrap();
            }
        }
        volumes.push(volume);
    }
    volumes.push(fresh(image("i", 16 << 20)));
    store.create(volumes.last().unwrap(), soon()).unwrap();
    let all: Vec<&Volume> = volumes.iter().collect();
    let counted = sizes(&store, &all, Timestamp::now(), None);
    for (volume, size) in volumes.iter().zip(counted) {
        let path = if volume.driver == "block" {
            store.image_path(volume)
        } else {
            store.directory_path(&volume.id)
        };
        assert_eq!(size.unwrap().bytes, du(&path), "{:?}", volume.id);
    }
    assert_eq!(fs::read_dir(root(&folder)).unwrap().filter_map(leftover).count(), 0);
}

fn leftover(entry: std::io::Result<fs::DirEntry>) -> Option<String> {
    let name = entry.unwrap().file_name().into_string().unwrap();
    (name.starts_with("sizes.json") && name != "sizes.json").then_some(name)
}

#[test]
fn privileged_a_count_is_remembered_for_its_time() {
    let (folder, store) = store();
    let volume = fresh(directory("v"));
    store.create(&volume, soon()).unwrap();
    let start: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
    let at = |seconds| start.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    let look = |now, deadline| sizes(&store, &[&volume], now, deadline)[0];
    let over = Some(Instant::now());

    assert_eq!(look(start, over), None, "nothing is known yet, and there is no time to count");
    let first = look(start, None).unwrap();
    assert_eq!(first.counted, start);
    let file = store.directory_path(&volume.id).join("large");
    fs::write(&file, vec![1; 1 << 20]).unwrap();
    assert_eq!(look(at(60), None), Some(first));
    assert_eq!(look(at(61), over), Some(first), "without time the last count stands, with its age");
    let second = look(at(61), None).unwrap();
    assert_eq!(second.counted, at(61));
    assert_eq!(second.bytes, first.bytes + fs::metadata(&file).unwrap().blocks() * 512);
    fs::remove_file(&file).unwrap();
    // The clock was set back.
    assert_eq!(look(at(0), None).unwrap(), Size { counted: at(0), ..first });
    // Images are asked, not remembered.
    let image = fresh(image("i", 16 << 20));
    store.create(&image, soon()).unwrap();
    assert_eq!(sizes(&store, &[&image], at(5), over)[0].unwrap().counted, at(5));

    let cache = root(&folder).join("sizes.json");
    store.forget_other_sizes(std::slice::from_ref(&volume));
    assert!(fs::read_to_string(&cache).unwrap().contains(&volume.uuid));
    store.forget_other_sizes(&[]);
    assert!(!fs::read_to_string(&cache).unwrap().contains(&volume.uuid));
    for broken in ["", "{", "{\"format\":2,\"sizes\":{}}", "[]"] {
        fs::write(&cache, broken).unwrap();
        assert_eq!(look(at(9), over), None, "{broken}");
        assert_eq!(look(at(9), None).unwrap().bytes, first.bytes);
    }
}

#[test]
fn one_volume_s_trouble_is_its_own() {
    let (_folder, store) = store();
    let (good, bad) = (fresh(directory("good")), fresh(directory("bad")));
    store.create(&good, soon()).unwrap();
    store.create(&bad, soon()).unwrap();
    fs::remove_dir(store.directory_path(&bad.id)).unwrap();
    let counted = store.sizes(&[&bad, &good], Timestamp::now(), MINUTE, None);
    assert!(counted[0].as_ref().unwrap_err().to_string().contains("has lost its directory"));
    assert!(matches!(counted[1], Ok(Some(_))));
}
