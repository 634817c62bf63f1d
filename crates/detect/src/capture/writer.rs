//! Writing a capture, in the newest form of each block.

use std::io::{self, Write};

use super::accounts::Accounts;
use super::interfaces::Interface;
use super::machine::Machine;
use super::{block, fds, threads};
use crate::event::{Event, EventSchema};
use crate::process::{Fd, Table, Thread};

/// The format that is written.
const MAJOR: u16 = 1;
const MINOR: u16 = 2;

/// Writes a capture to a stream; give it a gzip encoder for a compressed one.
#[derive(Debug)]
pub struct Writer<W: Write> {
    stream: W,
    content: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a capture.
    ///
    /// # Errors
    /// When the stream cannot be written to; so for all methods.
    pub fn new(stream: W) -> io::Result<Self> {
        let mut writer = Self {
            stream,
            content: Vec::new(),
        };
        writer.content.extend(block::MAGIC.to_le_bytes());
        writer.content.extend(MAJOR.to_le_bytes());
        writer.content.extend(MINOR.to_le_bytes());
        writer.content.extend(u64::MAX.to_le_bytes());
        writer.flush_block(block::SECTION)?;
        Ok(writer)
    }

    /// Ends a block: type, length, the content with padding, the length once more.
    fn flush_block(&mut self, kind: u32) -> io::Result<()> {
        self.content
            .resize(self.content.len().next_multiple_of(4), 0);
        let length = u32::try_from(self.content.len())
            .ok()
            .and_then(|length| length.checked_add(12))
            .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.stream.write_all(&kind.to_le_bytes())?;
        self.stream.write_all(&length.to_le_bytes())?;
        self.stream.write_all(&self.content)?;
        self.stream.write_all(&length.to_le_bytes())?;
        self.content.clear();
        Ok(())
    }

    /// Writes what the machine is.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn machine(&mut self, machine: &Machine) -> io::Result<()> {
        machine.write(&mut self.content);
        self.flush_block(block::MACHINE)
    }

    /// Writes network interfaces.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn interfaces(&mut self, interfaces: &[Interface]) -> io::Result<()> {
        Interface::write_all(interfaces, &mut self.content);
        self.flush_block(block::INTERFACES_V2)
    }

    /// Writes users and groups.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn accounts(&mut self, accounts: &Accounts) -> io::Result<()> {
        accounts.write(&mut self.content);
        self.flush_block(block::ACCOUNTS_V2)
    }

    /// Writes threads.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn threads<'t>(&mut self, list: impl IntoIterator<Item = &'t Thread>) -> io::Result<()> {
        for thread in list {
            threads::write(thread, &mut self.content);
        }
        self.flush_block(block::THREADS_V9)
    }

    /// Writes the descriptors of a thread.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn fds<'t>(
        &mut self,
        tid: i64,
        list: impl IntoIterator<Item = (i64, &'t Fd)>,
    ) -> io::Result<()> {
        self.content.extend(tid.to_le_bytes());
        for (fd, open) in list {
            fds::write(fd, open, &mut self.content);
        }
        self.flush_block(block::FDS_V2)
    }

    /// Writes all that a table knows: threads, and the descriptors of each process.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        self.threads(table.threads())?;
        for thread in table.threads().filter(|thread| thread.is_leader()) {
            self.fds(thread.tid, table.fds(thread.tid))?;
        }
        Ok(())
    }

    /// Writes an event of a processor.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn event(&mut self, cpu: u16, event: &Event<'_>) -> io::Result<()> {
        let large = event
            .schema()
            .is_some_and(|schema| schema.has(EventSchema::LARGE_PAYLOAD));
        self.content.extend(cpu.to_le_bytes());
        self.content.extend(event.bytes());
        self.flush_block(if large {
            block::EVENT_LARGE
        } else {
            block::EVENT_V2
        })
    }

    /// Ends the capture, and gives the stream back.
    ///
    /// # Errors
    /// See [`Writer::new`].
    pub fn finish(mut self) -> io::Result<W> {
        self.stream.flush()?;
        Ok(self.stream)
    }
}
