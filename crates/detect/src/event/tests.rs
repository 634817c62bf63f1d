//! Events as they come from probes and files, and as nobody should send them.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::schema::{EventSchema, EventType, Format, Kind, More};
use super::{Event, EventSet, EventWriter, SockAddr, SockTuple, Value, syscall};

fn openat() -> Vec<u8> {
    EventWriter::new(EventType::OPENAT_2_X, 1_700_000_000_000_000_000, 4321)
        .i64(3)
        .i64(-100)
        .text("/etc/shadow")
        .u32(4097)
        .u32(0)
        .u32(0x801)
        .u64(77)
        .finish()
}

#[test]
fn parameters_are_found_by_place_and_by_name() {
    let bytes = openat();
    let event = Event::parse(&bytes).unwrap();
    assert_eq!(event.kind.name(), Some("openat"));
    assert_eq!((event.tid, event.len()), (4321, 7));
    assert_eq!(event.result(), Some(3));
    assert_eq!(event.named("dirfd").unwrap().int(), Some(-100));
    assert_eq!(event.text(2), Some(&b"/etc/shadow"[..]));
    let flags = event.named("flags").unwrap();
    let More::Flags(table) = &flags.schema.more else {
        panic!("flags have a table");
    };
    let names: Vec<_> = table.names(4097).collect();
    assert_eq!(names, ["O_RDONLY", "O_CLOEXEC"]);
    assert_eq!(event.named("ino").unwrap().value(), Value::Uint(77));
    assert!(event.param(7).is_none() && event.named("nope").is_none());
}

#[test]
fn an_older_event_with_fewer_parameters_is_read() {
    let bytes = EventWriter::new(EventType::OPENAT_2_X, 1, 1)
        .i64(3)
        .finish();
    let event = Event::parse(&bytes).unwrap();
    assert_eq!(event.len(), 1);
    assert!(event.named("name").is_none());
}

#[test]
fn addresses_and_tuples_are_read() {
    let mut tuple = vec![2, 127, 0, 0, 1];
    tuple.extend(40000u16.to_le_bytes());
    tuple.extend([10, 0, 0, 7]);
    tuple.extend(443u16.to_le_bytes());
    let bytes = EventWriter::new(EventType::CONNECT_X, 1, 1)
        .i64(0)
        .bytes(&tuple)
        .i64(5)
        .bytes(b"\x01/run/x.sock\0")
        .finish();
    let event = Event::parse(&bytes).unwrap();
    assert_eq!(
        event.named("tuple").unwrap().value(),
        Value::SockTuple(SockTuple::Inet {
            source: "127.0.0.1:40000".parse().unwrap(),
            destination: "10.0.0.7:443".parse().unwrap(),
        })
    );
    assert_eq!(
        event.named("addr").unwrap().value(),
        Value::SockAddr(SockAddr::Unix(b"/run/x.sock"))
    );
}

#[test]
fn bits_are_named_once_and_a_whole_value_ends_the_list() {
    let schema = EventType::OPENAT_2_X.schema().unwrap();
    let More::Flags(table) = &schema.params[3].more else {
        panic!("flags have a table");
    };
    let names = |value| table.names(value).collect::<Vec<_>>();
    assert_eq!(names(3), ["O_RDWR"]);
    assert_eq!(names(0), ["O_NONE"]);
    assert_eq!(names(0x102), ["O_TRUNC", "O_WRONLY"]);
}

#[test]
fn the_tables_agree_with_each_other() {
    for call in syscall::all() {
        assert_eq!(syscall::by_number(call.number), Some(call));
        assert!(
            call.exit.is_exit() && call.exit.schema().is_some(),
            "{call:?}"
        );
    }
    for kind in EventType::all() {
        let schema = kind.schema().unwrap();
        for (place, param) in schema.params.iter().enumerate() {
            if let More::DirFd(dirfd) = param.more {
                let dirfd = &schema.params[usize::from(dirfd)];
                let of_fd = matches!(dirfd.kind, Kind::Fd);
                assert!(of_fd, "{} {place}: {}", schema.name, dirfd.name);
            }
            assert!(param.format != Format::Id);
        }
    }
    assert_eq!(
        syscall::by_name("openat").unwrap().exit,
        EventType::OPENAT_2_X
    );
    assert_eq!(syscall::code_name(322), Some("openat2"));
    assert!(
        EventType::EXECVE_19_X
            .schema()
            .unwrap()
            .has(EventSchema::MODIFIES_STATE)
    );
}

#[test]
fn a_set_holds_what_was_put_in() {
    let mut set = EventSet::new();
    assert!(set.insert_named("execve") && !set.insert_named("no such call"));
    set.insert(EventType(u16::MAX));
    assert!(set.contains(EventType::EXECVE_19_X) && !set.contains(EventType(u16::MAX)));
    set.remove(EventType::EXECVE_19_X);
    assert!(!set.contains(EventType::EXECVE_19_X) && !set.is_empty());
    assert_eq!(EventSet::all().iter().count(), EventType::COUNT);
}

fn look_at_everything(bytes: &[u8]) {
    let Ok(event) = Event::parse(bytes) else {
        return;
    };
    let _ = event.result();
    for param in event.params() {
        match param.value() {
            Value::Texts(list) => assert!(super::value::texts(list).count() <= list.len()),
            Value::Descriptors(list) => {
                assert!(super::value::descriptors(list).count() <= list.len());
            }
            _ => {}
        }
        let _ = (param.int(), param.text(), param.texts().count());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        look_at_everything(&bytes);
    }

    #[test]
    fn any_parameters_of_any_type_are_read(
        kind in 0u16..500,
        params in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..34),
        cut in 0usize..60,
    ) {
        let mut writer = EventWriter::new(EventType(kind), 0, 0);
        for param in &params {
            writer = writer.bytes(param);
        }
        let mut bytes = writer.finish();
        look_at_everything(&bytes);
        bytes.truncate(bytes.len().saturating_sub(cut));
        look_at_everything(&bytes);
        if let Some(first) = bytes.get_mut(16) {
            *first = first.wrapping_sub(u8::try_from(cut).unwrap_or(0));
            look_at_everything(&bytes);
        }
    }
}
