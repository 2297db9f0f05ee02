//! `cargo xtask bench volumes`: what managing volumes costs, beside docker, podman, mkfs and rm.
//!
//! Everything that is compared runs interleaved, in a new random order each round. The engines run with state of their own
//! beside volhook's, on the same filesystem, with as many volumes and files; who is not installed is left out.

use crate::engines::Engine;
use crate::figures::quartiles;
use crate::figures::shuffle;
use crate::figures::warn_of_load;
use crate::process;
use crate::process::time;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// What each file of a volume holds.
const CONTENT: [u8; 1024] = [b'x'; 1024];

/// The size of a new block volume.
const SIZE: &str = "10G";

pub(crate) fn run(rounds: usize, volumes: usize, files: usize) -> Result<()> {
    process::need_root("bench volumes")?;
    setup::for_containers()?;
    let target = setup::for_release()?;
    let bench = Bench::new(&process::build_volhook(Some(&target))?)?;
    warn_of_load();
    bench.listing(rounds, volumes, files)?;
    bench.creation(rounds)?;
    bench.removal(rounds.div_ceil(2), files)
}

/// What is compared: its name, and how it is run.
type Variant<'a> = (&'static str, Box<dyn Fn() -> Command + 'a>);

struct Bench {
    volhook: PathBuf,
    folder: TempDir,
}

