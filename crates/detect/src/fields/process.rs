//! `proc` and `thread` fields.

use rules::Values;
use rules::fields::{Argument, FieldId as F};

use super::lineage::Group;
use super::{SyscallEvent, names, put};
use crate::event::EventType as T;
use crate::event::value::texts;
use crate::process::Thread;

/// What of a process is asked for, of itself or of a relative.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Name,
    Exe,
    ExePath,
    Args,
    CommandLine,
    Env,
    Pid,
}

/// Appends texts with spaces between them.
fn write_list(list: &[u8], store: &mut Vec<u8>) {
    for (place, text) in texts(list).enumerate() {
        if place > 0 {
            store.push(b' ');
        }
        store.extend_from_slice(text);
    }
}

/// Pushes a part of a process.
fn push<'a>(of: &'a Thread, part: Part, out: &mut Values<'a>) {
    match part {
        // A thread of which only the number is known.
        Part::Name | Part::Exe if of.comm.is_empty() && of.exe.is_empty() => out.text("<NA>"),
        Part::CommandLine if of.comm.is_empty() && of.exe.is_empty() => out.text("<NA>"),
        Part::Name => out.text(&*of.comm),
        Part::Exe => out.text(&*of.exe),
        Part::ExePath => out.text(&*of.executable.path),
        Part::Args => out.write(|store| write_list(&of.args, store)),
        Part::CommandLine => out.write(|store| {
            store.extend_from_slice(&of.comm);
            for text in of.arguments() {
                store.push(b' ');
                store.extend_from_slice(text);
            }
        }),
        Part::Env => out.write(|store| write_list(&of.env, store)),
        Part::Pid => out.signed(of.pid),
    }
}

/// A variable of the environment without the spaces around it; nothing if it is empty.
fn variable<'a>(of: &'a Thread, name: &str) -> Option<&'a [u8]> {
    let value = of.env_var(name.as_bytes())?;
    let is_space = |byte: &u8| *byte == b' ';
    let begin = value.iter().position(|byte| !is_space(byte))?;
    let end = value.iter().rposition(|byte| !is_space(byte))?;
    value.get(begin..=end)
}

