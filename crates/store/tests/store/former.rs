//! Databases that earlier versions have made: they open, keep what they hold, and go on.

use rusqlite::Connection;
use store::{Expect, ListOptions, Revision};

use crate::support::{Place, manual, put, read};
use store::Store;

/// The tables of format 1, with a page size that is no longer chosen, and three revisions: `/a` made and
/// changed, `/b` made.
const FORMAT_1: &str = "
PRAGMA page_size = 4096;
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
CREATE TABLE log (
  revision INTEGER PRIMARY KEY,
  key BLOB NOT NULL,
  created INTEGER NOT NULL,
  previous INTEGER NOT NULL,
  value BLOB
);
CREATE UNIQUE INDEX log_key ON log (key, revision);
CREATE TABLE kv (key BLOB PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), compacted INTEGER NOT NULL);
INSERT INTO meta (id, compacted) VALUES (1, 0);
INSERT INTO log VALUES (2, CAST('/a' AS BLOB), 2, 0, CAST('one' AS BLOB));
INSERT INTO log VALUES (3, CAST('/b' AS BLOB), 3, 0, zeroblob(9000));
INSERT INTO log VALUES (4, CAST('/a' AS BLOB), 2, 2, CAST('two' AS BLOB));
INSERT INTO kv VALUES (CAST('/a' AS BLOB), 4), (CAST('/b' AS BLOB), 3);
PRAGMA application_id = 0x4b4e5252;
PRAGMA user_version = 1;
";

/// What turns that into format 2.
const FORMAT_2: &str = "
ALTER TABLE log ADD COLUMN expires INTEGER;
ALTER TABLE log ADD COLUMN sum INTEGER;
DROP INDEX log_key;
CREATE INDEX log_expires ON log (expires) WHERE expires IS NOT NULL;
PRAGMA user_version = 2;
";

#[tokio::test]
async fn a_database_of_format_1_goes_on() {
    goes_on(FORMAT_1).await;
}

#[tokio::test]
async fn a_database_with_smaller_pages_goes_on() {
    goes_on(&format!("{FORMAT_1}{FORMAT_2}")).await;
}

async fn goes_on(tables: &str) {
    let place = Place::new();
    let made = Connection::open(place.path()).unwrap();
    made.execute_batch(tables).unwrap();
    made.close().unwrap();

    for start in 0..2_u64 {
        let store = Store::open(&place.path(), manual()).await.unwrap();
        let current = store.current();
        assert_eq!(current.0, 4 + 2 * start);
        let page = store.list(ListOptions::default()).await.unwrap();
        let sizes = page.entries.iter();
        let sizes = sizes.map(|entry| (&*entry.key, entry.value.len()));
        assert_eq!(
            sizes.collect::<Vec<_>>(),
            [("/a", 3), ("/b", 9000 + usize::from(start > 0))]
        );
        let past = store.list(ListOptions {
            at: Some(Revision(2)),
            ..ListOptions::default()
        });
        assert_eq!(past.await.unwrap().entries[0].value, "one");
        let mut events = store.subscribe("", Revision(1)).unwrap();
        assert_eq!(
            read(&mut events, 3).await[2].previous.as_deref(),
            Some(&b"one"[..])
        );

        let at = page.entries[1].modified;
        let written = store
            .write(put("/b", Expect::At(at), vec![1; 9001]))
            .await
            .unwrap();
        assert_eq!(written.0, current.0 + 1);
        store
            .write(put("/b", Expect::At(written), vec![2; 9001]))
            .await
            .unwrap();
        store.close().await;
    }
    // Written anew, which is when a page size could change; and it is whole.
    let store = Store::open(&place.path(), manual()).await.unwrap();
    store.scrub().await.unwrap();
    assert_eq!(store.get("/a").await.unwrap().unwrap().value, "two");
    store.close().await;
    let connection = Connection::open(place.path()).unwrap();
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}
