//! Lost events: how many there were in the last second, and what is done about it
//! (`syscall_event_drops`, as Falco's `event_drops.cpp` has it).

use rules::Priority;
use serde_json::{Map, Value as Json};

use crate::event::EventType as T;
use crate::probes::Stats;

const SECOND_NS: u64 = 1_000_000_000;

/// The rule that speaks of lost events.
pub(super) const RULE: &str = "Falco internal: syscall event drop";

/// What is done about lost events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropAction {
    /// Nothing.
    Ignore,
    /// A line in the log.
    Log,
    /// An alert.
    Alert,
    /// The end of the run.
    Exit,
}

impl DropAction {
    /// The action of a name in the configuration.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Some(match name {
            "ignore" => Self::Ignore,
            "log" => Self::Log,
            "alert" => Self::Alert,
            "exit" => Self::Exit,
            _ => return None,
        })
    }
}

/// When lost events matter, and what is done then.
#[derive(Clone, Debug, PartialEq)]
pub struct DropOptions {
    /// The share of lost events in a second that is borne, from 0 to 1.
    pub threshold: f64,
    /// What is done beyond that.
    pub actions: Vec<DropAction>,
    /// How often in a second at most.
    pub rate_per_sec: f64,
    /// How often at once at most.
    pub burst: f64,
    /// Whether losses are made up, to try it out.
    pub simulate: bool,
}

impl Default for DropOptions {
    fn default() -> Self {
        Self {
            threshold: 0.1,
            actions: vec![DropAction::Log, DropAction::Alert],
            rate_per_sec: 0.033_33,
            burst: 1.0,
            simulate: false,
        }
    }
}

/// Lost events by what they were about, as upstream groups them. `full` counts those for which a
/// ring had no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Events, lost ones among them.
    pub events: u64,
    /// Lost events.
    pub lost: u64,
    /// Lost for want of room in a ring.
    pub full: u64,
    /// Of those, ends of clone, fork and vfork.
    pub clone_fork: u64,
    /// Ends of execve and execveat.
    pub execve: u64,
    /// Ends of connect.
    pub connect: u64,
    /// Ends of open and its like.
    pub open: u64,
    /// Ends of calls on folders and files.
    pub dir_file: u64,
    /// Ends of other calls that upstream singles out.
    pub other_interest: u64,
    /// Ends of close.
    pub close: u64,
    /// Ends of processes.
    pub proc_exit: u64,
    /// Longer than an event may be.
    pub large: u64,
    /// In the midst of another event.
    pub busy: u64,
}

impl Lost {
    /// What the probes have counted.
    #[must_use]
    pub fn of(stats: &Stats) -> Self {
        let total = &stats.total;
        let mut lost = Self {
            events: total.events,
            lost: total.dropped(),
            full: total.dropped_full,
            large: total.dropped_large,
            busy: total.dropped_busy,
            ..Self::default()
        };
        for (kind, counter) in &stats.by_type {
            if let Some(group) = lost.group(*kind) {
                *group += counter.dropped_full;
            }
        }
        lost
    }

    /// The count to which a type belongs (`driver/modern_bpf/…/ringbuf.h` of upstream).
    fn group(&mut self, kind: T) -> Option<&mut u64> {
        Some(match kind {
            T::PROCEXIT_1_E => &mut self.proc_exit,
            T::CLOSE_X => &mut self.close,
            T::OPEN_X | T::CREAT_X | T::OPENAT_2_X | T::OPENAT2_X | T::OPEN_BY_HANDLE_AT_X => {
                &mut self.open
            }
            T::EXECVE_19_X | T::EXECVEAT_X => &mut self.execve,
            T::CLONE_20_X | T::CLONE3_X | T::FORK_20_X | T::VFORK_20_X => &mut self.clone_fork,
            T::CONNECT_X => &mut self.connect,
            T::BPF_2_X
            | T::SETPGID_X
            | T::PTRACE_X
            | T::SECCOMP_X
            | T::SETNS_X
            | T::UNSHARE_X
            | T::CAPSET_X
            | T::PRCTL_X
            | T::MEMFD_CREATE_X => &mut self.other_interest,
            other => match other.name()? {
                "chmod" | "fchmod" | "fchmodat" | "chown" | "lchown" | "fchown" | "fchownat"
                | "link" | "linkat" | "mkdir" | "mkdirat" | "mount" | "umount" | "umount2"
                | "rename" | "renameat" | "renameat2" | "rmdir" | "symlink" | "symlinkat"
                | "unlink" | "unlinkat" => &mut self.dir_file,
                _ => return None,
            },
        })
    }

