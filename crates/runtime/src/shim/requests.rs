//! What clients can ask of a shim.
//!
//! Invariant: every request is checked before anything is touched; a refusal says what was wrong.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::errno::Errno;

use super::container::Container;
use super::create::{self, Create, host};
use super::exec;
use super::helper;
use super::log::Log;
use super::server::{Job, JobKind, Server};
use super::streams::{Output, pipe, set_nonblocking};
use crate::error::Refusal;
use crate::spec::{ContainerSpec, Exec};
use crate::state::{ContainerState, Started, State, Usage, now_ns};
use crate::wire::{Refused, Reply, Streams};

/// The three ends that a process gets, and those that stay here.
struct Pipes {
    process: [OwnedFd; 3],
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

fn pipes(stdin: bool, stdout: bool, stderr: bool) -> io::Result<Pipes> {
    let null = || {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map(OwnedFd::from)
    };
    let out = |on: bool| -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        if on {
            let (reader, writer) = pipe()?;
            set_nonblocking(&reader)?;
            Ok((writer, Some(reader)))
        } else {
            Ok((null()?, None))
        }
    };
    let (input, ours_in) = if stdin {
        let (reader, writer) = pipe()?;
        (reader, Some(writer))
    } else {
        (null()?, None)
    };
    let (output, ours_out) = out(stdout)?;
    let (error, ours_err) = out(stderr)?;
    Ok(Pipes {
        process: [input, output, error],
        stdin: ours_in,
        stdout: ours_out,
        stderr: ours_err,
    })
}

fn valid_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !id.is_empty() && id.len() <= 255 && !id.starts_with('.') && id.chars().all(plain)
}

impl Server {
    fn container(&mut self, id: &str) -> Result<&mut Container, Refused> {
        let found = self.containers.iter_mut().find(|c| c.state.id == id);
        found.ok_or_else(|| Refused::new(Refusal::NotFound, format!("container {id:?} not found")))
    }

    /// Begins to make and start a container; the answer comes with the helper's report.
    pub(crate) fn start(
        &mut self,
        connection: u64,
        number: u64,
        spec: ContainerSpec,
    ) -> Result<(), Refused> {
        const RESERVED: &[&str] = &["shm", "pause", "shims"];
        if !valid_id(&spec.id) || RESERVED.contains(&spec.id.as_str()) {
            return Err(Refused::new(
                Refusal::Invalid,
                format!("{:?} is not a container id", spec.id),
            ));
        }
        let making = |job: &Job| matches!(&job.kind, JobKind::Start(c) if c.state.id == spec.id);
        if self.containers.iter().any(|c| c.state.id == spec.id) || self.jobs.iter().any(making) {
            return Err(Refused::new(
                Refusal::Exists,
                format!("container {:?} exists", spec.id),
            ));
        }
        let cgroup = self.sandbox.cgroup.child(&spec.id).map_err(host)?;
        let log = match &spec.log_path {
            Some(path) => {
                Some(Log::open(path, spec.log_max_bytes, spec.log_max_files).map_err(host)?)
            }
            None => None,
        };
        let dir = self.sandbox.dir.join(&spec.id);
        fs::create_dir(&dir).map_err(host)?;
        let mut container = Container {
            state: ContainerState {
                id: spec.id.clone(),
                name: spec.name.clone(),
                attempt: spec.attempt,
                state: State::Created,
            },
            dir,
            cgroup,
            outputs: Vec::new(),
            log,
            stdin: None,
            terminal: None,
            stdin_once: spec.stdin_once,
            wants_stdin: spec.stdin,
            shares_pids: self.sandbox.spec.host_pid
                || self.sandbox.spec.share_process_namespace
                || spec.processes_of.is_some(),
        };
        let helper = self.spawn_create(&spec, &mut container).inspect_err(|_| {
            let _ = fs::remove_dir_all(&container.dir);
        })?;
        let kind = JobKind::Start(Box::new(container));
        self.jobs.push(Job {
            helper,
            connection,
            number,
            kind,
        });
        Ok(())
    }

