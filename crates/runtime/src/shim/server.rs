//! The shim's event loop: signals, clients, helpers, outputs.
//!
//! Invariant: one pass of the loop does a bounded amount of work for each source that is ready.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::container::Container;
use super::helper::{Helper, Report};
use super::sandbox::Sandbox;
use crate::state::ContainerState;
use crate::wire::{Call, Inbox, Message, Outbox, Refused, Reply, Request, Streams};

/// One client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    socket: OwnedFd,
    inbox: Inbox,
    outbox: Outbox,
    broken: bool,
}

/// A helper at work, and for whom.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) helper: Helper,
    pub(crate) connection: u64,
    pub(crate) number: u64,
    pub(crate) kind: JobKind,
}

/// What a helper does.
#[derive(Debug)]
pub(crate) enum JobKind {
    /// The container is recorded when it runs.
    Start(Box<Container>),
    /// Client's ends of the process's streams.
    Exec {
        fds: Vec<OwnedFd>,
        streams: Streams,
        kill_on_disconnect: bool,
    },
}

/// A process that was exec'ed.
#[derive(Debug)]
pub(crate) struct ExecProcess {
    pub(crate) pid: u32,
    pub(crate) connection: u64,
    kill_on_disconnect: bool,
}

/// The whole state of a shim.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) sandbox: Sandbox,
    listener: UnixListener,
    signals: SignalFd,
    pub(crate) connections: Vec<Connection>,
    next_connection: u64,
    pub(crate) containers: Vec<Container>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) execs: Vec<ExecProcess>,
    scratch: Vec<u8>,
    /// Counts removals of containers.
    pub(crate) generation: u64,
    /// Who asked to shut down.
    pub(crate) closing: Option<(u64, u64)>,
}

/// What a descriptor in the poll set stands for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Connection(u64),
    Job,
    Output(usize, usize),
    Behind(usize, usize),
}

impl Server {
    pub(crate) fn new(sandbox: Sandbox, listener: UnixListener, signals: SignalFd) -> Server {
        Server {
            sandbox,
            listener,
            signals,
            connections: Vec::new(),
            next_connection: 0,
            containers: Vec::new(),
            jobs: Vec::new(),
            execs: Vec::new(),
            scratch: vec![0; super::log::MAX_LINE],
            generation: 0,
            closing: None,
        }
    }

    /// Serves until the sandbox is shut down.
    pub(crate) fn run(mut self) -> ExitCode {
        loop {
            let generation = self.generation;
            for source in self.wait() {
                match source {
                    Source::Signals => self.on_signals(),
                    Source::Listener => self.on_listener(),
                    Source::Connection(id) => self.on_connection(id),
                    Source::Output(container, output) => {
                        self.containers[container].pump(output, &mut self.scratch);
                    }
                    Source::Behind(container, output) => {
                        self.containers[container].outputs[output].catch_up()
                    }
                    Source::Job => {}
                }
                if self.generation != generation {
                    break; // a container was removed: the other sources' numbers are stale
                }
            }
            self.finish_jobs();
            self.drop_broken();
            if let Some((connection, number)) = self.closing {
                return self.close(connection, number);
            }
        }
    }

