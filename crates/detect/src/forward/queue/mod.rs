//! A bounded queue on disk: segment files that are only appended to, and an acknowledged position.
//!
//! Records are numbered. A segment's name is the number of its first record; a record is its
//! length, a checksum over number and content, and the content. What is acknowledged stands in a
//! file of two slots that are written in turn, so that a write cut short leaves the other.
//!
//! Invariants: a process killed at any instruction loses no record that [`Queue::push`] had
//! returned for, and sees again at most what it had not acknowledged. The files are never longer
//! than the limit; the oldest records go first, and are counted. Nothing read back is believed
//! before its checksum agrees. Files are written for their owner alone.
//!
//! A loss of power may cost what the kernel had not written yet: segments are synced when they are
//! full and when the queue is closed.

mod acked;
mod segment;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use acked::Acked;
use segment::{Place, Reader, Segment, Writer};

/// The longest record, in bytes.
pub const LONGEST_RECORD_BYTES: usize = 1024 * 1024;

/// Why the queue could not do it.
#[derive(Debug, Error)]
pub enum QueueError {
    /// The file system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The record is longer than the queue takes.
    #[error("a record of {bytes} bytes is longer than this queue takes")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
}

/// Records that are to be sent next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The contents, oldest first.
    pub records: Vec<Vec<u8>>,
    /// What to acknowledge once all of them are dealt with: the number of the record after them.
    pub next: u64,
}

/// The queue of one output.
#[derive(Debug)]
pub struct Queue {
    directory: PathBuf,
    limit_bytes: u64,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    writer: Option<Writer>,
    acked_file: Acked,
    acked: u64,
    next: u64,
    /// The end of what was read and not acknowledged: not dropped, since its reader has it.
    in_flight: u64,
    /// Where the first record stands that is not acknowledged.
    cursor: Option<Place>,
    /// The place after the records that were read last.
    ahead: Option<Place>,
    dropped: u64,
}

