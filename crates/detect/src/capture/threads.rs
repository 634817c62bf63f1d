//! The threads that were there when a capture began.

use std::sync::Arc;

use super::cursor::{Cursor, put_entry, put_text};
use super::{CaptureError, MOST_LIST_BYTES, MOST_PATH_BYTES};
use crate::process::{Capabilities, Executable, Thread};

/// Bytes behind the path of the root in captures before libraries 0.10, which have neither the start
/// of the namespace nor a terminal there.
const OLD_TAIL_BYTES: usize = 29;

/// The threads in a block, read one by one.
#[derive(Clone)]
pub struct ThreadList<'a> {
    block: Cursor<'a>,
    version: u8,
}

impl<'a> ThreadList<'a> {
    pub(super) fn new(block: Cursor<'a>, version: u8) -> Self {
        Self { block, version }
    }

    fn read(&mut self) -> Result<Option<Thread>, CaptureError> {
        let sized = self.version >= 9;
        let Some(mut entry) = self.block.entry(sized)? else {
            return Ok(None);
        };
        let thread = read_thread(&mut entry, self.version)?;
        if !sized {
            self.block = entry;
        }
        Ok(Some(thread))
    }
}

impl Iterator for ThreadList<'_> {
    type Item = Result<Thread, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read();
        if next.is_err() {
            self.block.left = &[];
        }
        next.transpose()
    }
}

fn read_thread(entry: &mut Cursor<'_>, version: u8) -> Result<Thread, CaptureError> {
    let mut thread = Thread::unknown(entry.i64()?);
    thread.pid = entry.i64()?;
    thread.ptid = entry.i64()?;
    thread.vtid = -1;
    thread.vpid = -1;
    if version >= 6 {
        thread.sid = entry.i64()?;
    }
    if version >= 8 {
        thread.vpgid = entry.i64()?;
    }
    thread.comm = Arc::from(entry.text()?);
    thread.exe = Arc::from(entry.text()?);
    let path = if version >= 7 { entry.text()? } else { &[] };
    thread.args = Arc::from(ended(entry.text()?));
    thread.cwd = Arc::from(entry.text()?);
    thread.fd_limit = entry.u64()?;
    thread.flags = entry.u32()?;
    thread.uid = entry.u32()?;
    thread.gid = entry.u32()?;
    if version >= 2 {
        thread.vm_size_kib = entry.u32()?;
        thread.vm_rss_kib = entry.u32()?;
        thread.vm_swap_kib = entry.u32()?;
        thread.major_faults = entry.u64()?;
        thread.minor_faults = entry.u64()?;
    }
    if version >= 3 {
        thread.env = Arc::from(ended(entry.text()?));
    }
    if version >= 4 {
        thread.vtid = entry.i64()?;
        thread.vpid = entry.i64()?;
        thread.cgroups = Arc::from(entry.text()?);
    }
    if version >= 5 {
        thread.root = Arc::from(entry.text()?);
    }
    let mut executable = Executable {
        path: Arc::from(path),
        ..Executable::default()
    };
    if version >= 9 {
        read_tail(entry, &mut thread, &mut executable);
    }
    thread.executable = Arc::new(executable);
    Ok(thread)
}

/// What was added later: as much of it as is there.
fn read_tail(entry: &mut Cursor<'_>, thread: &mut Thread, executable: &mut Executable) {
    let mut tail = || -> Result<(), CaptureError> {
        if entry.left.len() > OLD_TAIL_BYTES {
            thread.pidns_start_ns = entry.u64()?;
            thread.tty = entry.u32()?;
        }
        thread.loginuid = entry.u32()?;
        executable.writable = entry.u8()? != 0;
        thread.capabilities = Capabilities {
            inheritable: entry.u64()?,
            permitted: entry.u64()?,
            effective: entry.u64()?,
        };
        executable.upper_layer = entry.u8()? != 0;
        executable.ino = entry.u64()?;
        executable.ctime_ns = entry.u64()?;
        executable.mtime_ns = entry.u64()?;
        executable.from_memfd = entry.u8()? != 0;
        executable.lower_layer = entry.u8()? != 0;
        thread.pgid = entry.i64()?;
        Ok(())
    };
    // An older writer ends earlier; what it has not keeps what it was.
    let _ = tail();
}

/// A list with the zero byte at its end that some writers leave out.
fn ended(list: &[u8]) -> Vec<u8> {
    let mut list = list.to_vec();
    if list.last().is_some_and(|last| *last != 0) {
        list.push(0);
    }
    list
}

pub(super) fn write(thread: &Thread, out: &mut Vec<u8>) {
    put_entry(out, |out| {
        for id in [
            thread.tid,
            thread.pid,
            thread.ptid,
            thread.sid,
            thread.vpgid,
        ] {
            out.extend(id.to_le_bytes());
        }
        put_text(out, &thread.comm, MOST_PATH_BYTES);
        put_text(out, &thread.exe, MOST_PATH_BYTES);
        put_text(out, &thread.executable.path, MOST_PATH_BYTES);
        put_text(out, &thread.args, MOST_LIST_BYTES);
        put_text(out, &thread.cwd, MOST_PATH_BYTES);
        out.extend(thread.fd_limit.to_le_bytes());
        for word in [
            thread.flags,
            thread.uid,
            thread.gid,
            thread.vm_size_kib,
            thread.vm_rss_kib,
            thread.vm_swap_kib,
        ] {
            out.extend(word.to_le_bytes());
        }
        out.extend(thread.major_faults.to_le_bytes());
        out.extend(thread.minor_faults.to_le_bytes());
        put_text(out, &thread.env, MOST_LIST_BYTES);
        out.extend(thread.vtid.to_le_bytes());
        out.extend(thread.vpid.to_le_bytes());
        put_text(out, &thread.cgroups, MOST_LIST_BYTES);
        put_text(out, &thread.root, MOST_PATH_BYTES);
        write_tail(thread, out);
    });
}

fn write_tail(thread: &Thread, out: &mut Vec<u8>) {
    let executable = &thread.executable;
    out.extend(thread.pidns_start_ns.to_le_bytes());
    out.extend(thread.tty.to_le_bytes());
    out.extend(thread.loginuid.to_le_bytes());
    out.push(u8::from(executable.writable));
    out.extend(thread.capabilities.inheritable.to_le_bytes());
    out.extend(thread.capabilities.permitted.to_le_bytes());
    out.extend(thread.capabilities.effective.to_le_bytes());
    out.push(u8::from(executable.upper_layer));
    out.extend(executable.ino.to_le_bytes());
    out.extend(executable.ctime_ns.to_le_bytes());
    out.extend(executable.mtime_ns.to_le_bytes());
    out.push(u8::from(executable.from_memfd));
    out.push(u8::from(executable.lower_layer));
    out.extend(thread.pgid.to_le_bytes());
}
