//! One connection to a shim, shared by all who ask through it.
//!
//! Invariant: one task owns the socket; it ends with the last owner of the connection or with the
//! shim, and then nobody waits any longer.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::error::ShimError;
use crate::shim::main::SOCKET;
use crate::state::ContainerState;
use crate::wire::{Call, Inbox, Message, Outbox, Refused, Reply, Request, Streams};

/// Requests that may wait for the task.
const WAITING_CALLS: usize = 64;
/// Changes of state that a slow listener may be behind.
const WAITING_EVENTS: usize = 256;

/// What the shim answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) fds: VecDeque<OwnedFd>,
    /// The end of the process that this reply started.
    pub(super) ended: Option<oneshot::Receiver<i32>>,
}

type Answered = Result<Answer, Refused>;

/// A request on its way, and who waits; nobody, for a signal that is sent in passing.
struct Outgoing {
    request: Request,
    answer: Option<oneshot::Sender<Answered>>,
}

/// One connection to a shim.
#[derive(Debug)]
pub(super) struct Connection {
    dir: PathBuf,
    calls: mpsc::Sender<Outgoing>,
    events: broadcast::Sender<ContainerState>,
    closed: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Connects. Must be called inside a runtime.
    pub(super) fn open(dir: &Path) -> Result<Connection, ShimError> {
        let gone = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ShimError::Gone { dir: dir.into() }
            }
            _ => ShimError::Connection(error),
        };
        // By a short path: a socket's is limited to 108 bytes.
        let folder = std::fs::File::open(dir).map_err(gone)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(SOCKET);
        let stream = StdStream::connect(path).map_err(gone)?;
        stream
            .set_nonblocking(true)
            .map_err(ShimError::Connection)?;
        let stream = UnixStream::from_std(stream).map_err(ShimError::Connection)?;
        let (calls, requests) = mpsc::channel(WAITING_CALLS);
        let (events, _) = broadcast::channel(WAITING_EVENTS);
        let (close, closed) = watch::channel(false);
        let wire = Wire {
            stream,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            number: 0,
            waiting: HashMap::new(),
            execs: HashMap::new(),
            events: events.clone(),
        };
        let task = tokio::spawn(async move {
            if let Err(error) = wire.serve(requests).await {
                tracing::debug!(%error, "connection to a shim has ended");
            }
            let _ = close.send(true);
        });
        Ok(Connection {
            dir: dir.into(),
            calls,
            events,
            closed,
            task,
        })
    }

    fn gone(&self) -> ShimError {
        ShimError::Gone {
            dir: self.dir.clone(),
        }
    }

    /// Asks and waits for the answer.
    pub(super) async fn call(&self, request: Request) -> Result<Answer, ShimError> {
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing {
            request,
            answer: Some(answer),
        };
        self.calls.send(outgoing).await.map_err(|_| self.gone())?;
        let answered = answered.await.map_err(|_| self.gone())?;
        answered.map_err(|Refused { kind, message }| ShimError::Refused { kind, message })
    }

    /// Asks without waiting, for use in a destructor.
    pub(super) fn tell(&self, request: Request) {
        let _ = self.calls.try_send(Outgoing {
            request,
            answer: None,
        });
    }

    pub(super) fn events(&self) -> broadcast::Receiver<ContainerState> {
        self.events.subscribe()
    }

    pub(super) async fn closed(&self) {
        let mut closed = self.closed.clone();
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

/// The task's own.
struct Wire {
    stream: UnixStream,
    inbox: Inbox,
    outbox: Outbox,
    number: u64,
    waiting: HashMap<u64, oneshot::Sender<Answered>>,
    execs: HashMap<u32, oneshot::Sender<i32>>,
    events: broadcast::Sender<ContainerState>,
}

impl Wire {
    async fn serve(mut self, mut requests: mpsc::Receiver<Outgoing>) -> io::Result<()> {
        loop {
            let interest = if self.outbox.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            tokio::select! {
                request = requests.recv() => match request {
                    None => return Ok(()),
                    Some(outgoing) => self.ask(outgoing)?,
                },
                ready = self.stream.ready(interest) => {
                    let ready = ready?;
                    if ready.is_writable() {
                        self.flush()?;
                    }
                    if ready.is_readable() && !self.receive()? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn ask(&mut self, outgoing: Outgoing) -> io::Result<()> {
        self.number += 1;
        if let Some(answer) = outgoing.answer {
            self.waiting.insert(self.number, answer);
        }
        self.outbox.push(
            &Call {
                number: self.number,
                request: outgoing.request,
            },
            vec![],
        )?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let (stream, outbox) = (&self.stream, &mut self.outbox);
        match stream.try_io(Interest::WRITABLE, || outbox.flush(stream.as_fd())) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// False at the end of the stream.
    fn receive(&mut self) -> io::Result<bool> {
        loop {
            let (stream, inbox) = (&self.stream, &mut self.inbox);
            match stream.try_io(Interest::READABLE, || inbox.fill(stream.as_fd())) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
            while let Some(message) = self.inbox.next()? {
                self.deliver(message)?;
            }
        }
    }

    fn deliver(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::Changed(state) => drop(self.events.send(state)),
            Message::ExecEnded { exec, code } => {
                if let Some(waiting) = self.execs.remove(&exec) {
                    let _ = waiting.send(code);
                }
            }
            Message::Reply { number, result } => {
                let answered = match result {
                    Err(refused) => Err(refused),
                    Ok(reply) => Ok(self.answer(reply)?),
                };
                if let Some(waiting) = self.waiting.remove(&number) {
                    let _ = waiting.send(answered);
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, reply: Reply) -> io::Result<Answer> {
        let (mut fds, mut ended) = (VecDeque::new(), None);
        if let Reply::Streams(streams @ Streams { exec, .. }) = &reply {
            fds = self.inbox.take_fds(streams.count())?;
            if *exec != 0 {
                let (sender, receiver) = oneshot::channel();
                self.execs.insert(*exec, sender);
                ended = Some(receiver);
            }
        }
        Ok(Answer { reply, fds, ended })
    }
}
