//! What the journal is measured against: a bare append under a lock, and a database.

use rusqlite::Connection;
use rusqlite::TransactionBehavior;
use rusqlite::params;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseRecord;

/// A frame's header in the journal.
const FRAME: usize = 40;

/// Opens a lock file, locks it, opens a file, appends as many bytes as the journal does, and unlocks: the least that
/// anything which keeps records in a shared file has to do. It knows nothing and checks nothing.
pub(crate) struct Bare {
    folder: PathBuf,
    payloads: Vec<Vec<u8>>,
}

impl Bare {
    pub(crate) fn new(folder: &Path, records: &[LeaseRecord]) -> Self {
        let bytes =
            |record| vec![b' '; serde_json::to_vec(record).unwrap().len().next_multiple_of(8) + FRAME];
        Self { folder: folder.to_owned(), payloads: records.iter().map(bytes).collect() }
    }

    pub(crate) fn cycle(&self) {
        for payload in &self.payloads {
            let lock = options().open(self.folder.join("lock")).unwrap();
            rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
            let mut file = options().open(self.folder.join("log")).unwrap();
            file.write_all(payload).unwrap();
            drop::<File>(lock);
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    options
}

/// The same work in SQLite: one connection and one immediate transaction per step.
pub(crate) struct Sqlite {
    file: PathBuf,
    synchronous: &'static str,
}

impl Sqlite {
    pub(crate) fn new(folder: &Path, synchronous: &'static str) -> Self {
        let sqlite = Self { file: folder.join("leases.db"), synchronous };
        let connection = sqlite.connect();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 CREATE TABLE IF NOT EXISTS grants
                     (attempt TEXT PRIMARY KEY, container TEXT NOT NULL, state TEXT NOT NULL, content TEXT NOT NULL);
                 CREATE INDEX IF NOT EXISTS by_container ON grants (container);
                 CREATE TABLE IF NOT EXISTS leases
                     (attempt TEXT NOT NULL, tenant TEXT NOT NULL, volume TEXT NOT NULL, access TEXT NOT NULL,
                      PRIMARY KEY (attempt, tenant, volume)) WITHOUT ROWID;
                 CREATE INDEX IF NOT EXISTS by_volume ON leases (tenant, volume);",
            )
            .unwrap();
        sqlite
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(&self.file).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection.pragma_update(None, "synchronous", self.synchronous).unwrap();
        connection
    }

    fn step(&self, act: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>) {
        let mut connection = self.connect();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        act(&transaction).unwrap();
        transaction.commit().unwrap();
    }

    pub(crate) fn acquire(&self, grant: &Grant) {
        let content = serde_json::to_string(grant).unwrap();
        self.step(|t| {
            let mut held = t.prepare("SELECT COUNT(*) FROM leases WHERE tenant = ?1 AND volume = ?2")?;
            let mut insert = t.prepare("INSERT INTO leases VALUES (?1, ?2, ?3, ?4)")?;
            for lease in &grant.leases {
                let (tenant, volume) = (lease.volume.tenant.as_str(), lease.volume.name.as_str());
                let holders: i64 = held.query_row(params![tenant, volume], |row| row.get(0))?;
                assert_eq!(holders, 0, "nobody else uses these volumes");
                insert.execute(params![grant.attempt, tenant, volume, "read_write"])?;
            }
            let row = params![grant.attempt, grant.container.as_str(), "granted", content];
            t.execute("INSERT INTO grants VALUES (?1, ?2, ?3, ?4)", row).map(drop)
        });
    }

    pub(crate) fn mounted(&self, grant: &Grant) {
        self.step(|t| {
            t.execute("UPDATE grants SET state = 'mounted' WHERE attempt = ?1", params![grant.attempt])
                .map(drop)
        });
    }

    pub(crate) fn release(&self, grant: &Grant) {
        self.step(|t| {
            t.execute("DELETE FROM leases WHERE attempt = ?1", params![grant.attempt])?;
            let gone = t.execute("DELETE FROM grants WHERE attempt = ?1", params![grant.attempt])?;
            assert_eq!(gone, 1, "it was held");
            Ok(())
        });
    }
}
