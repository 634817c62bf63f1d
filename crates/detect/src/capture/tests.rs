//! What was written is read; what nobody wrote is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Accounts, CaptureError, Interface, Machine, Reader, Record, Writer};
use crate::event::{Event, EventType as T, EventWriter};
use crate::process::{Anonymous, Fd, FdKind, L4, Table, Thread};

fn thread(tid: i64) -> Thread {
    let mut thread = Thread::unknown(tid);
    thread.ptid = 1;
    thread.comm = Arc::from(&b"cat"[..]);
    thread.exe = Arc::from(&b"/bin/cat"[..]);
    thread.args = Arc::from(&b"/etc/passwd\0"[..]);
    thread.env = Arc::from(&b"A=b\0"[..]);
    thread.cwd = Arc::from(&b"/root"[..]);
    thread.cgroups = Arc::from(&b"cpu=/x\0"[..]);
    thread.root = Arc::from(&b"/"[..]);
    thread.loginuid = 1000;
    thread.tty = 34817;
    thread.pgid = 7;
    let executable = Arc::make_mut(&mut thread.executable);
    executable.path = Arc::from(&b"/usr/bin/cat"[..]);
    executable.upper_layer = true;
    executable.ino = 9;
    thread
}

fn descriptors() -> Vec<Fd> {
    let text = |text: &str| Arc::from(text.as_bytes());
    let v6 = "[::1]:80".parse().unwrap();
    [
        FdKind::File {
            path: text("/etc/passwd"),
            flags: 1,
            dev: 5,
        },
        FdKind::Directory { path: text("/srv") },
        FdKind::Inet {
            l4: L4::Tcp,
            v6: false,
            source: "10.0.0.1:1000".parse().ok(),
            destination: "10.0.0.2:443".parse().ok(),
            server: false,
        },
        FdKind::Inet {
            l4: L4::Udp,
            v6: true,
            source: Some(v6),
            destination: Some(v6),
            server: false,
        },
        FdKind::InetServer {
            l4: L4::Tcp,
            address: v6,
        },
        FdKind::Unix {
            source: 1,
            destination: 2,
            path: text("/run/x"),
        },
        FdKind::Fifo(text("pipe:[3]")),
        FdKind::Other(Anonymous::Memfd, text("m")),
    ]
    .into_iter()
    .map(Fd::new)
    .collect()
}

fn opened(time_ns: u64, path: &str) -> Vec<u8> {
    EventWriter::new(T::OPENAT_2_X, time_ns, 10)
        .i64(3)
        .i64(-100)
        .text(path)
        .u32(1)
        .u32(0)
        .u32(5)
        .u64(6)
        .finish()
}

fn sample() -> Vec<u8> {
    sample_of(&descriptors())
}

fn sample_of(fds: &[Fd]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer.machine(&Machine::of_host()).unwrap();
    writer.interfaces(&Interface::of_host()).unwrap();
    let accounts = Accounts::of_files("root:x:0:0:r:/root:/bin/sh\n", "root:x:0:\n");
    writer.accounts(&accounts).unwrap();
    writer.threads([&thread(10), &thread(11)]).unwrap();
    writer.fds(10, (0..).zip(fds)).unwrap();
    for time in 0..3 {
        let bytes = opened(1_700_000_000_000_000_000 + time, "/etc/shadow");
        writer.event(1, &Event::parse(&bytes).unwrap()).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn what_was_written_is_read() {
    let bytes = sample();
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let mut events = 0;
    let mut kinds = String::new();
    while let Some(record) = reader.next_record().unwrap() {
        match record {
            Record::Machine(machine) => {
                assert_eq!(machine, Machine::of_host());
                kinds.push('m');
            }
            Record::Interfaces(interfaces) => {
                assert_eq!(interfaces.len(), Interface::of_host().len());
                kinds.push('i');
            }
            Record::Accounts(accounts) => {
                assert_eq!(accounts.users.first().unwrap().shell, "/bin/sh");
                assert_eq!(accounts.groups.len(), 1);
                kinds.push('a');
            }
            Record::Threads(threads) => {
                let threads: Vec<_> = threads.map(Result::unwrap).collect();
                assert_eq!(threads, [thread(10), thread(11)]);
                kinds.push('t');
            }
            Record::Fds(tid, fds) => {
                assert_eq!(tid, 10);
                let read: Vec<_> = fds.map(|entry| entry.unwrap().1).collect();
                assert_eq!(read, descriptors());
                kinds.push('f');
            }
            Record::Event(captured) => {
                assert_eq!(captured.cpu, 1);
                assert_eq!(captured.event.text(2), Some(&b"/etc/shadow"[..]));
                events += 1;
            }
        }
    }
    assert_eq!((kinds.as_str(), events), ("miatf", 3));
}

#[test]
fn compressed_captures_are_read() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&sample()).unwrap();
    let bytes = encoder.finish().unwrap();
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let mut count = 0;
    while reader.next_record().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 8);
}