impl Queue {
    /// Opens or makes the queue in a directory. `limit_bytes` bounds its segment files together.
    pub fn open(directory: &Path, limit_bytes: u64) -> Result<Queue, QueueError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| io_error(directory, source))?;
        let (acked_file, acked) = Acked::open(&directory.join("acked"))?;
        let mut segments = segment::list(directory)?;
        let mut dropped = 0;
        let first = segments.front().map_or(0, |segment| segment.first);
        let acked = acked.unwrap_or(first);
        let mut next = acked;
        let firsts: Vec<u64> = segments
            .iter()
            .skip(1)
            .map(|segment| segment.first)
            .collect();
        for (segment, following) in segments.iter_mut().zip(firsts) {
            // A segment never reaches into the next one; what is missing between them is lost.
            segment.count = segment.count.min(following.saturating_sub(segment.first));
            dropped += following.saturating_sub(segment.end().max(acked));
        }
        for segment in &segments {
            next = next.max(segment.end());
        }
        let mut queue = Queue {
            directory: directory.into(),
            limit_bytes,
            segment_bytes: (limit_bytes / 8).clamp(4 * 1024, 8 * 1024 * 1024),
            segments,
            writer: None,
            acked_file,
            acked,
            next,
            in_flight: acked,
            cursor: None,
            ahead: None,
            dropped,
        };
        queue.forget_acknowledged()?;
        Ok(queue)
    }

    /// Appends a record, and drops the oldest ones if it would not fit.
    pub fn push(&mut self, content: &[u8]) -> Result<(), QueueError> {
        let bytes = segment::record_bytes(content.len());
        if content.len() > LONGEST_RECORD_BYTES || bytes + segment::MAGIC_BYTES > self.limit_bytes {
            return Err(QueueError::TooLong {
                bytes: content.len(),
            });
        }
        if self
            .writer
            .as_ref()
            .is_some_and(|writer| writer.bytes() >= self.segment_bytes)
            && let Some(writer) = self.writer.take()
        {
            writer.sync()?;
        }
        while self.bytes() + bytes + segment::MAGIC_BYTES > self.limit_bytes
            && !self.segments.is_empty()
        {
            self.drop_oldest()?;
        }
        if self.writer.is_none() {
            let writer = Writer::create(&self.directory, self.next)?;
            // An empty file of that name may be listed from before.
            self.segments.retain(|segment| segment.first != self.next);
            self.segments
                .push_back(Segment::new(&self.directory, self.next));
            self.writer = Some(writer);
        }
        let (Some(writer), Some(segment)) = (&mut self.writer, self.segments.back_mut()) else {
            return Ok(());
        };
        match writer.append(self.next, content) {
            Ok(()) => {
                segment.count += 1;
                segment.bytes = writer.bytes();
                self.next += 1;
                Ok(())
            }
            Err(error) => {
                // What lies after half a record cannot be read: the next one starts a new file.
                self.writer = None;
                if segment.count == 0 {
                    self.segments.pop_back();
                }
                Err(error)
            }
        }
    }

    /// The oldest records that are not acknowledged, as many as `records` and about `bytes` allow,
    /// and one at least if there is any. The same ones again until they are acknowledged.
    pub fn peek(&mut self, records: usize, bytes: usize) -> Result<Batch, QueueError> {
        let mut reader = self.reader_at(self.acked)?;
        self.cursor = reader.as_ref().map(|reader| reader.place);
        self.ahead = None;
        let mut batch = Batch {
            records: Vec::new(),
            next: self.acked,
        };
        let mut taken = 0;
        while let Some(current) = &mut reader {
            if batch.records.len() >= records || (taken >= bytes && taken > 0) {
                break;
            }
            let seq = current.place.seq;
            let end = self
                .segments
                .iter()
                .find(|segment| segment.first == current.place.first)
                .map_or(seq, Segment::end);
            if seq < end {
                if let Some(content) = current.read()? {
                    taken += content.len();
                    batch.records.push(content);
                    batch.next = current.place.seq;
                    self.ahead = Some(current.place);
                    continue;
                }
                // Damaged since it was opened: the rest of this segment cannot be read.
                self.dropped += end - seq;
                batch.next = end;
            }
            let following = self
                .segments
                .iter()
                .find(|segment| segment.count > 0 && segment.first >= end);
            reader = following.map(Segment::reader).transpose()?;
        }
        self.in_flight = batch.next;
        if batch.records.is_empty() && batch.next > self.acked {
            self.acknowledge(batch.next)?;
        }
        Ok(batch)
    }

    /// Forgets the records before `next`, a batch's own number.
    pub fn acknowledge(&mut self, next: u64) -> Result<(), QueueError> {
        if next <= self.acked || next > self.next {
            return Ok(());
        }
        self.acked_file.write(next)?;
        self.acked = next;
        self.cursor = self.ahead.take();
        self.forget_acknowledged()
    }

    /// How many records are not acknowledged.
    pub fn len(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.end().saturating_sub(segment.first.max(self.acked)))
            .sum()
    }

    /// Whether everything is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of its segment files together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// How many records were lost unsent since this was last asked: to the limit, or to damage.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Brings everything to the disk.
    pub fn sync(&self) -> Result<(), QueueError> {
        match &self.writer {
            Some(writer) => writer.sync(),
            None => Ok(()),
        }
    }

    /// A reader at a record, or at the first one after it that there is.
    fn reader_at(&self, seq: u64) -> Result<Option<Reader>, QueueError> {
        let Some(segment) = self.segments.iter().find(|segment| segment.end() > seq) else {
            return Ok(None);
        };
        let mut reader = segment.reader()?;
        if let Some(place) = self.cursor
            && place.first == segment.first
            && place.seq == seq
        {
            reader.seek(place)?;
        }
        while reader.place.seq < seq && reader.read()?.is_some() {}
        Ok(Some(reader))
    }

    fn drop_oldest(&mut self) -> Result<(), QueueError> {
        let Some(segment) = self.segments.front() else {
            return Ok(());
        };
        let (end, unseen) = (
            segment.end(),
            segment.first.max(self.acked).max(self.in_flight),
        );
        segment.remove()?;
        self.segments.pop_front();
        if self.segments.is_empty() {
            self.writer = None;
        }
        self.dropped += end.saturating_sub(unseen);
        if end > self.acked {
            self.acked_file.write(end)?;
            self.acked = end;
            self.cursor = None;
        }
        Ok(())
    }

    /// Removes the segments that hold nothing more to send, but not the one that is written to.
    fn forget_acknowledged(&mut self) -> Result<(), QueueError> {
        while let Some(segment) = self.segments.front()
            && segment.end() <= self.acked
            && !(self.segments.len() == 1 && self.writer.is_some())
        {
            segment.remove()?;
            self.segments.pop_front();
        }
        Ok(())
    }
}

fn io_error(path: &Path, source: io::Error) -> QueueError {
    QueueError::Io {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests;