impl Bench {
    fn new(volhook: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("volhook-bench-").tempdir();
        let folder = folder.context("cannot make a temporary folder")?;
        let installed = folder.path().join("volhook");
        fs::copy(volhook, &installed).context("cannot copy the volhook binary")?;
        Ok(Self { volhook: installed, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn volhook(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.volhook);
        command
            .args(args)
            .env("VOLHOOK_ROOT", self.path("volhook-root"))
            .env("VOLHOOK_RUN_DIR", self.path("volhook-run"))
            .env("VOLHOOK_CONFIG", self.path("none.toml"));
        command
    }

    /// The list of volumes with sizes.
    fn listing(&self, rounds: usize, volumes: usize, files: usize) -> Result<()> {
        let each = files / volumes;
        println!("{volumes} volumes with {} files, ms:", each * volumes);
        let engines = Engine::installed(self.folder.path(), "vfs")?;
        for number in 0..volumes {
            let name = format!("v{number}");
            let place = |command: &mut Command| -> Result<PathBuf> {
                Ok(PathBuf::from(process::ask(command)?.trim()))
            };
            process::ask(&mut self.volhook(&["volume", "create", &name]))?;
            fill(&place(&mut self.volhook(&["volume", "inspect", "-f", "{{.Mountpoint}}", &name]))?, each)?;
            let inspect = ["volume", "inspect", "--format", "{{.Mountpoint}}", &name];
            for engine in &engines {
                process::ask(&mut engine.command(&["volume", "create", &name]))?;
                fill(&place(&mut engine.command(&inspect))?, each)?;
            }
        }
        let mut variants: Vec<Variant<'_>> = vec![
            ("volhook volume ls", Box::new(|| self.volhook(&["volume", "ls"]))),
            ("volhook volume ls --count", Box::new(|| self.volhook(&["volume", "ls", "--count"]))),
        ];
        for engine in &engines {
            let name = if engine.name() == "docker" { "docker system df -v" } else { "podman system df -v" };
            variants.push((name, Box::new(|| engine.command(&["system", "df", "-v"]))));
        }
        self.listed_all(volumes, each)?;
        let mut times: BTreeMap<(usize, bool), Vec<f64>> = BTreeMap::new();
        for _ in 0..rounds {
            for dropped in [false, true] {
                let mut order: Vec<usize> = (0..variants.len()).collect();
                shuffle(&mut order);
                for variant in order {
                    // What was counted is a minute's: it is there again before each warm look.
                    process::ask(&mut self.volhook(&["volume", "ls"]))?;
                    if dropped {
                        drop_caches()?;
                    } else {
                        // What it reads is in the page cache then.
                        time(&mut variants[variant].1())?;
                    }
                    times.entry((variant, dropped)).or_default().push(time(&mut variants[variant].1())?);
                }
            }
        }
        println!("{:<27} {:>11} {:>15}", "", "page cache", "cache dropped");
        let median = |variant, dropped| quartiles(times[&(variant, dropped)].clone())[1];
        for (variant, (name, _)) in variants.iter().enumerate() {
            println!("{name:<27} {:>11.1} {:>15.1}", median(variant, false), median(variant, true));
        }
        if engines.first().is_some_and(|engine| engine.name() == "docker") {
            println!(
                "remembered / docker: {:.3} (aim: at most 0.05); counted / docker: {:.2}, both with the cache dropped \
                 {:.2} (aim: at most 0.33)",
                median(0, false) / median(2, false),
                median(1, false) / median(2, false),
                median(1, true) / median(2, true)
            );
        }
        Ok(())
    }

    /// Proves that what is measured sees all the files.
    fn listed_all(&self, volumes: usize, each: usize) -> Result<()> {
        let text = process::ask(&mut self.volhook(&["volume", "ls", "--count", "--json"]))?;
        let listed: Vec<Value> = serde_json::from_str(&text).context("volhook prints JSON")?;
        ensure!(listed.len() == volumes, "{} of {volumes} volumes are listed", listed.len());
        let least = u64::try_from(each)? * 1024;
        let counted = |volume: &Value| volume["size"].as_u64().is_some_and(|size| size >= least);
        ensure!(listed.iter().all(counted), "a volume's size is too small");
        Ok(())
    }

    /// A block volume, beside mkfs of a sparse file.
    fn creation(&self, rounds: usize) -> Result<()> {
        let image = self.path("plain.img");
        let (mut ours, mut mkfs) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let name = format!("new{round}");
            let mut order = [0, 1];
            shuffle(&mut order);
            for which in order {
                if which == 0 {
                    let size = format!("size={SIZE}");
                    let create = ["volume", "create", &name, "-d", "block", "-o", &size];
                    ours.push(time(&mut self.volhook(&create))?);
                } else {
                    process::ask(Command::new("truncate").args(["-s", SIZE]).arg(&image))?;
                    mkfs.push(time(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?);
                    fs::remove_file(&image).context("cannot remove the image")?;
                }
            }
            process::ask(&mut self.volhook(&["volume", "rm", "--force", &name]))?;
        }
        let (ours, mkfs) = (quartiles(ours)[1], quartiles(mkfs)[1]);
        println!("\na new volume of {SIZE}, ms:");
        println!("volhook volume create -d block   {ours:.1}");
        println!("mkfs.ext4 of a sparse file       {mkfs:.1}");
        println!("ratio: {:.2} (aim: at most 1.2)", ours / mkfs);
        Ok(())
    }

    /// A volume with many files, beside rm -rf.
    fn removal(&self, rounds: usize, files: usize) -> Result<()> {
        let (mut removed, mut emptied, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        process::ask(&mut self.volhook(&["trash", "empty", "--force"]))?;
        for round in 0..rounds {
            let name = format!("large{round}");
            process::ask(&mut self.volhook(&["volume", "create", &name]))?;
            let place =
                process::ask(&mut self.volhook(&["volume", "inspect", "-f", "{{.Mountpoint}}", &name]))?;
            fill(Path::new(place.trim()), files)?;
            let tree = self.path("tree");
            fs::create_dir(&tree).context("cannot make a folder")?;
            fill(&tree, files)?;
            process::ask(&mut Command::new("sync"))?;
            removed.push(time(&mut self.volhook(&["volume", "rm", "--force", &name]))?);
            let mut order = [0, 1];
            shuffle(&mut order);
            for which in order {
                if which == 0 {
                    emptied.push(time(&mut self.volhook(&["trash", "empty", "--force"]))?);
                } else {
                    plain.push(time(Command::new("rm").arg("-rf").arg(&tree))?);
                }
            }
        }
        println!("\nremoving {files} files, ms:");
        println!("volhook volume rm      {:.1} (aim: at most 20)", quartiles(removed)[1]);
        println!("volhook trash empty    {:.1}", quartiles(emptied)[1]);
        println!("rm -rf                 {:.1}", quartiles(plain)[1]);
        Ok(())
    }
}

/// Makes files in a folder, a hundred in each of its folders.
fn fill(folder: &Path, files: usize) -> Result<()> {
    for number in 0..files {
        let below = folder.join((number / 100).to_string());
        if number % 100 == 0 {
            fs::create_dir(&below).with_context(|| format!("cannot make {}", below.display()))?;
        }
        fs::write(below.join(number.to_string()), CONTENT)
            .with_context(|| format!("cannot write below {}", below.display()))?;
    }
    Ok(())
}

/// Makes the next look read from the disk.
fn drop_caches() -> Result<()> {
    process::ask(&mut Command::new("sync"))?;
    fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop the page cache")
}
