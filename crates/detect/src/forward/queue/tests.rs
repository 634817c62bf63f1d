//! The queue at the level of its files: cut, garbled, killed between any two steps.

use std::fs;
use std::path::Path;

use super::*;

fn open(directory: &Path) -> Queue {
    Queue::open(directory, 1 << 20).expect("a queue in a directory of ours")
}

fn contents(queue: &mut Queue) -> Vec<String> {
    let batch = queue.peek(usize::MAX, usize::MAX).expect("readable");
    texts(&batch)
}

fn texts(batch: &Batch) -> Vec<String> {
    batch
        .records
        .iter()
        .map(|record| String::from_utf8_lossy(record).into_owned())
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

fn names(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("alert {n}")).collect()
}

#[test]
fn what_is_not_acknowledged_comes_again_and_in_order() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut queue = open(temp.path());
    for name in names(0..10) {
        queue.push(name.as_bytes()).expect("pushed");
    }
    let batch = queue.peek(3, usize::MAX).expect("readable");
    assert_eq!(texts(&batch), names(0..3));
    assert_eq!(queue.peek(3, usize::MAX).expect("readable"), batch);
    queue.acknowledge(batch.next).expect("acknowledged");
    assert_eq!(
        texts(&queue.peek(2, usize::MAX).expect("readable")),
        names(3..5)
    );
    assert_eq!(queue.len(), 7);
    assert!(matches!(
        Queue::open(temp.path(), 1 << 20),
        Err(QueueError::InUse { .. })
    ));
    drop(queue);
    let mut queue = open(temp.path());
    assert_eq!(contents(&mut queue), names(3..10));
    queue.push(b"alert 10").expect("pushed");
    assert_eq!(contents(&mut queue), names(3..11));
    queue.acknowledge(11).expect("acknowledged");
    assert!(queue.is_empty());
    drop(queue);
    assert!(open(temp.path()).is_empty());
}

#[test]
fn a_kill_between_any_two_steps_loses_nothing_and_repeats_only_the_unacknowledged() {
    let temp = tempfile::tempdir().expect("a directory");
    let live = temp.path().join("live");
    // Segments of 4 KiB, so that steps cross files.
    let mut queue = Queue::open(&live, 32 * 1024).expect("a queue");
    let padding = "x".repeat(700);
    let (mut pushed, mut acknowledged) = (0, 0);
    for step in 0_u64..60 {
        if step % 3 == 2 {
            let batch = queue.peek(2, usize::MAX).expect("readable");
            queue.acknowledge(batch.next).expect("acknowledged");
            acknowledged = batch.next;
        } else {
            queue
                .push(format!("{pushed} {padding}").as_bytes())
                .expect("pushed");
            pushed += 1;
        }
        let killed = temp.path().join(format!("killed-{step}"));
        copy(&live, &killed);
        let mut again = Queue::open(&killed, 32 * 1024).expect("opens after a kill");
        let seen: Vec<u64> = contents(&mut again)
            .iter()
            .map(|text| {
                text.split(' ')
                    .next()
                    .expect("a number")
                    .parse()
                    .expect("a number")
            })
            .collect();
        assert_eq!(
            seen,
            (acknowledged..pushed).collect::<Vec<_>>(),
            "after step {step}"
        );
        assert_eq!(again.take_dropped(), 0);
    }
}

#[test]
fn a_segment_cut_at_any_byte_keeps_what_was_whole() {
    let temp = tempfile::tempdir().expect("a directory");
    let live = temp.path().join("live");
    let mut queue = open(&live);
    for name in names(0..4) {
        queue.push(name.as_bytes()).expect("pushed");
    }
    queue.acknowledge(1).expect("acknowledged");
    drop(queue);
    let segment = format!("{:020}.seg", 0);
    let whole = fs::read(live.join(&segment)).expect("the segment");
    let record = usize::try_from(segment::record_bytes("alert 0".len())).expect("small");
    for length in 0..=whole.len() {
        let cut = temp.path().join(format!("cut-{length}"));
        copy(&live, &cut);
        fs::write(cut.join(&segment), &whole[..length]).expect("cut");
        let mut queue = open(&cut);
        let kept = u32::try_from(length.saturating_sub(8) / record).expect("small");
        assert_eq!(
            contents(&mut queue),
            names(1..kept.max(1)),
            "cut to {length} bytes"
        );
        queue.push(b"later").expect("pushed");
        let mut wanted = names(1..kept.max(1));
        wanted.push("later".into());
        assert_eq!(contents(&mut queue), wanted, "cut to {length} bytes");
        drop(queue);
        assert_eq!(
            contents(&mut open(&cut)),
            wanted,
            "cut to {length} bytes, opened again"
        );
    }
}

