//! What a capture says was there: threads and their descriptors.

use std::sync::Arc;

use super::table::Table;
use crate::capture::{CaptureError, FdList, ThreadList};

impl Table {
    /// Takes in threads of a capture. What cannot be read ends it; what came before is kept.
    ///
    /// # Errors
    /// When the list contradicts itself.
    pub fn take_threads(&mut self, threads: ThreadList<'_>) -> Result<(), CaptureError> {
        for thread in threads {
            let mut thread = thread?;
            thread.container = self.container(&thread.cgroups);
            let share = self
                .threads
                .get(&thread.pid)
                .filter(|leader| leader.tid != thread.tid)
                .map(|leader| leader.files);
            self.insert(thread, share);
        }
        Ok(())
    }

    /// Takes in descriptors of a thread of a capture.
    ///
    /// # Errors
    /// When the list contradicts itself.
    pub fn take_fds(&mut self, tid: i64, fds: FdList<'_>) -> Result<(), CaptureError> {
        let limit = self.limits.fds;
        let Some(files) = self
            .threads
            .get(&tid)
            .and_then(|thread| self.files.get_mut(&thread.files))
        else {
            return Ok(());
        };
        let table = Arc::make_mut(&mut files.fds);
        for entry in fds {
            let (fd, open) = entry?;
            if table.len() < limit {
                table.insert(fd, open);
            } else {
                self.stats.fds_full += 1;
            }
        }
        Ok(())
    }
}