impl SyscallEvent<'_> {
    pub(super) fn process_field<'a>(
        &'a self,
        field: F,
        argument: &Argument,
        out: &mut Values<'a>,
    ) -> bool {
        if field == F::ThreadTid {
            out.signed(self.event.tid);
            return true;
        }
        if let F::ThreadExectime | F::ThreadTotexectime = field {
            // Upstream counts switches between threads, which nobody captures any more.
            out.unsigned(0);
            return true;
        }
        let Some(thread) = self.thread else {
            return true;
        };
        self.own_field(field, argument, thread, out)
            || self.relative_field(field, argument, out)
            || self.number_field(field, thread, out)
            || self.state_field(field, argument, thread, out)
    }

    /// What the process runs.
    fn own_field<'a>(
        &'a self,
        field: F,
        argument: &Argument,
        thread: &'a Thread,
        out: &mut Values<'a>,
    ) -> bool {
        // The environment is that of the process.
        let process = self.process().unwrap_or(thread);
        match (field, argument) {
            (F::ProcName, _) => push(thread, Part::Name, out),
            (F::ProcExe, _) => push(thread, Part::Exe, out),
            (F::ProcExepath, _) => push(thread, Part::ExePath, out),
            (F::ProcCmdline, _) => push(thread, Part::CommandLine, out),
            (F::ProcArgs, Argument::Index(place)) if *place >= 0 => {
                let place = usize::try_from(*place).unwrap_or(usize::MAX);
                out.text(thread.arguments().nth(place).unwrap_or_default());
            }
            (F::ProcArgs, _) => push(thread, Part::Args, out),
            (F::ProcExeline, _) => out.write(|store| {
                store.extend_from_slice(&thread.exe);
                store.push(b' ');
                write_list(&thread.args, store);
            }),
            (F::ProcCmdnargs, _) => out.unsigned(thread.arguments().count() as u64),
            (F::ProcCmdlenargs, _) => {
                let bytes: usize = thread.arguments().map(<[u8]>::len).sum();
                out.unsigned(bytes as u64);
            }
            (F::ProcEnv, Argument::Key(name)) => {
                out.text(variable(process, name).unwrap_or_default());
            }
            (F::ProcEnv, _) => push(process, Part::Env, out),
            (F::ProcCwd, _) => out.write(|store| {
                // With a slash at its end, as upstream keeps it.
                store.extend_from_slice(&process.cwd);
                if process.cwd.last() != Some(&b'/') && !process.cwd.is_empty() {
                    store.push(b'/');
                }
            }),
            _ => return false,
        }
        true
    }

    /// What relatives run.
    fn relative_field<'a>(&'a self, field: F, argument: &Argument, out: &mut Values<'a>) -> bool {
        let parent = match field {
            F::ProcPname => Some(Part::Name),
            F::ProcPexe => Some(Part::Exe),
            F::ProcPexepath => Some(Part::ExePath),
            F::ProcPcmdline => Some(Part::CommandLine),
            F::ProcPpid => Some(Part::Pid),
            _ => None,
        };
        if let Some(part) = parent {
            if let Some(parent) = self.parent() {
                push(parent, part, out);
            }
            return true;
        }
        let ancestor = match field {
            F::ProcAname => Some(Part::Name),
            F::ProcAexe => Some(Part::Exe),
            F::ProcAexepath => Some(Part::ExePath),
            F::ProcAargs => Some(Part::Args),
            F::ProcAcmdline => Some(Part::CommandLine),
            F::ProcAenv => Some(Part::Env),
            F::ProcApid => Some(Part::Pid),
            _ => None,
        };
        if let Some(part) = ancestor {
            self.of_ancestors(part, argument, out);
            return true;
        }
        let (group, part) = match field {
            F::ProcSname => (Group::Session, Part::Name),
            F::ProcSidExe => (Group::Session, Part::Exe),
            F::ProcSidExepath => (Group::Session, Part::ExePath),
            F::ProcVpgidName => (Group::Inner, Part::Name),
            F::ProcVpgidExe => (Group::Inner, Part::Exe),
            F::ProcVpgidExepath => (Group::Inner, Part::ExePath),
            F::ProcPgidName => (Group::Outer, Part::Name),
            F::ProcPgidExe => (Group::Outer, Part::Exe),
            F::ProcPgidExepath => (Group::Outer, Part::ExePath),
            _ => return false,
        };
        match self.leader(group) {
            Some(leader) => push(leader, part, out),
            None => out.text(""),
        }
        true
    }

    fn of_ancestors<'a>(&'a self, part: Part, argument: &Argument, out: &mut Values<'a>) {
        match argument {
            Argument::Index(generations) if *generations >= 0 => {
                if let Some(ancestor) = self.ancestor(*generations) {
                    push(ancestor, part, out);
                }
            }
            Argument::Key(name) => {
                // The nearest ancestor that has the variable, at most twenty up.
                let value = self
                    .ancestors()
                    .take(20)
                    .find_map(|ancestor| variable(ancestor, name));
                out.text(value.unwrap_or_default());
            }
            // All in one, as upstream prints them.
            _ if part == Part::Args => {
                let begin = out.len();
                if self.ancestors().next().is_some() {
                    out.write(|store| {
                        for (place, ancestor) in self.ancestors().enumerate() {
                            if place > 0 {
                                store.push(b' ');
                            }
                            write_list(&ancestor.args, store);
                        }
                    });
                }
                debug_assert!(out.len() <= begin + 1);
            }
            _ => self
                .ancestors()
                .for_each(|ancestor| push(ancestor, part, out)),
        }
    }

    /// Numbers of processes, times, and what they tell.
    fn number_field(&self, field: F, thread: &Thread, out: &mut Values<'_>) -> bool {
        let now = self.event.timestamp_ns;
        let exe = &thread.executable;
        let mut known = |number: u64| {
            if number != 0 {
                out.unsigned(number);
            }
        };
        match field {
            F::ProcDuration | F::ProcPidTs => match (field, thread.clone_ns) {
                (F::ProcDuration, started) if started != 0 => known(now.saturating_sub(started)),
                (F::ProcPidTs, started) => known(started),
                _ => {}
            },
            F::ProcPpidDuration | F::ProcPpidTs => {
                let started = self.parent().map_or(0, |parent| parent.clone_ns);
                match field {
                    F::ProcPpidDuration if started != 0 => known(now.saturating_sub(started)),
                    F::ProcPpidTs => known(started),
                    _ => {}
                }
            }
            F::ProcExeIno => known(exe.ino),
            F::ProcExeInoCtime => known(exe.ctime_ns),
            F::ProcExeInoMtime => known(exe.mtime_ns),
            F::ProcExeInoCtimeDurationProcStart => {
                if exe.ctime_ns != 0 && thread.clone_ns != 0 {
                    known(thread.clone_ns.saturating_sub(exe.ctime_ns));
                }
            }
            F::ProcExeInoCtimeDurationPidnsStart => {
                // Only inside of a namespace of processes, and if it changed after that began.
                if thread.pidns_start_ns != 0 && thread.tid != thread.vtid {
                    known(exe.ctime_ns.saturating_sub(thread.pidns_start_ns));
                }
            }
            F::ProcPidnsInitStartTs => known(thread.pidns_start_ns),
            F::ProcPid => out.signed(thread.pid),
            F::ProcVpid | F::ThreadVtid => {
                let is_process = field == F::ProcVpid;
                let number = if is_process { thread.vpid } else { thread.vtid };
                if number != -1 {
                    out.signed(number);
                }
            }
            F::ProcPvpid => {
                if let Some(parent) = self.parent() {
                    out.signed(parent.vpid);
                }
            }
            F::ProcSid => out.signed(thread.sid),
            F::ProcVpgid => out.signed(thread.vpgid),
            F::ProcPgid => out.signed(thread.pgid),
            F::ProcIsSidLeader => out.boolean(thread.sid == thread.vpid),
            F::ProcIsVpgidLeader => out.boolean(thread.vpgid == thread.vpid),
            F::ProcIsPgidLeader => out.boolean(thread.pgid == thread.pid),
            F::ProcLoginshellid => {
                let shell = |of: &Thread| of.comm.ends_with(b"sh");
                let process = self.process().filter(|process| shell(process));
                let oldest = self.ancestors().filter(|ancestor| shell(ancestor)).last();
                if let Some(found) = oldest.or(process) {
                    out.signed(found.pid);
                }
            }
            F::ProcTty => out.unsigned(thread.tty.into()),
            F::ProcIsExeWritable => out.boolean(exe.writable),
            F::ProcIsExeUpperLayer => out.boolean(exe.upper_layer),
            F::ProcIsExeLowerLayer => out.boolean(exe.lower_layer),
            F::ProcIsExeFromMemfd => out.boolean(exe.from_memfd),
            F::ThreadIsmain => out.boolean(thread.is_leader()),
            _ => return false,
        }
        true
    }

    /// Memory, descriptors, capabilities, control groups.
    fn state_field<'a>(
        &'a self,
        field: F,
        argument: &Argument,
        thread: &'a Thread,
        out: &mut Values<'a>,
    ) -> bool {
        let of_leader = |kib: u32| {
            if thread.is_leader() {
                u64::from(kib)
            } else {
                0
            }
        };
        match field {
            F::ThreadCapPermitted => capabilities(thread.capabilities.permitted, out),
            F::ThreadCapInheritable => capabilities(thread.capabilities.inheritable, out),
            F::ThreadCapEffective => capabilities(thread.capabilities.effective, out),
            F::ProcFdopencount => out.unsigned(self.open_count()),
            F::ProcFdlimit => out.signed(thread.fd_limit.cast_signed()),
            F::ProcFdusage => {
                let (open, limit) = (self.open_count(), thread.fd_limit.cast_signed());
                #[allow(clippy::cast_precision_loss, reason = "a percentage")]
                let usage = match limit {
                    ..=0 => 0.0,
                    limit => (open as f64 * 100.0 / limit as f64).min(100.0),
                };
                out.double(usage);
            }
            F::ProcVmsize => out.unsigned(thread.vm_size_kib.into()),
            F::ProcVmrss => out.unsigned(thread.vm_rss_kib.into()),
            F::ProcVmswap => out.unsigned(thread.vm_swap_kib.into()),
            F::ThreadVmsize => out.unsigned(of_leader(thread.vm_size_kib)),
            F::ThreadVmrss => out.unsigned(of_leader(thread.vm_rss_kib)),
            F::ThreadVmsizeB => out.unsigned(of_leader(thread.vm_size_kib) * 1024),
            F::ThreadVmrssB => out.unsigned(of_leader(thread.vm_rss_kib) * 1024),
            F::ThreadPfmajor => out.unsigned(thread.major_faults),
            F::ThreadPfminor => out.unsigned(thread.minor_faults),
            F::ThreadNametid => out.write(|store| {
                store.extend_from_slice(&thread.comm);
                put(store, format_args!("{}", self.event.tid));
            }),
            F::ThreadCgroups => {
                if !thread.cgroups.is_empty() {
                    out.write(|store| write_list(&thread.cgroups, store));
                }
            }
            F::ThreadCgroup => {
                if let Argument::Key(name) = argument {
                    let found = thread
                        .control_groups()
                        .find(|(subsystem, _)| *subsystem == name.as_bytes());
                    super::maybe_text(found.map(|(_, path)| path), out);
                }
            }
            F::ProcNthreads | F::ProcNchilds => {
                let gone = u64::from(self.event.kind == T::PROCEXIT_1_E && thread.exited);
                let all = self
                    .table
                    .threads()
                    .filter(|other| other.pid == thread.pid)
                    .count() as u64;
                let all = all.saturating_sub(gone);
                let is_all = field == F::ProcNthreads;
                out.unsigned(if is_all { all } else { all.saturating_sub(1) });
            }
            F::ProcStdinType => self.standard_type(0, out),
            F::ProcStdoutType => self.standard_type(1, out),
            F::ProcStderrType => self.standard_type(2, out),
            F::ProcStdinName => self.standard_name(0, out),
            F::ProcStdoutName => self.standard_name(1, out),
            F::ProcStderrName => self.standard_name(2, out),
            F::ThreadCpu | F::ThreadCpuUser | F::ThreadCpuSystem => {}
            _ => return false,
        }
        true
    }

    fn open_count(&self) -> u64 {
        self.table.fds(self.event.tid).count() as u64
    }

    fn standard_type(&self, fd: i64, out: &mut Values<'_>) {
        if let Some(open) = self.table.fd(self.event.tid, fd) {
            out.text(super::socket::type_name(open));
        }
    }

    fn standard_name<'a>(&'a self, fd: i64, out: &mut Values<'a>) {
        if let Some(open) = self.table.fd(self.event.tid, fd) {
            super::fd::push_name(open, out);
        }
    }
}

fn capabilities(set: u64, out: &mut Values<'_>) {
    out.write(|store| {
        for (place, name) in names::capabilities(set).enumerate() {
            if place > 0 {
                store.push(b' ');
            }
            store.extend_from_slice(name.as_bytes());
        }
    });
}