    fn spawn_create(
        &self,
        spec: &ContainerSpec,
        container: &mut Container,
    ) -> Result<helper::Helper, Refused> {
        let path = container.dir.join(exec::SPEC_FILE);
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        file.and_then(|mut f| f.write_all(&serde_json::to_vec(spec)?))
            .map_err(host)?;
        let mut stdio = None;
        if !spec.tty {
            let made = pipes(spec.stdin, true, true).map_err(host)?;
            stdio = Some(made.process);
            container.stdin = made.stdin;
            let streams = [("stdout", made.stdout), ("stderr", made.stderr)];
            container.outputs.extend(
                streams
                    .into_iter()
                    .filter_map(|(n, fd)| Some(Output::new(n, fd?))),
            );
        }
        let keep = stdio.iter().flatten().map(AsRawFd::as_raw_fd).collect();
        let job = Create {
            sandbox: &self.sandbox.spec,
            spec,
            dir: &container.dir,
            shm: self.sandbox.shm(),
            pid_namespace: self
                .first_process(spec)?
                .map(|pid| format!("/proc/{pid}/ns/pid").into()),
            cgroup: &container.cgroup,
            hostname: self.sandbox.hostname(),
            stdio,
        };
        helper::spawn(keep, move || create::create(job)).map_err(host)
    }

    /// The process that began the namespace which a container is to share, if it is to share one.
    fn first_process(&self, spec: &ContainerSpec) -> Result<Option<u32>, Refused> {
        let (Some(name), false) = (&spec.processes_of, self.sandbox.spec.host_pid) else {
            return Ok(self.sandbox.pause);
        };
        if self.sandbox.pause.is_some() {
            return Ok(self.sandbox.pause);
        }
        let running = self
            .containers
            .iter()
            .rev()
            .find_map(|c| match c.state.state {
                State::Running { pid, .. } if c.state.name == *name => Some(pid),
                _ => None,
            });
        running.map(Some).ok_or_else(|| {
            let problem = format!("unable to find target container {name:?}: it is not running");
            Refused::new(Refusal::State, problem)
        })
    }

    /// A helper has started the container.
    pub(crate) fn started(
        &mut self,
        connection: u64,
        number: u64,
        mut container: Container,
        pid: u32,
        terminal: Option<OwnedFd>,
    ) {
        if let Some(master) = terminal {
            let reader =
                set_nonblocking(&master).and_then(|()| master.as_fd().try_clone_to_owned());
            match reader {
                Ok(reader) => container.outputs.push(Output::new("stdout", reader)),
                Err(error) => eprintln!("no output of {}: {error}", container.state.id),
            }
            container.terminal = Some(master);
        }
        let started_at_ns = now_ns();
        container.become_state(State::Running { pid, started_at_ns });
        let state = container.state.clone();
        self.containers.push(container);
        self.announce(&state);
        self.reply(
            connection,
            number,
            Ok(Reply::Started(Started { pid, started_at_ns })),
            vec![],
        );
    }

    pub(crate) fn signal(&mut self, id: &str, signal: i32) -> Result<(), Refused> {
        let Some(pid) = self.container(id)?.pid() else {
            return Ok(());
        }; // ended: nothing to do
        send_signal(pid, signal)
    }

    pub(crate) fn signal_exec(
        &mut self,
        connection: u64,
        exec: u32,
        signal: i32,
    ) -> Result<(), Refused> {
        match self
            .execs
            .iter()
            .find(|e| e.pid == exec && e.connection == connection)
        {
            Some(process) => send_signal(process.pid, signal),
            None => Ok(()),
        }
    }

    pub(crate) fn remove(&mut self, id: &str) -> Result<(), Refused> {
        let container = match self.container(id) {
            Ok(container) => container,
            Err(_) => return Ok(()), // removed before
        };
        if container.pid().is_some() {
            return Err(Refused::new(
                Refusal::State,
                format!("container {id:?} is running"),
            ));
        }
        container.remove().map_err(host)?;
        self.containers.retain(|c| c.state.id != id);
        self.generation += 1;
        Ok(())
    }

