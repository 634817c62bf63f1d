//! The sockets. What is known is answered in place; what must be asked upstream gets a
//! task of its own, a bounded number of them.

use super::answer::{Answer, Outcome, Zone, answer};
use super::catalog::Catalog;
use super::upstream::Upstream;
use super::wire::{self, Question};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Questions under way upstream at once.
const IN_FLIGHT: usize = 512;
/// TCP connections at once.
const CONNECTIONS: usize = 256;
/// How long a TCP connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// How many aliases are followed for one question.
const ALIASES: usize = 8;

/// What answers questions.
pub(super) struct Responder {
    pub(super) catalog: Arc<RwLock<Catalog>>,
    /// Whether the catalog is complete.
    pub(super) ready: AtomicBool,
    zone: Zone,
    upstream: Upstream,
    in_flight: Arc<Semaphore>,
    /// Which record comes first is different each time.
    turn: AtomicUsize,
}

/// A question after a first look.
enum Step {
    Done(Vec<u8>),
    Ignore,
    /// The name is foreign: its question goes upstream as it is.
    Relay(Box<Question>),
    /// The name is an alias: the rest of the answer is to be found.
    Follow(Box<Question>, Box<Answer>, Name),
}

impl Responder {
    pub(super) fn new(zone: Zone, upstream: Upstream) -> Responder {
        Responder {
            catalog: Arc::default(),
            ready: AtomicBool::new(false),
            zone,
            upstream,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            turn: AtomicUsize::new(0),
        }
    }

    fn look(&self, bytes: &[u8], tcp: bool) -> Step {
        let question = match wire::read(bytes) {
            Ok(question) => Box::new(question),
            Err(Some(answer)) => return Step::Done(answer),
            Err(None) => return Step::Ignore,
        };
        match self.find(&question.query.name, question.query.query_type) {
            Outcome::Foreign => Step::Relay(question),
            Outcome::Known(_) if !self.ready.load(Ordering::Acquire) => {
                Step::Done(question.error(ResponseCode::ServFail))
            }
            Outcome::Known(mut answer) => match answer.alias.take() {
                Some(target) => Step::Follow(question, answer, target),
                None => Step::Done(question.reply(self.rotated(answer), tcp)),
            },
        }
    }

    fn find(&self, name: &Name, kind: RecordType) -> Outcome {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        answer(&self.zone, &catalog, name, kind)
    }

    fn rotated(&self, mut answer: Box<Answer>) -> Box<Answer> {
        if answer.records.len() > 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let by = turn % answer.records.len();
            answer.records.rotate_left(by);
        }
        answer
    }

    /// The slow part of an answer. `bytes` is the client's question.
    async fn finish(&self, step: Step, bytes: &[u8], tcp: bool) -> Option<Vec<u8>> {
        match step {
            Step::Done(answer) => Some(answer),
            Step::Ignore => None,
            Step::Relay(question) => Some(match self.upstream.relay(bytes, tcp).await {
                Ok(answer) => answer,
                Err(_) => question.error(ResponseCode::ServFail),
            }),
            Step::Follow(question, answer, target) => {
                let kind = question.query.query_type;
                Some(match self.follow(answer, target, kind).await {
                    Ok(answer) => question.reply(answer, tcp),
                    Err(_) => question.error(ResponseCode::ServFail),
                })
            }
        }
    }

    /// Adds the records of an alias's target, which may be in the cluster or outside.
    async fn follow(
        &self,
        mut answer: Box<Answer>,
        mut target: Name,
        kind: RecordType,
    ) -> io::Result<Box<Answer>> {
        for _ in 0..ALIASES {
            match self.find(&target, kind) {
                Outcome::Known(more) => {
                    answer.exists = more.exists;
                    answer.records.extend(more.records);
                    answer.additionals.extend(more.additionals);
                    answer.authority = more.authority;
                    match more.alias {
                        Some(next) => target = next,
                        None => return Ok(answer),
                    }
                }
                Outcome::Foreign => {
                    let found = self.resolve(target, kind).await?;
                    if found.metadata.response_code == ResponseCode::ServFail {
                        return Err(io::ErrorKind::NotConnected.into());
                    }
                    answer.exists = found.metadata.response_code != ResponseCode::NXDomain;
                    answer.records.extend(found.answers);
                    return Ok(answer);
                }
            }
        }
        Err(io::Error::other("too many aliases"))
    }

    async fn resolve(&self, name: Name, kind: RecordType) -> io::Result<Message> {
        let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.queries.push(Query::query(name, kind));
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        message.edns = Some(edns);
        let question = message.to_vec().map_err(io::Error::other)?;
        let read = |bytes: Vec<u8>| Message::from_vec(&bytes).map_err(io::Error::other);
        let answer = read(self.upstream.relay(&question, false).await?)?;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
        read(self.upstream.relay(&question, true).await?)
    }
}

