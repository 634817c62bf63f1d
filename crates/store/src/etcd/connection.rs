//! The way to etcd: one lazy connection a member, and the rule of what is tried again.
//!
//! Invariant: a request that may have changed something is sent once. It is sent again, to the next
//! member, only when it certainly was not carried out: no connection came about, or etcd itself said
//! that it did not take it on.

use std::error::Error as _;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use http::uri::PathAndQuery;
use stdx::Backoff;
use tokio::time::{Instant, timeout};
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::config::EtcdConfig;
use super::proto::{
    CompactionRequest, HeaderOnly, LeaseGrantRequest, LeaseGrantResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, RangeRequest, RangeResponse, StatusRequest,
    StatusResponse, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use crate::StoreError;

/// How long a request may take with all of its attempts.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// How long one attempt of a read may take, so that a silent member leaves time for another.
const ATTEMPT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A peer that is silent this long is asked for a sign of life. etcd takes it ill when asked more often
/// than every 5 s (`--grpc-keepalive-min-time`).
const KEEPALIVE: Duration = Duration::from_secs(6);
/// How long it may take to give one.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// How much of one answer may be under way: lists come in megabytes, and would crawl with HTTP/2's own
/// 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// And of all: so much that watches which nobody reads for a moment (there are at most five) do not
/// keep other answers from coming through.
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// What went wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It was certainly not carried out.
    Unsent,
    /// There was no answer: it may have been carried out.
    Lost,
    /// The connection's certificates do not fit.
    Tls,
    /// etcd does not allow it.
    Denied,
    /// etcd's quota is used up.
    NoSpace,
    /// It is larger than etcd takes.
    TooLarge,
    /// It asks for a revision that is compacted,
    Compacted,
    /// or not there yet.
    Future,
    /// It names a lease that is over.
    LeaseGone,
    /// etcd refuses for another reason.
    Refused,
}

/// A request that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failure {
    pub(super) kind: Kind,
    text: String,
}

impl Failure {
    pub(super) fn lost(text: impl Into<String>) -> Failure {
        Failure {
            kind: Kind::Lost,
            text: text.into(),
        }
    }

    /// Whether another member may do better.
    fn is_of_member(&self) -> bool {
        matches!(self.kind, Kind::Unsent | Kind::Lost | Kind::Tls)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        // What comes from etcd has a message and no source; what the transport found has a source.
        let Some(source) = status.source() else {
            return Failure {
                kind: answered(&status),
                text: status.message().to_owned(),
            };
        };
        let (mut kind, mut next) = (Kind::Lost, Some(source));
        while let Some(error) = next {
            if error.is::<tonic::ConnectError>() {
                kind = Kind::Unsent;
            }
            let inner = error
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref);
            if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>())
            {
                kind = Kind::Tls;
                break;
            }
            next = error.source();
        }
        Failure {
            kind,
            text: stdx::chain(source),
        }
    }
}

/// What etcd means; its texts are part of its API (`api/v3rpc/rpctypes/error.go`).
fn answered(status: &Status) -> Kind {
    match status.message() {
        "etcdserver: no leader" | "etcdserver: too many requests" => Kind::Unsent,
        "etcdserver: mvcc: database space exceeded" => Kind::NoSpace,
        "etcdserver: request is too large" => Kind::TooLarge,
        "etcdserver: mvcc: required revision has been compacted" => Kind::Compacted,
        "etcdserver: mvcc: required revision is a future revision" => Kind::Future,
        "etcdserver: requested lease not found" => Kind::LeaseGone,
        message => match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Kind::Lost,
            Code::PermissionDenied | Code::Unauthenticated => Kind::Denied,
            Code::ResourceExhausted if message.contains("larger than max") => Kind::TooLarge,
            _ => Kind::Refused,
        },
    }
}

/// Whether a request may be sent again when nobody knows what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It changes nothing, or the same again.
    Freely,
    /// It changes something.
    IfUnsent,
}

/// A member and the connection to it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    at: usize,
    channel: Channel,
}

impl Member {
    async fn unary<Q, A>(&self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = self.ready().await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc
            .unary(request(message), path, ProstCodec::default())
            .await?;
        Ok(answer.into_inner())
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        // The largest answer is bounded by what is asked for: pages, and fragments of watches.
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready()
            .await
            .map_err(|error| Status::from_error(Box::new(error)))?;
        Ok(grpc)
    }

    pub(super) async fn range(&self, message: RangeRequest) -> Result<RangeResponse, Status> {
        self.unary("/etcdserverpb.KV/Range", message).await
    }

    pub(super) async fn put(&self, message: PutRequest) -> Result<HeaderOnly, Status> {
        self.unary("/etcdserverpb.KV/Put", message).await
    }

    pub(super) async fn txn(&self, message: TxnRequest) -> Result<TxnResponse, Status> {
        self.unary("/etcdserverpb.KV/Txn", message).await
    }

    pub(super) async fn compact(&self, message: CompactionRequest) -> Result<HeaderOnly, Status> {
        self.unary("/etcdserverpb.KV/Compact", message).await
    }