#[test]
fn events_of_old_blocks_get_their_count() {
    let mut bytes = Writer::new(Vec::new()).unwrap().finish().unwrap();
    let event = opened(5, "/x");
    // As version 1 wrote it: without the count.
    let mut old = vec![2, 0];
    old.extend(&event[..16]);
    old.extend((u32::try_from(event.len()).unwrap() - 4).to_le_bytes());
    old.extend(&event[20..22]);
    old.extend(&event[26..]);
    old.resize(old.len().next_multiple_of(4), 0);
    let length = u32::try_from(old.len() + 12).unwrap();
    bytes.extend(0x204u32.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(&old);
    bytes.extend(length.to_le_bytes());
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let Some(Record::Event(captured)) = reader.next_record().unwrap() else {
        panic!("an event");
    };
    assert_eq!(captured.event.bytes(), event);
}

#[test]
fn what_is_cut_or_no_capture_is_said() {
    let bytes = sample();
    let mut reader = Reader::new(&bytes[..bytes.len() - 3]).unwrap();
    let error = loop {
        match reader.next_record() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it was cut"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CaptureError::Truncated { kind: 0x216 }));
    let not = Reader::new(&b"\x7fELF and so on, for a while"[..]).err();
    assert!(matches!(not, Some(CaptureError::NotACapture)));
    assert!(matches!(
        Reader::new(&b""[..]).err(),
        Some(CaptureError::NotACapture)
    ));
}

/// Sysdig, where it is there: what it prints of a file.
fn sysdig(args: &[&str]) -> Option<String> {
    match Command::new("sysdig").args(args).output() {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "sysdig {args:?}: {errors}");
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(_) => {
            println!("SKIPPED: the second opinion of sysdig: it is not installed");
            eprintln!("SKIPPED: the second opinion of sysdig: it is not installed");
            None
        }
    }
}

#[test]
fn sysdig_reads_what_we_write_and_we_what_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("a.scap"), folder.path().join("b.scap"));
    // The one that Debian has is older than descriptors of memfds.
    let fds = descriptors();
    let fds = fds.strip_suffix(&[Fd::new(FdKind::Other(
        Anonymous::Memfd,
        Arc::from(&b"m"[..]),
    ))]);
    std::fs::write(&ours, sample_of(fds.unwrap())).unwrap();
    let (ours, theirs) = (ours.to_str().unwrap(), theirs.to_str().unwrap());
    let format = "%evt.type %fd.name %proc.name %proc.cmdline %proc.exepath";
    let Some(printed) = sysdig(&["-r", ours, "-p", format]) else {
        return;
    };
    assert_eq!(
        printed.lines().next(),
        Some("openat /etc/shadow cat cat /etc/passwd /usr/bin/cat"),
        "{printed}"
    );
    sysdig(&["-r", ours, "-w", theirs, "-z"]);
    let file = std::fs::File::open(theirs).unwrap();
    let mut reader = Reader::new(file).unwrap();
    let (mut events, mut threads) = (0, 0);
    while let Some(record) = reader.next_record().unwrap() {
        match record {
            Record::Event(captured) => {
                assert_eq!(captured.event.text(2), Some(&b"/etc/shadow"[..]));
                events += 1;
            }
            Record::Threads(list) => threads += list.map(Result::unwrap).count(),
            _ => {}
        }
    }
    assert_eq!(events, 3);
    assert!(threads >= 2);
}

#[test]
fn a_scanned_table_is_written_and_read() {
    let mut table = Table::default();
    table.scan(std::path::Path::new("/proc")).unwrap();
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer.table(&table).unwrap();
    let bytes = writer.finish().unwrap();
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let mut threads = 0;
    while let Some(record) = reader.next_record().unwrap() {
        match record {
            Record::Threads(list) => threads += list.map(Result::unwrap).count(),
            Record::Fds(_, list) => list.for_each(|entry| drop(entry.unwrap())),
            _ => {}
        }
    }
    assert_eq!(threads, table.stats().threads);
}

/// Reads all there is, past errors in blocks.
fn exhaust(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else {
        return;
    };
    for _ in 0..1000 {
        match reader.next_record() {
            Ok(Some(Record::Threads(list))) => list.for_each(drop),
            Ok(Some(Record::Fds(_, list))) => list.for_each(drop),
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(_) => {}
        }
    }
}

proptest! {
    #[test]
    fn damaged_captures_are_errors(at in 0usize..4000, byte: u8, cut in 0usize..4000) {
        let mut bytes = sample();
        let place = at % bytes.len();
        bytes[place] = byte;
        exhaust(&bytes);
        bytes.truncate(cut);
        exhaust(&bytes);
    }

    #[test]
    fn blocks_of_anything_are_read_or_refused(
        blocks in prop::collection::vec(
            (prop::sample::select(vec![
                0x201u32, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x210, 0x211, 0x212,
                0x213, 0x214, 0x215, 0x216, 0x217, 0x218, 0x219, 0x220, 0x221, 0x222, 0x0A0D_0D0A,
            ]), prop::collection::vec(prop_oneof![3 => 0u8..12, 1 => any::<u8>()], 0..300)),
            0..8,
        )
    ) {
        let mut bytes = Writer::new(Vec::new()).unwrap().finish().unwrap();
        for (kind, content) in blocks {
            let length = u32::try_from(content.len() + 12).unwrap();
            bytes.extend(kind.to_le_bytes());
            bytes.extend(length.to_le_bytes());
            bytes.extend(content);
            bytes.extend(length.to_le_bytes());
        }
        exhaust(&bytes);
    }
}
