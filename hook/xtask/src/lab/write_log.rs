//! A disk that loses what it was not told to keep: from the log that the kernel's dm-log-writes has made of all writes, the disk
//! as it may be after a power cut at any moment.
//!
//! The log has a write only once the kernel has flushed it, and then before that flush. So at any entry of the log, everything
//! before the last flush is on the disk, and of what comes after it some is and some is not. The format is that of
//! `Documentation/admin-guide/device-mapper/log-writes.rst` and `drivers/md/dm-log-writes.c`: little-endian, the first sector
//! says how many entries there are, each entry is a sector that is followed by its data.

use super::dice::Dice;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

/// The unit of positions and lengths on both devices.
const SECTOR: u64 = 512;

const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// Something that was done to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    flags: u64,
    /// Where on the disk, and how much, in bytes.
    at: u64,
    length: u64,
    /// Where in the log its data are.
    data: u64,
    /// What whoever made a mark wrote.
    mark: String,
}

/// All that was done to a disk, in the order in which it got there.
#[derive(Debug)]
pub(super) struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

impl WriteLog {
    /// Reads a log device's file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let entries = entries(&file).with_context(|| format!("no log of writes: {}", path.display()))?;
        Ok(Self { file, entries })
    }

    /// A moment, by chance.
    pub(super) fn moment(&self, dice: &mut Dice) -> usize {
        dice.range(0, self.entries.len() as u64 + 1) as usize
    }

    /// The marks that were made before a moment, oldest first.
    pub(super) fn marks(&self, moment: usize) -> Vec<&str> {
        let before = self.entries.iter().take(moment);
        before.filter(|entry| entry.flags & MARK != 0).map(|entry| entry.mark.as_str()).collect()
    }

    /// Does to `disk`, which is as it was before the log, what a disk with a cache of its own would have kept whose power was
    /// cut at a moment.
    pub(super) fn replay(&self, disk: &Path, moment: usize, dice: &mut Dice) -> Result<()> {
        let disk = File::options()
            .write(true)
            .open(disk)
            .with_context(|| format!("cannot open {}", disk.display()))?;
        let before = &self.entries[..moment.min(self.entries.len())];
        let flushed = before.iter().rposition(|entry| entry.flags & FLUSH != 0).unwrap_or(0);
        for (index, entry) in before.iter().enumerate() {
            if entry.flags & (DISCARD | MARK) != 0 {
                continue;
            }
            // A flush comes before the data that come with it.
            let kept = if index < flushed || entry.flags & FUA != 0 {
                entry.length
            } else {
                match dice.range(0, 3) {
                    0 => 0,
                    1 => dice.range(0, entry.length / SECTOR + 1) * SECTOR,
                    _ => entry.length,
                }
            };
            let mut data = vec![0; usize::try_from(kept).context("a write too large for memory")?];
            self.file
                .read_exact_at(&mut data, entry.data)
                .context("the log ends in the middle of a write")?;
            disk.write_all_at(&data, entry.at).context("cannot write to a disk")?;
        }
        Ok(())
    }
}