/// Serves both sockets until `drain` is cancelled, then waits for what is under way.
pub(super) async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    responder: Arc<Responder>,
    drain: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let datagrams = serve_udp(Arc::new(udp), &responder, &tasks, &drain);
    let streams = serve_tcp(tcp, &responder, &tasks, &drain);
    tokio::join!(
        drain.run_until_cancelled(datagrams),
        drain.run_until_cancelled(streams)
    );
    tasks.close();
    tasks.wait().await;
}

async fn serve_udp(
    socket: Arc<UdpSocket>,
    responder: &Arc<Responder>,
    tasks: &TaskTracker,
    drain: &CancellationToken,
) {
    let mut buffer = vec![0; 4096];
    loop {
        // Errors here are those of earlier answers whose client went away.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let bytes = &buffer[..length];
        let step = responder.look(bytes, false);
        match step {
            Step::Ignore => {}
            Step::Done(answer) => send(&socket, &answer, client).await,
            slow => match responder.in_flight.clone().try_acquire_owned() {
                Ok(permit) => {
                    let (socket, responder) = (socket.clone(), responder.clone());
                    let (bytes, drain) = (bytes.to_vec(), drain.clone());
                    tasks.spawn(async move {
                        let _permit = permit;
                        let work = responder.finish(slow, &bytes, false);
                        if let Some(Some(answer)) = drain.run_until_cancelled(work).await {
                            send(&socket, &answer, client).await;
                        }
                    });
                }
                Err(_) => {
                    if let Step::Relay(question) | Step::Follow(question, ..) = slow {
                        send(&socket, &question.error(ResponseCode::ServFail), client).await;
                    }
                }
            },
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(answer, client).await {
        tracing::debug!(%client, %error, "DNS answer is not sent");
    }
}

async fn serve_tcp(
    listener: TcpListener,
    responder: &Arc<Responder>,
    tasks: &TaskTracker,
    drain: &CancellationToken,
) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "DNS connection is not accepted");
                // Out of descriptors: the others must end first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (responder, drain) = (responder.clone(), drain.clone());
        tasks.spawn(async move {
            let _permit = permit;
            let talk = converse(stream, &responder);
            if let Some(Err(error)) = drain.run_until_cancelled(talk).await {
                tracing::debug!(%error, "DNS connection ends");
            }
        });
    }
}

async fn converse(mut stream: TcpStream, responder: &Responder) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let Ok(length) = timeout(SILENCE, stream.read_u16()).await else {
            return Ok(());
        };
        let length = match length {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            length => length?,
        };
        let mut bytes = vec![0; usize::from(length)];
        timeout(SILENCE, stream.read_exact(&mut bytes)).await??;
        let step = responder.look(&bytes, true);
        let Some(answer) = responder.finish(step, &bytes, true).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut sent = Vec::with_capacity(answer.len() + 2);
        sent.extend_from_slice(&length.to_be_bytes());
        sent.extend_from_slice(&answer);
        timeout(SILENCE, stream.write_all(&sent)).await??;
    }
}
