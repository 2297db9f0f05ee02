//! The bytes of format 1, as they were once and for all.

use crate::disk::Simulated;
use crate::records::BOOT;
use crate::records::at;
use crate::records::created;
use crate::records::granted;
use crate::records::released;
use crate::records::soon;
use volhook_journal::EventRecord;
use volhook_journal::Journal;

const LEASES: &str = include_str!("format-1-leases.hex");
const VOLUMES: &str = include_str!("format-1-volumes.hex");

fn story() -> [EventRecord; 3] {
    [
        EventRecord::Volume(created("mydb")),
        EventRecord::Lease(granted("attempt-1", &["mydb"])),
        EventRecord::Lease(released("attempt-1")),
    ]
}

fn hex(bytes: &[u8]) -> String {
    let line =
        |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n";
    bytes.chunks(16).map(line).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn format_1_is_written_byte_by_byte_as_it_was() {
    let disk = Simulated::default();
    let journal = Journal::on(Box::new(disk.clone()), BOOT).unwrap();
    journal.append_volumes(soon(), at(0), &[created("mydb")]).unwrap();
    let mut locked = journal.lock(soon()).unwrap();
    locked.append(at(1), &[granted("attempt-1", &["mydb"])]).unwrap();
    locked.append(at(2), &[released("attempt-1")]).unwrap();
    let leases = hex(&disk.live(&format!("leases-{BOOT}")).unwrap());
    assert_eq!(leases, LEASES, "written now:\n{leases}");
    let volumes = hex(&disk.live("volumes").unwrap());
    assert_eq!(volumes, VOLUMES, "written now:\n{volumes}");
}

#[test]
fn format_1_is_read_as_it_was() {
    let disk = Simulated::default();
    disk.put(&format!("leases-{BOOT}"), unhex(LEASES));
    disk.put("volumes", unhex(VOLUMES));
    let journal = Journal::on(Box::new(disk), BOOT).unwrap();
    let events = journal.events().unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(events.into_iter().map(|event| event.record).collect::<Vec<_>>(), story());
}

/// The fields of the documented layout, taken apart by hand.
#[test]
fn the_layout_is_the_documented_one() {
    let bytes = unhex(VOLUMES);
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(&bytes[0..8], b"VOLHOOKJ");
    assert_eq!([number(8), number(12), number(24)], [1, 2, 0]);
    assert_eq!(long(16), at(0).as_microsecond().unsigned_abs());
    assert_eq!(number(28), crc32c::crc32c(&[&bytes[..28], b"volumes"].concat()));

    assert_eq!(&bytes[32..36], b"VHF1");
    let length = number(36) as usize;
    assert_eq!(bytes.len(), 32 + 40 + length);
    assert_eq!(length % 8, 0);
    assert_eq!(long(40), 1);
    assert_eq!(long(48), at(0).as_microsecond().unsigned_abs());
    assert_eq!(number(56), 0);
    assert_eq!(number(60), crc32c::crc32c(&bytes[72..]));
    assert_eq!(number(64), number(28));
    assert_eq!(number(68), crc32c::crc32c(&bytes[32..68]));
}