    /// Sources that are ready.
    fn wait(&self) -> Vec<Source> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut add = |fd: BorrowedFd<'_>, flags: PollFlags, source: Source| {
            // SAFETY: the descriptor is owned by a field of `self`, borrowed for as long as `fds` lives.
            let fd = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
            fds.push(PollFd::new(fd, flags));
            sources.push(source);
        };
        for connection in &self.connections {
            let mut flags = PollFlags::POLLIN;
            if !connection.outbox.is_empty() {
                flags |= PollFlags::POLLOUT;
            }
            add(
                connection.socket.as_fd(),
                flags,
                Source::Connection(connection.id),
            );
        }
        for job in &self.jobs {
            add(job.helper.socket.as_fd(), PollFlags::POLLIN, Source::Job);
        }
        for (at, container) in self.containers.iter().enumerate() {
            for (number, output) in container.outputs.iter().enumerate() {
                if let Some(fd) = output.readable() {
                    add(fd, PollFlags::POLLIN, Source::Output(at, number));
                }
                for fd in output.behind() {
                    add(fd, PollFlags::POLLOUT, Source::Behind(at, number));
                }
            }
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => eprintln!("poll: {errno}"),
        }
        let ready = fds
            .iter()
            .zip(sources)
            .filter(|(fd, _)| fd.revents().is_some_and(|r| !r.is_empty()));
        ready.map(|(_, source)| source).collect()
    }

    fn on_listener(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let socket = OwnedFd::from(stream);
            let peer =
                nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials);
            if peer.is_ok_and(|p| p.uid() == nix::unistd::geteuid().as_raw()) {
                self.next_connection += 1;
                let id = self.next_connection;
                let (inbox, outbox) = (Inbox::default(), Outbox::default());
                self.connections.push(Connection {
                    id,
                    socket,
                    inbox,
                    outbox,
                    broken: false,
                });
            }
        }
    }

    fn on_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else {
            return;
        };
        connection.flush();
        let mut calls: Vec<Call> = Vec::new();
        loop {
            match connection.inbox.fill(connection.socket.as_fd()) {
                Ok(true) => {}
                Ok(false) => {
                    connection.broken = true;
                    break;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    connection.broken = true;
                    break;
                }
            }
            loop {
                match connection.inbox.next() {
                    Ok(Some(call)) => calls.push(call),
                    Ok(None) => break,
                    Err(_) => {
                        connection.broken = true;
                        break;
                    }
                }
            }
        }
        for call in calls {
            self.on_call(id, call);
        }
    }

    fn on_call(&mut self, connection: u64, call: Call) {
        let number = call.number;
        let answer = match call.request {
            Request::Hello => Ok(Some((
                Reply::Hello {
                    pid: std::process::id(),
                },
                vec![],
            ))),
            Request::States => Ok(Some((Reply::States(self.states()), vec![]))),
            Request::Start(spec) => self.start(connection, number, *spec).map(|()| None),
            Request::Signal { id, signal } => self
                .signal(&id, signal)
                .map(|()| Some((Reply::Done, vec![]))),
            Request::Remove { id } => self.remove(&id).map(|()| Some((Reply::Done, vec![]))),
            Request::Stats { id } => self
                .stats(id.as_deref())
                .map(|u| Some((Reply::Usage(u), vec![]))),
            Request::Exec { id, exec } => self.exec(connection, number, &id, &exec).map(|()| None),
            Request::SignalExec { exec, signal } => self
                .signal_exec(connection, exec, signal)
                .map(|()| Some((Reply::Done, vec![]))),
            Request::Attach {
                id,
                stdin,
                stdout,
                stderr,
            } => self
                .attach(&id, stdin, stdout, stderr)
                .map(|(streams, fds)| Some((Reply::Streams(streams), fds))),
            Request::ReopenLog { id } => self.reopen_log(&id).map(|()| Some((Reply::Done, vec![]))),
            Request::Shutdown => {
                self.closing = Some((connection, number));
                Ok(None)
            }
        };
        match answer {
            Ok(None) => {}
            Ok(Some((reply, fds))) => self.reply(connection, number, Ok(reply), fds),
            Err(refused) => self.reply(connection, number, Err(refused), vec![]),
        }
    }

    fn states(&self) -> Vec<ContainerState> {
        self.containers.iter().map(|c| c.state.clone()).collect()
    }

    pub(crate) fn reply(
        &mut self,
        to: u64,
        number: u64,
        result: Result<Reply, Refused>,
        fds: Vec<OwnedFd>,
    ) {
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == to) {
            connection.send(&Message::Reply { number, result }, fds);
        }
    }

    /// Tells every client of a container's new state.
    pub(crate) fn announce(&mut self, state: &ContainerState) {
        for connection in &mut self.connections {
            connection.send(&Message::Changed(state.clone()), vec![]);
        }
    }

    fn on_signals(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, 128 + signal as i32, Some(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                Err(Errno::EINTR) => continue,
                Ok(_) => continue,
                Err(errno) => {
                    eprintln!("waitpid: {errno}");
                    break;
                }
            };
            // Whoever is told of a process is told first that it runs.
            self.finish_jobs();
            self.on_end(pid.as_raw().cast_unsigned(), code, signal);
        }
    }

    fn on_end(&mut self, pid: u32, code: i32, signal: Option<i32>) {
        if let Some(container) = self.containers.iter_mut().find(|c| c.pid() == Some(pid)) {
            container.ended(code, signal, &mut self.scratch);
            let state = container.state.clone();
            self.announce(&state);
        } else if let Some(at) = self.execs.iter().position(|e| e.pid == pid) {
            let exec = self.execs.swap_remove(at);
            if let Some(connection) = self
                .connections
                .iter_mut()
                .find(|c| c.id == exec.connection)
            {
                connection.send(&Message::ExecEnded { exec: pid, code }, vec![]);
            }
        } else if self.sandbox.pause == Some(pid) {
            eprintln!("process 1 of the pod's process namespace has ended");
            self.sandbox.pause = None;
        }
    }

    /// Takes the reports of helpers that are done.
    fn finish_jobs(&mut self) {
        let mut at = 0;
        while at < self.jobs.len() {
            match self.jobs[at].helper.report() {
                None => at += 1,
                Some((report, terminal)) => {
                    let job = self.jobs.remove(at);
                    self.finish_job(job, report, terminal);
                }
            }
        }
    }

    fn finish_job(&mut self, job: Job, report: Report, terminal: Option<OwnedFd>) {
        match (job.kind, report.result) {
            (JobKind::Start(container), Ok(pid)) => {
                self.started(job.connection, job.number, *container, pid, terminal);
            }
            (JobKind::Start(container), Err(refused)) => {
                if let Err(error) = container.remove() {
                    eprintln!(
                        "cannot remove what is left of {}: {error}",
                        container.state.id
                    );
                }
                self.reply(job.connection, job.number, Err(refused), vec![]);
            }
            (
                JobKind::Exec {
                    mut fds,
                    mut streams,
                    kill_on_disconnect,
                },
                Ok(pid),
            ) => {
                self.execs.push(ExecProcess {
                    pid,
                    connection: job.connection,
                    kill_on_disconnect,
                });
                streams.exec = pid;
                if let Some(terminal) = terminal {
                    streams.terminal = true;
                    fds.push(terminal);
                }
                self.reply(job.connection, job.number, Ok(Reply::Streams(streams)), fds);
            }
            (JobKind::Exec { .. }, Err(refused)) => {
                self.reply(job.connection, job.number, Err(refused), vec![])
            }
        }
    }

    fn drop_broken(&mut self) {
        for connection in &mut self.connections {
            connection.flush();
        }
        for gone in self.connections.iter().filter(|c| c.broken) {
            for exec in self
                .execs
                .iter()
                .filter(|e| e.connection == gone.id && e.kill_on_disconnect)
            {
                let _ = kill(Pid::from_raw(exec.pid.cast_signed()), Signal::SIGKILL);
            }
        }
        self.connections.retain(|c| !c.broken);
    }

    /// Ends all, removes all, answers, and ends.
    fn close(mut self, connection: u64, number: u64) -> ExitCode {
        let result = self.sandbox.leave(Duration::from_secs(5));
        // All are dead; whoever adopts our children should not have to reap them.
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
        let mut answer = match &result {
            Ok(()) => Ok(Reply::Done),
            Err(error) => Err(super::create::host(error)),
        };
        if answer.is_ok()
            && let Err(error) = std::fs::remove_dir_all(&self.sandbox.dir)
        {
            answer = Err(super::create::host(error));
        }
        let code = if answer.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
        self.reply(connection, number, answer, vec![]);
        code
    }
}

impl Connection {
    fn send(&mut self, message: &Message, fds: Vec<OwnedFd>) {
        if self.outbox.push(message, fds).is_err() {
            self.broken = true;
        }
        self.flush();
    }

    fn flush(&mut self) {
        match self.outbox.flush(self.socket.as_fd()) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => self.broken = true,
            _ => {}
        }
    }
}
