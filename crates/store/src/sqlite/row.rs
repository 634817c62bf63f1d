//! A row of `log`: its checksum, and the one place where rows are written.
//!
//! Invariant: each row that is written has a checksum over all of its columns.

use rusqlite::{Connection, params};

use super::schema::damaged;

/// A row of `log`.
pub(super) struct LogRow<'a> {
    pub(super) revision: i64,
    pub(super) key: &'a [u8],
    pub(super) created: i64,
    pub(super) previous: i64,
    pub(super) value: Option<&'a [u8]>,
    pub(super) expires: Option<i64>,
}

impl LogRow<'_> {
    /// What belongs into `log.sum`.
    pub(super) fn sum(&self) -> i64 {
        // In one piece, which is quicker than one by one.
        let numbers = [
            self.revision,
            self.created,
            self.previous,
            self.expires.unwrap_or(0),
            self.key.len().cast_signed() as i64,
            i64::from(self.value.is_some()),
        ];
        let mut head = [0; 48];
        for (place, number) in head.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let mut sum = crc32fast::Hasher::new();
        sum.update(&head);
        sum.update(self.key);
        sum.update(self.value.unwrap_or_default());
        sum.finalize().into()
    }

    /// Writes it.
    pub(super) fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO log (revision, key, created, previous, value, expires, sum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                self.revision,
                self.key,
                self.created,
                self.previous,
                self.value,
                self.expires,
                self.sum()
            ])?;
        Ok(())
    }

    /// Fails when the row is not what was written.
    pub(super) fn check(&self, sum: Option<i64>) -> rusqlite::Result<()> {
        if sum.is_none_or(|sum| sum == self.sum()) {
            return Ok(());
        }
        Err(damaged(format!(
            "the checksum of revision {} does not fit, of the key {:?}",
            self.revision,
            String::from_utf8_lossy(self.key)
        )))
    }
}