    fn since(&self, before: &Self) -> Self {
        let less = |now: u64, before: u64| now.saturating_sub(before);
        Self {
            events: less(self.events, before.events),
            lost: less(self.lost, before.lost),
            full: less(self.full, before.full),
            clone_fork: less(self.clone_fork, before.clone_fork),
            execve: less(self.execve, before.execve),
            connect: less(self.connect, before.connect),
            open: less(self.open, before.open),
            dir_file: less(self.dir_file, before.dir_file),
            other_interest: less(self.other_interest, before.other_interest),
            close: less(self.close, before.close),
            proc_exit: less(self.proc_exit, before.proc_exit),
            large: less(self.large, before.large),
            busy: less(self.busy, before.busy),
        }
    }

    /// The fields of the alert, all texts, as Falco has them.
    fn fields(&self) -> Map<String, Json> {
        [
            ("n_evts", self.events),
            ("n_drops", self.lost),
            ("n_drops_buffer_total", self.full),
            ("n_drops_buffer_clone_fork_exit", self.clone_fork),
            ("n_drops_buffer_execve_exit", self.execve),
            ("n_drops_buffer_connect_exit", self.connect),
            ("n_drops_buffer_open_exit", self.open),
            ("n_drops_buffer_dir_file_exit", self.dir_file),
            ("n_drops_buffer_other_interest_exit", self.other_interest),
            ("n_drops_buffer_close_exit", self.close),
            ("n_drops_buffer_proc_exit", self.proc_exit),
            ("n_drops_scratch_map", self.large + self.busy),
            ("n_drops_page_faults", 0),
            ("n_drops_bug", 0),
            ("ebpf_enabled", 1),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.to_string().into()))
        .collect()
    }
}

/// An alert about lost events.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DropAlert {
    pub(super) priority: Priority,
    pub(super) text: String,
    pub(super) fields: Map<String, Json>,
}

/// What came of a look at the counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Verdict {
    pub(super) alert: Option<DropAlert>,
    pub(super) exit: bool,
}

/// Watches the counts of lost events.
#[derive(Clone, Debug)]
pub struct Drops {
    options: DropOptions,
    last: Lost,
    next_ns: u64,
    tokens: f64,
    filled_ns: u64,
    /// How often there were more losses than are borne.
    pub detected: u64,
    /// How often something was done about it.
    pub acted: u64,
}

impl Drops {
    /// Watches from what was counted so far.
    #[must_use]
    pub fn new(options: DropOptions, now: Lost) -> Self {
        Self {
            tokens: options.burst,
            options,
            last: now,
            next_ns: 0,
            filled_ns: 0,
            detected: 0,
            acted: 0,
        }
    }

    /// Whether it is time to look at the counts again.
    pub(super) fn is_due(&mut self, now_ns: u64) -> bool {
        if self.next_ns == 0 {
            self.next_ns = now_ns + SECOND_NS;
        }
        if now_ns < self.next_ns {
            return false;
        }
        self.next_ns = now_ns + SECOND_NS;
        true
    }

    /// Looks at the counts, once a second.
    pub(super) fn look(&mut self, now_ns: u64, counted: Lost) -> Verdict {
        let mut delta = counted.since(&self.last);
        self.last = counted;
        let mut threshold = self.options.threshold;
        if self.options.simulate {
            tracing::info!("Simulating syscall event drop");
            delta.lost += 1;
            threshold = 0.0;
        }
        #[allow(clippy::cast_precision_loss, reason = "a share")]
        let share = delta.lost as f64 / delta.events.max(1) as f64;
        if delta.lost == 0 || share <= threshold {
            return Verdict::default();
        }
        self.detected += 1;
        if !self.claim(now_ns) {
            tracing::debug!(
                lost = delta.lost,
                "events were lost; it was said a short while ago"
            );
            return Verdict::default();
        }
        self.acted += 1;
        let text = format!(
            "{RULE}. {} system calls dropped in last second.",
            delta.lost
        );
        let mut verdict = Verdict::default();
        for action in &self.options.actions {
            match action {
                DropAction::Ignore => {}
                DropAction::Log => tracing::warn!("{text}"),
                DropAction::Alert => {
                    verdict.alert = Some(DropAlert {
                        priority: Priority::Debug,
                        text: text.clone(),
                        fields: delta.fields(),
                    });
                }
                DropAction::Exit => {
                    tracing::error!("{text}");
                    verdict.exit = true;
                }
            }
        }
        verdict
    }

    /// Takes a token from the bucket, if there is one.
    fn claim(&mut self, now_ns: u64) -> bool {
        #[allow(clippy::cast_precision_loss, reason = "seconds")]
        let elapsed = now_ns.saturating_sub(self.filled_ns) as f64 / SECOND_NS as f64;
        self.filled_ns = now_ns;
        self.tokens = (self.tokens + elapsed * self.options.rate_per_sec).min(self.options.burst);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    /// What Falco prints of it at its end.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "Syscall event drop monitoring:\n   - event drop detected: {} occurrences\n   - num times \
             actions taken: {}\n",
            self.detected, self.acted
        )
    }
}