#[test]
fn a_garbled_byte_anywhere_gives_no_wrong_record() {
    let temp = tempfile::tempdir().expect("a directory");
    let live = temp.path().join("live");
    let mut queue = open(&live);
    for name in names(0..4) {
        queue.push(name.as_bytes()).expect("pushed");
    }
    queue.acknowledge(1).expect("acknowledged");
    queue.acknowledge(2).expect("acknowledged");
    drop(queue);
    for file in [format!("{:020}.seg", 0), "acked".into()] {
        let whole = fs::read(live.join(&file)).expect("the file");
        for at in 0..whole.len() {
            let garbled = temp.path().join(format!("garbled-{file}-{at}"));
            copy(&live, &garbled);
            let mut bytes = whole.clone();
            bytes[at] ^= 0x81;
            fs::write(garbled.join(&file), bytes).expect("garbled");
            let seen = contents(&mut open(&garbled));
            // Of the acknowledgements one may be forgotten, never more; of the records only the
            // garbled one and those behind it.
            let last = u32::try_from(seen.len()).expect("few");
            assert!(
                seen == names(2..4) || seen == names(1..4) || seen == names(2..2 + last),
                "{file} at {at}: {seen:?}"
            );
        }
        for length in 0..whole.len() {
            let cut = temp.path().join(format!("short-{file}-{length}"));
            copy(&live, &cut);
            fs::write(cut.join(&file), &whole[..length]).expect("cut");
            for name in contents(&mut open(&cut)) {
                assert!(names(0..4).contains(&name), "{name}");
            }
        }
    }
}

#[test]
fn the_limit_drops_the_oldest_and_counts_them() {
    let temp = tempfile::tempdir().expect("a directory");
    let limit = 16 * 1024;
    let mut queue = Queue::open(temp.path(), limit).expect("a queue");
    let padding = "x".repeat(500);
    let mut dropped = 0;
    for n in 0..200 {
        queue
            .push(format!("{n} {padding}").as_bytes())
            .expect("pushed");
        let on_disk: u64 = fs::read_dir(temp.path())
            .expect("a directory")
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "seg"))
            .map(|entry| entry.metadata().expect("metadata").len())
            .sum();
        assert_eq!(on_disk, queue.bytes());
        assert!(on_disk <= limit, "{on_disk} bytes after {n}");
        dropped += queue.take_dropped();
    }
    let left = contents(&mut queue);
    assert_eq!(left.len() as u64 + dropped, 200);
    assert!(
        left[0].starts_with(&format!("{dropped} ")),
        "{}",
        &left[0][..8]
    );
    assert!(left[left.len() - 1].starts_with("199 "));
    let longest = vec![0; 20 * 1024];
    assert!(matches!(
        queue.push(&longest),
        Err(QueueError::TooLong { .. })
    ));
}

#[test]
fn what_a_reader_holds_is_not_counted_as_dropped() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut queue = Queue::open(temp.path(), 16 * 1024).expect("a queue");
    let padding = "x".repeat(500);
    let push = |queue: &mut Queue, n: u64| {
        queue
            .push(format!("{n} {padding}").as_bytes())
            .expect("pushed");
    };
    (0..5).for_each(|n| push(&mut queue, n));
    let held = queue.peek(5, usize::MAX).expect("readable");
    (5..100).for_each(|n| push(&mut queue, n));
    queue.acknowledge(held.next).expect("acknowledged");
    let dropped = queue.take_dropped();
    assert_eq!(dropped + 5 + queue.len(), 100);
    assert_eq!(contents(&mut queue).len() as u64, queue.len());
}

#[test]
fn a_segment_lost_or_spoilt_in_the_middle_is_counted_and_passed_over() {
    let temp = tempfile::tempdir().expect("a directory");
    let live = temp.path().join("live");
    let mut queue = Queue::open(&live, 64 * 1024).expect("a queue");
    let padding = "x".repeat(1000);
    for n in 0..60 {
        queue
            .push(format!("{n} {padding}").as_bytes())
            .expect("pushed");
    }
    let second = queue.segments[1].first;
    let third = queue.segments[2].first;
    let path = live.join(format!("{second:020}.seg"));
    // Spoilt while it is open.
    let mut bytes = fs::read(&path).expect("the segment");
    bytes[20] ^= 1;
    fs::write(&path, &bytes).expect("spoilt");
    assert_eq!(contents(&mut queue).len() as u64, 60 - (third - second));
    assert_eq!(queue.take_dropped(), third - second);
    drop(queue);
    let mut queue = Queue::open(&live, 64 * 1024).expect("a queue");
    assert_eq!(queue.take_dropped(), third - second);
    assert_eq!(contents(&mut queue).len() as u64, 60 - (third - second));
    drop(queue);
    fs::remove_file(&path).expect("removed");
    let mut queue = Queue::open(&live, 64 * 1024).expect("a queue");
    assert_eq!(queue.take_dropped(), third - second);
    assert_eq!(contents(&mut queue).len() as u64, 60 - (third - second));
}

#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let temp = tempfile::tempdir().expect("a directory");
    let directory = temp.path().join("queue");
    open(&directory).push(b"secret").expect("pushed");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("acked")), 0o600);
    assert_eq!(mode(&directory.join(format!("{:020}.seg", 0))), 0o600);
}