    pub(crate) fn stats(&mut self, id: Option<&str>) -> Result<Usage, Refused> {
        let cgroup = match id {
            None => &self.sandbox.cgroup,
            Some(id) => &self.container(id)?.cgroup,
        };
        Ok(cgroup.stats().into())
    }

    pub(crate) fn reopen_log(&mut self, id: &str) -> Result<(), Refused> {
        match &mut self.container(id)?.log {
            Some(log) => log.reopen().map_err(host),
            None => Ok(()),
        }
    }

    /// Begins to run a process in a container; the answer comes with the helper's report.
    pub(crate) fn exec(
        &mut self,
        connection: u64,
        number: u64,
        id: &str,
        exec: &Exec,
    ) -> Result<(), Refused> {
        let hostname = self.sandbox.hostname();
        let container = self.container(id)?;
        let Some(init) = container.pid() else {
            return Err(Refused::new(
                Refusal::State,
                format!("container {id:?} is not running"),
            ));
        };
        let mut streams = Streams::default();
        let mut fds = Vec::new();
        let mut stdio = None;
        if !exec.tty {
            let made = pipes(exec.stdin, exec.stdout, exec.stderr).map_err(host)?;
            stdio = Some(made.process);
            streams.stdin = made.stdin.is_some();
            streams.stdout = made.stdout.is_some();
            streams.stderr = made.stderr.is_some();
            fds.extend([made.stdin, made.stdout, made.stderr].into_iter().flatten());
        }
        let keep = stdio.iter().flatten().map(AsRawFd::as_raw_fd).collect();
        let job = exec::Job {
            exec,
            dir: &container.dir,
            init,
            cgroup: &container.cgroup,
            hostname,
            stdio,
        };
        let helper = helper::spawn(keep, move || exec::exec(job)).map_err(host)?;
        let kind = JobKind::Exec {
            fds,
            streams,
            kill_on_disconnect: exec.kill_on_disconnect,
        };
        self.jobs.push(Job {
            helper,
            connection,
            number,
            kind,
        });
        Ok(())
    }

    /// Connects a client to a running container's streams.
    pub(crate) fn attach(
        &mut self,
        id: &str,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> Result<(Streams, Vec<OwnedFd>), Refused> {
        let container = self.container(id)?;
        if container.pid().is_none() {
            return Err(Refused::new(
                Refusal::State,
                format!("container {id:?} is not running"),
            ));
        }
        let mut streams = Streams::default();
        let mut fds = Vec::new();
        if stdin && let Some(fd) = container.take_stdin().map_err(host)? {
            streams.stdin = true;
            fds.push(fd);
        }
        for (wanted, number) in [(stdout, 0), (stderr, 1)] {
            let Some(output) = container.outputs.get_mut(number).filter(|_| wanted) else {
                continue;
            };
            let (reader, writer) = pipe().map_err(host)?;
            set_nonblocking(&writer).map_err(host)?;
            output.attach(writer);
            fds.push(reader);
            if number == 0 {
                streams.stdout = true;
            } else {
                streams.stderr = true;
            }
        }
        if let Some(terminal) = &container.terminal {
            streams.terminal = true;
            fds.push(terminal.as_fd().try_clone_to_owned().map_err(host)?);
        }
        Ok((streams, fds))
    }
}

fn send_signal(pid: u32, signal: i32) -> Result<(), Refused> {
    // SAFETY: kill takes integers; the process is our child and not yet reaped, so the pid is its own.
    match Errno::result(unsafe { libc::kill(pid.cast_signed(), signal) }) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(Errno::EINVAL) => Err(Refused::new(
            Refusal::Invalid,
            format!("no signal has the number {signal}"),
        )),
        Err(errno) => Err(host(errno)),
    }
}