fn entries(file: &File) -> Result<Vec<Entry>> {
    let number = |bytes: &[u8], index: usize| -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8 * index..8 * index + 8]);
        u64::from_le_bytes(word)
    };
    let mut head = [0; SECTOR as usize];
    file.read_exact_at(&mut head, 0).context("cannot read its head")?;
    ensure!(number(&head, 0) == MAGIC && number(&head, 1) == VERSION, "it does not begin as one");
    let count = number(&head, 2);
    let sector = number(&head, 3) & 0xffff_ffff;
    ensure!(sector == SECTOR, "its sectors have {sector} bytes");
    let mut found = Vec::new();
    let mut at = SECTOR;
    for _ in 0..count {
        let mut bytes = [0; SECTOR as usize];
        file.read_exact_at(&mut bytes, at).context("it ends before its last entry")?;
        let [position, sectors, flags, text] = [0, 1, 2, 3].map(|index| number(&bytes, index));
        let text =
            usize::try_from(text).ok().and_then(|length| bytes.get(32..32 + length)).unwrap_or_default();
        let length = sectors * SECTOR;
        found.push(Entry {
            flags,
            at: position * SECTOR,
            length,
            data: at + SECTOR,
            mark: String::from_utf8_lossy(text).trim_end_matches('\0').to_owned(),
        });
        at += SECTOR + if flags & DISCARD == 0 { length } else { 0 };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    /// A log of writes of one sector each, to the sector of the same number as their letter.
    fn log(folder: &TempDir, entries: &[(u64, &str)]) -> WriteLog {
        let mut bytes = Vec::new();
        let sector = |words: &[u64], rest: &[u8]| {
            let mut sector: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            sector.extend(rest);
            sector.resize(SECTOR as usize, 0);
            sector
        };
        bytes.extend(sector(&[MAGIC, VERSION, entries.len() as u64, SECTOR], b""));
        for (flags, text) in entries {
            if flags & MARK != 0 {
                bytes.extend(sector(&[0, 0, *flags, text.len() as u64], text.as_bytes()));
            } else if text.is_empty() {
                bytes.extend(sector(&[0, 0, *flags, 0], b""));
            } else {
                let letter = text.as_bytes()[0];
                bytes.extend(sector(&[u64::from(letter - b'a'), 1, *flags, 0], b""));
                bytes.extend([letter; SECTOR as usize]);
            }
        }
        let path = folder.path().join("log");
        fs::write(&path, bytes).unwrap();
        WriteLog::read(&path).unwrap()
    }

    /// The letters that a disk has after a cut at a moment, for many dice.
    fn disks(log: &WriteLog, folder: &TempDir, moment: usize) -> std::collections::BTreeSet<String> {
        let path = folder.path().join("disk");
        (0..64)
            .map(|seed| {
                fs::write(&path, [0; 8 * SECTOR as usize]).unwrap();
                log.replay(&path, moment, &mut Dice::new(seed)).unwrap();
                let disk = fs::read(&path).unwrap();
                let first = disk.chunks(SECTOR as usize).map(|sector| sector[0]).filter(|byte| *byte != 0);
                String::from_utf8(first.collect()).unwrap()
            })
            .collect()
    }

    fn sets(texts: &[&str]) -> std::collections::BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_was_flushed_is_there_and_of_the_rest_anything() {
        let folder = TempDir::new().unwrap();
        let log = log(
            &folder,
            &[
                (0, "a"),
                (0, "b"),
                (FLUSH, ""),
                (MARK, "done 1"),
                (0, "c"),
                (FUA, "d"),
                (0, "e"),
                (FLUSH, "f"),
            ],
        );
        assert_eq!(disks(&log, &folder, 0), sets(&[""]));
        assert_eq!(disks(&log, &folder, 2), sets(&["", "a", "b", "ab"]));
        assert_eq!(disks(&log, &folder, 3), sets(&["ab"]));
        assert_eq!(disks(&log, &folder, 7), sets(&["abd", "abcd", "abde", "abcde"]));
        assert_eq!(disks(&log, &folder, 8), sets(&["abcde", "abcdef"]));
        assert_eq!(log.marks(3), [""; 0]);
        assert_eq!(log.marks(8), ["done 1"]);
    }

    #[test]
    fn every_moment_comes() {
        let folder = TempDir::new().unwrap();
        let log = log(&folder, &[(0, "a"), (FLUSH, "")]);
        let mut dice = Dice::new(1);
        let seen: std::collections::BTreeSet<usize> = (0..100).map(|_| log.moment(&mut dice)).collect();
        assert_eq!(seen, [0, 1, 2].into());
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, [0; 4096]).unwrap();
        assert!(format!("{:#}", WriteLog::read(&path).unwrap_err()).contains("does not begin as one"));
    }
}
