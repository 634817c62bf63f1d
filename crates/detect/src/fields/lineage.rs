//! Who made a process: its ancestors, and the leaders of its session and of its group.

use super::SyscallEvent;
use crate::process::{Table, Thread};

/// Generations that an ancestry goes back.
const MOST_ANCESTORS: usize = 64;

/// The ancestors of a process, nearest first. Unlike the table's own walk it allocates nothing.
#[derive(Clone)]
pub(super) struct Ancestors<'e> {
    table: &'e Table,
    last: Option<&'e Thread>,
    count: usize,
    /// An ancestor that was seen, against which later ones are held: ancestries of a hostile stream
    /// may be circles.
    mark: i64,
}

impl<'e> Iterator for Ancestors<'e> {
    type Item = &'e Thread;

    fn next(&mut self) -> Option<&'e Thread> {
        let last = self.last.take()?;
        if self.count >= MOST_ANCESTORS {
            return None;
        }
        let parent = self.table.parent(last.tid)?;
        self.count += 1;
        if parent.pid == self.mark {
            return None;
        }
        if self.count.is_power_of_two() {
            self.mark = parent.pid;
        }
        self.last = Some(parent);
        Some(parent)
    }
}

/// Which group of processes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Session,
    /// The process group, in the numbers of the process's own namespace.
    Inner,
    /// The process group, in the numbers of the host.
    Outer,
}

impl Group {
    pub(super) fn of(self, thread: &Thread) -> i64 {
        match self {
            Self::Session => thread.sid,
            Self::Inner => thread.vpgid,
            Self::Outer => thread.pgid,
        }
    }
}

impl<'e> SyscallEvent<'e> {
    /// The ancestors of the process, nearest first.
    pub(super) fn ancestors(&self) -> Ancestors<'e> {
        let process = self.process();
        Ancestors {
            table: self.table,
            last: process,
            count: 0,
            mark: process.map_or(-1, |process| process.pid),
        }
    }

    /// The ancestor so many generations up; the process itself for 0.
    pub(super) fn ancestor(&self, generations: i64) -> Option<&'e Thread> {
        match usize::try_from(generations).ok()? {
            0 => self.process(),
            above => self.ancestors().nth(above - 1),
        }
    }

    /// The process that made this one.
    pub(super) fn parent(&self) -> Option<&'e Thread> {
        self.table.parent(self.event.tid)
    }

    /// The leader of a group: the process of its number, or else the oldest ancestor in it.
    pub(super) fn leader(&self, group: Group) -> Option<&'e Thread> {
        let thread = self.thread?;
        let number = group.of(thread);
        if number == -1 {
            return None;
        }
        // Numbers of another namespace say nothing here.
        let inside = thread.tid != thread.vtid || thread.pid != thread.vpid;
        if (group == Group::Outer || !inside)
            && let Some(leader) = self.table.thread(number)
        {
            return Some(leader);
        }
        self.ancestors()
            .take_while(|ancestor| group.of(ancestor) == number)
            .last()
    }
}
