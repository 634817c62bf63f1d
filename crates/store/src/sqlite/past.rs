//! Lists of a past revision: the present, with what has changed since undone.
//!
//! A row of `log` names the row that it replaced, so the first change of a key after a revision leads
//! to what the key was then. This takes time by the number of changes since, which retention bounds;
//! an index of all changes by key would make each write pay for it.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::reader::{KeyRange, entry, select_entry};
use super::schema::damaged;
use crate::{Entry, Revision};

/// The keys of a range that changed after a revision, with the row that each had at it; 0 for none.
pub(super) struct Changes {
    at: i64,
    before: BTreeMap<Vec<u8>, i64>,
}

impl Changes {
    /// Reads the changes after `at`.
    pub(super) fn since(
        connection: &Connection,
        range: &KeyRange,
        at: Revision,
    ) -> rusqlite::Result<Changes> {
        let at = at.0.cast_signed();
        let mut before = BTreeMap::new();
        let mut statement = connection.prepare_cached(
            "SELECT key, previous FROM log NOT INDEXED
             WHERE revision > ?1 AND key >= ?2 AND key < ?3 ORDER BY revision",
        )?;
        let mut rows = statement.query(params![at, range.low(), range.high()])?;
        while let Some(row) = rows.next()? {
            let key = row.get_ref(0)?.as_blob()?;
            if !before.contains_key(key) {
                before.insert(key.to_vec(), row.get(1)?);
            }
        }
        Ok(Changes { at, before })
    }

    /// The first entries of the range as they were, in the order of their keys; at most `most`.
    pub(super) fn list(
        &self,
        connection: &Connection,
        range: &KeyRange,
        most: usize,
    ) -> rusqlite::Result<Vec<Entry>> {
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let mut entries = connection
            .prepare_cached(select_entry!(
                "kv.key = log.key FROM kv LEFT JOIN log ON log.revision = kv.revision
                 WHERE kv.key >= ?1 AND kv.key < ?2 AND kv.revision <= ?3 ORDER BY kv.key LIMIT ?4"
            ))?
            .query_map(params![range.low(), range.high(), self.at, limit], entry)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let mut undo = connection.prepare_cached(select_entry!(
            "log.key = ?2 FROM log WHERE log.revision = ?1"
        ))?;
        let changed = self.before.iter().filter(|(_, row)| **row != 0);
        for (key, row) in changed.take(most) {
            let undone = undo.query_row(params![row, key], entry).optional()?;
            entries.push(undone.ok_or_else(|| damaged(format!("revision {row} is not there")))?);
        }
        // Two runs in order, of which the sort makes one.
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        entries.truncate(most);
        Ok(entries)
    }

    /// How many entries there were after a key.
    pub(super) fn count_after(
        &self,
        connection: &Connection,
        range: &KeyRange,
        after: &[u8],
    ) -> rusqlite::Result<u64> {
        let unchanged: i64 = connection
            .prepare_cached(
                "SELECT count(*) FROM kv WHERE key > ?1 AND key < ?2 AND revision <= ?3",
            )?
            .query_row(params![after, range.high(), self.at], |row| row.get(0))?;
        let later = self.before.iter().rev();
        let later = later.take_while(|(key, _)| key.as_slice() > after);
        let undone = later.filter(|(_, row)| **row != 0).count();
        Ok(unchanged.cast_unsigned() + undone as u64)
    }
}
