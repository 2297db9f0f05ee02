//! What the journal is measured against: a bare append under a lock, and a database.

use rusqlite::Connection;
use rusqlite::TransactionBehavior;
use rusqlite::params;
use rustix::fs::FlockOperation;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use volhook_core::lease::Grant;
use volhook_core::record::LeaseRecord;

/// A frame's header in the journal.
const FRAME: usize = 40;

/// The least that anything which keeps records in a shared file has to do: for each of the two hooks it opens a lock
/// file and a log, and then locks, appends as many bytes as the journal does there, and unlocks; twice in the first
/// hook, once in the second. It knows nothing, checks nothing, and its bytes are made beforehand.
pub(crate) struct Bare {
    folder: PathBuf,
    appends: [Vec<u8>; 3],
}

impl Bare {
    pub(crate) fn new(folder: &Path, appends: &[Vec<LeaseRecord>; 3]) -> Self {
        let size = |record| serde_json::to_vec(record).unwrap().len().next_multiple_of(8) + FRAME;
        let appends = appends.each_ref().map(|records| vec![b' '; records.iter().map(size).sum()]);
        Self { folder: folder.to_owned(), appends }
    }

    pub(crate) fn cycle(&self) {
        self.append(&self.appends);
    }

    /// The same with the records of this container, made and encoded here.
    pub(crate) fn cycle_of(&self, appends: &[Vec<LeaseRecord>; 3]) {
        self.append(&appends.each_ref().map(|records| {
            let mut bytes = Vec::new();
            for record in records {
                bytes.extend([b' '; FRAME]);
                bytes.extend(serde_json::to_vec(record).unwrap());
                bytes.resize(bytes.len().next_multiple_of(8), b' ');
            }
            bytes
        }));
    }

    fn append(&self, appends: &[Vec<u8>; 3]) {
        let (prestart, poststop) = appends.split_at(2);
        for appends in [prestart, poststop] {
            let lock = options().open(self.folder.join("lock")).unwrap();
            let mut log = options().open(self.folder.join("log")).unwrap();
            for bytes in appends {
                rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
                log.write_all(bytes).unwrap();
                rustix::fs::flock(&lock, FlockOperation::Unlock).unwrap();
            }
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    options
}

/// The same work in SQLite: one connection per hook, and an immediate transaction where the journal takes the lock.
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

    pub(crate) fn fill(&self, grant: &Grant) {
        step(&mut self.connect(), |t| acquire(t, grant));
    }

    pub(crate) fn prestart(&self, grant: &Grant) {
        let mut connection = self.connect();
        assert_eq!(holders(&connection, grant).unwrap(), 0, "nobody else uses these volumes");
        step(&mut connection, |t| {
            assert_eq!(holders(t, grant)?, 0, "nobody else uses these volumes");
            acquire(t, grant)
        });
        step(&mut connection, |t| {
            t.execute("UPDATE grants SET state = 'mounted' WHERE attempt = ?1", params![grant.attempt])
                .map(drop)
        });
    }

    pub(crate) fn poststop(&self, grant: &Grant) {
        let mut connection = self.connect();
        let held: String = connection
            .query_row(
                "SELECT content FROM grants WHERE container = ?1",
                params![grant.container.as_str()],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(serde_json::from_str::<Grant>(&held).unwrap(), *grant);
        step(&mut connection, |t| {
            t.execute("DELETE FROM leases WHERE attempt = ?1", params![grant.attempt])?;
            let gone = t.execute("DELETE FROM grants WHERE attempt = ?1", params![grant.attempt])?;
            assert_eq!(gone, 1, "it was held");
            Ok(())
        });
    }
}

fn step(connection: &mut Connection, act: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>) {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    act(&transaction).unwrap();
    transaction.commit().unwrap();
}

fn holders(connection: &Connection, grant: &Grant) -> rusqlite::Result<i64> {
    let mut held =
        connection.prepare_cached("SELECT COUNT(*) FROM leases WHERE tenant = ?1 AND volume = ?2")?;
    let volumes = grant.leases.iter().map(|lease| &lease.volume);
    volumes
        .map(|id| held.query_row(params![id.tenant.as_str(), id.name.as_str()], |row| row.get::<_, i64>(0)))
        .sum()
}

fn acquire(t: &Connection, grant: &Grant) -> rusqlite::Result<()> {
    let content = serde_json::to_string(grant).unwrap();
    let mut insert = t.prepare("INSERT INTO leases VALUES (?1, ?2, ?3, ?4)")?;
    for lease in &grant.leases {
        let (tenant, volume) = (lease.volume.tenant.as_str(), lease.volume.name.as_str());
        insert.execute(params![grant.attempt, tenant, volume, "read_write"])?;
    }
    let row = params![grant.attempt, grant.container.as_str(), "granted", content];
    t.execute("INSERT INTO grants VALUES (?1, ?2, ?3, ?4)", row).map(drop)
}
