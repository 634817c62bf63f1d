//! The few messages of etcd's v3 API that are needed to measure it, by the field numbers of its
//! `rpc.proto` and `kv.proto`. Written out, so that a build needs no `protoc`.

use anyhow::Result;
use http::uri::PathAndQuery;
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

/// What etcd compares equal.
const EQUAL: i32 = 0;
/// The revision of a key's last change.
const MOD: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Header {
    #[prost(int64, tag = "3")]
    pub(crate) revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) key: prost::bytes::Bytes,
    #[prost(int64, tag = "3")]
    pub(crate) mod_revision: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) value: prost::bytes::Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Range {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) range_end: Vec<u8>,
}

impl Range {
    /// All keys of a prefix that does not end with the byte 0xff.
    pub(crate) fn prefix(prefix: &str) -> Range {
        let key = prefix.as_bytes().to_vec();
        let mut range_end = key.clone();
        if let Some(last) = range_end.last_mut() {
            *last += 1;
        }
        Range { key, range_end }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RangeAnswer {
    #[prost(message, repeated, tag = "2")]
    pub(crate) kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Compare {
    #[prost(int32, tag = "1")]
    result: i32,
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    // Of a union, so that 0 is written too.
    #[prost(int64, optional, tag = "6")]
    mod_revision: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Operation {
    #[prost(message, optional, tag = "1")]
    range: Option<Range>,
    #[prost(message, optional, tag = "2")]
    put: Option<Put>,
}

/// Everything in it happens, or the other thing.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Txn {
    #[prost(message, repeated, tag = "1")]
    compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<Operation>,
    #[prost(message, repeated, tag = "3")]
    failure: Vec<Operation>,
}

impl Txn {
    /// A put if the key was last changed at a revision, else a look at it.
    pub(crate) fn swap(key: &str, at: i64, value: Vec<u8>) -> Txn {
        let key = key.as_bytes().to_vec();
        let compare = Compare {
            result: EQUAL,
            target: MOD,
            key: key.clone(),
            mod_revision: Some(at),
        };
        let range = Operation {
            range: Some(Range {
                key: key.clone(),
                range_end: Vec::new(),
            }),
            put: None,
        };
        Txn {
            compare: vec![compare],
            success: vec![Txn::put(key, value)],
            failure: vec![range],
        }
    }

    /// Puts, whatever is there.
    pub(crate) fn puts(entries: Vec<(String, Vec<u8>)>) -> Txn {
        let put = |(key, value): (String, Vec<u8>)| Txn::put(key.into_bytes(), value);
        Txn {
            compare: Vec::new(),
            success: entries.into_iter().map(put).collect(),
            failure: Vec::new(),
        }
    }

    fn put(key: Vec<u8>, value: Vec<u8>) -> Operation {
        Operation {
            range: None,
            put: Some(Put { key, value }),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Answer {
    #[prost(message, optional, tag = "1")]
    pub(crate) range: Option<RangeAnswer>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TxnAnswer {
    #[prost(message, optional, tag = "1")]
    pub(crate) header: Option<Header>,
    #[prost(bool, tag = "2")]
    pub(crate) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(crate) answers: Vec<Answer>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Watch {
    #[prost(message, optional, tag = "1")]
    create: Option<Range>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WatchEvent {
    #[prost(message, optional, tag = "2")]
    pub(crate) kv: Option<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WatchAnswer {
    #[prost(bool, tag = "3")]
    pub(crate) created: bool,
    #[prost(message, repeated, tag = "11")]
    pub(crate) events: Vec<WatchEvent>,
}

/// A connection, shared by all clients as an API server does.
#[derive(Clone)]
pub(crate) struct Connection(pub(crate) Channel);

impl Connection {
    async fn grpc(&self) -> Result<Grpc<Channel>> {
        let mut grpc = Grpc::new(self.0.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await?;
        Ok(grpc)
    }

    async fn call<Q, A>(&self, path: &'static str, message: Q) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let path = PathAndQuery::from_static(path);
        let mut grpc = self.grpc().await?;
        let answer = grpc
            .unary(tonic::Request::new(message), path, ProstCodec::default())
            .await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn range(&self, range: Range) -> Result<RangeAnswer> {
        self.call("/etcdserverpb.KV/Range", range).await
    }

    pub(crate) async fn txn(&self, txn: Txn) -> Result<TxnAnswer> {
        self.call("/etcdserverpb.KV/Txn", txn).await
    }

    /// Events from now on; the watch is in place when this returns.
    pub(crate) async fn watch(&self, range: Range) -> Result<Streaming<WatchAnswer>> {
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let create = Watch {
            create: Some(range),
        };
        // The stream of requests must stay open.
        let requests =
            futures::StreamExt::chain(futures::stream::iter([create]), futures::stream::pending());
        let mut answers = self
            .grpc()
            .await?
            .streaming(
                tonic::Request::new(requests),
                path,
                ProstCodec::<Watch, WatchAnswer>::default(),
            )
            .await?
            .into_inner();
        while !answers.message().await?.is_some_and(|first| first.created) {}
        Ok(answers)
    }
}