    pub(super) async fn grant(
        &self,
        message: LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Status> {
        self.unary("/etcdserverpb.Lease/LeaseGrant", message).await
    }

    pub(super) async fn time_to_live(
        &self,
        message: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Status> {
        self.unary("/etcdserverpb.Lease/LeaseTimeToLive", message)
            .await
    }

    pub(super) async fn status(&self, message: StatusRequest) -> Result<StatusResponse, Status> {
        self.unary("/etcdserverpb.Maintenance/Status", message)
            .await
    }

    /// Opens a watch. It ends when the stream is dropped.
    pub(super) async fn watch(
        &self,
        create: WatchCreateRequest,
    ) -> Result<Streaming<WatchResponse>, Failure> {
        let message = WatchRequest {
            create: Some(create),
        };
        let open = async {
            let mut grpc = self.ready().await?;
            let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
            // The stream of requests stays open: its end would end the watch.
            let requests = stream::once(async { message }).chain(stream::pending());
            grpc.streaming(request(requests), path, ProstCodec::default())
                .await
        };
        match timeout(ATTEMPT, open).await {
            Ok(opened) => Ok(opened?.into_inner()),
            Err(_) => Err(Failure::lost(format!("no answer within {ATTEMPT:?}"))),
        }
    }
}

/// A request that a member without a leader refuses at once, and ends when it loses its leader.
fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("hasleader", MetadataValue::from_static("true"));
    request
}

/// All members, one of which is used until it fails.
pub(super) struct Connection {
    members: Vec<Member>,
    current: AtomicUsize,
    names: Arc<str>,
    cluster: OnceLock<u64>,
    secure: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("endpoints", &self.names)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Prepares connections; none is made before the first request.
    pub(super) fn new(config: &EtcdConfig) -> Result<Connection, StoreError> {
        let names: Arc<str> = config.endpoints.join(", ").into();
        let fault = |error: &tonic::transport::Error| StoreError::Datastore {
            text: names.to_string(),
            detail: stdx::chain(error),
        };
        let mut members = Vec::new();
        for (at, endpoint) in config.endpoints.iter().enumerate() {
            let mut endpoint = Endpoint::from_shared(endpoint.clone())
                .map_err(|error| fault(&error))?
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(false)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
            if let Some(tls) = &config.tls {
                let mut options =
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca_pem));
                if let Some((certificate, key)) = &tls.identity {
                    options = options.identity(Identity::from_pem(certificate, key));
                }
                endpoint = endpoint
                    .tls_config(options)
                    .map_err(|error| fault(&error))?;
            }
            let channel = endpoint.connect_lazy();
            members.push(Member { at, channel });
        }
        if members.is_empty() {
            return Err(StoreError::Datastore {
                text: String::new(),
                detail: "no member is given".to_owned(),
            });
        }
        Ok(Connection {
            members,
            current: AtomicUsize::new(0),
            names,
            cluster: OnceLock::new(),
            secure: config.tls.is_some(),
        })
    }

    /// The member in use.
    pub(super) fn member(&self) -> &Member {
        &self.members[self.current.load(Ordering::Relaxed) % self.members.len()]
    }

    /// Turns to the next member, if this one is still in use.
    pub(super) fn leave(&self, member: &Member) {
        let next = (member.at + 1) % self.members.len();
        // Failing means that another has left it already.
        let _ =
            self.current
                .compare_exchange(member.at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether an answer is from the cluster that answered first. Members of several clusters, or one
    /// that was made anew from a backup, would mix up revisions.
    pub(super) fn is_same_cluster(&self, id: u64) -> bool {
        *self.cluster.get_or_init(|| id) == id
    }

    /// Carries out a request, on another member or once more where that is right.
    pub(super) async fn run<'a, A, F>(
        &'a self,
        repeat: Repeat,
        call: impl Fn(&'a Member) -> F,
    ) -> Result<A, Failure>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let deadline = Instant::now() + TIMEOUT;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut attempts = 0;
        loop {
            let member = self.member();
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = match repeat {
                Repeat::Freely => ATTEMPT.min(left),
                Repeat::IfUnsent => left,
            };
            let failure = match timeout(limit, call(member)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => self.doubt(Failure::from(status)),
                Err(_) => Failure::lost(format!("no answer within {limit:?}")),
            };
            if !failure.is_of_member() {
                return Err(failure);
            }
            self.leave(member);
            attempts += 1;
            let all_tried = attempts % self.members.len() == 0;
            let hopeless = match failure.kind {
                // Time does not make a certificate fit.
                Kind::Tls => all_tried,
                Kind::Lost => repeat == Repeat::IfUnsent,
                _ => false,
            };
            let pause = if all_tried {
                backoff.next()
            } else {
                Duration::ZERO
            };
            if hopeless || Instant::now() + pause >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// A server that does not accept our certificate closes the connection after the handshake, and TLS
    /// 1.3 gives the reason to nobody who waits. Where no request was ever answered, that is taken for it.
    fn doubt(&self, mut failure: Failure) -> Failure {
        let closed = failure.text.ends_with("connection closed");
        if self.secure && closed && failure.kind == Kind::Lost && self.cluster.get().is_none() {
            failure.kind = Kind::Tls;
            failure.text.push_str(
                " right after it was made, as etcd does when it does not accept the client's certificate",
            );
        }
        failure
    }

    /// The error to give to the caller.
    pub(super) fn error(&self, action: &'static str, failure: Failure) -> StoreError {
        let endpoints = self.names.to_string();
        match failure.kind {
            Kind::Unsent | Kind::Lost => StoreError::Unreachable {
                endpoints,
                source: Arc::new(failure),
            },
            Kind::Tls | Kind::Denied => StoreError::Denied {
                endpoints,
                source: Arc::new(failure),
            },
            Kind::NoSpace => StoreError::QuotaExceeded { endpoints },
            Kind::TooLarge => StoreError::RequestTooLarge {
                source: Arc::new(failure),
            },
            _ => StoreError::Etcd {
                action,
                endpoints,
                source: Arc::new(failure),
            },
        }
    }
}
