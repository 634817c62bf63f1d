//! Taking up an etcd: what is under the prefix, in which format, and where its history is.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use super::barrier::Flights;
use super::config::EtcdConfig;
use super::connection::{Connection, Failure, Repeat};
use super::keys::{Keys, Offset};
use super::lease::Leases;
use super::proto::{
    Compare, KeyValue, PutRequest, RangeRequest, Request, Response, TxnRequest, TxnResponse,
};
use super::recent::Recent;
use super::{HISTORIES, Shared, watch};
use crate::hub::{Hub, Position};
use crate::metrics::Counters;
use crate::{Options, Revision, StoreError};

/// The version of how keys are laid out under a prefix.
pub(super) const FORMAT: i32 = 1;
/// The notes that are read at the start. Their names are part of the format.
pub(super) const FORMAT_NOTE: &str = "format";
pub(super) const OFFSET_NOTE: &str = "offset";
pub(super) const RESTORING_NOTE: &str = "restoring";

/// Reads the notes, makes them where there are none, and finds the place to follow from: etcd's
/// revision, everything up to which can be read.
pub(super) async fn open(
    config: &EtcdConfig,
    options: &Options,
) -> Result<(Shared, i64), StoreError> {
    let connection = Connection::new(config)?;
    let keys = Keys::new(&config.prefix);
    let answer = connection
        // The same again changes nothing: the format is written where there is none.
        .run(Repeat::Freely, |member| member.txn(notes(&keys)))
        .await
        .map_err(|failure| connection.error("connect", failure))?;
    let missing = || {
        let failure = Failure::lost("an answer without a header");
        connection.error("connect", failure)
    };
    let header = answer.header.ok_or_else(missing)?;
    connection.is_same_cluster(header.cluster_id);
    let found = Notes::read(&answer);
    if found.restoring {
        return Err(StoreError::Restoring {
            place: format!("{} in etcd", config.prefix),
        });
    }
    if found.format > FORMAT {
        return Err(StoreError::TooNew {
            path: config.prefix.clone().into(),
            found: found.format,
            known: FORMAT,
        });
    }
    let offset = Offset(found.offset);
    let compacted = watch::compacted_now(&connection, &keys)
        .await
        .map_err(|failure| connection.error("look for the oldest revision", failure))?;
    // What a restore wrote before it wrote the offset is not history.
    let compacted = match (compacted, found.offset) {
        (None, 0) => Revision(0),
        (found_at, _) => offset.ours(found_at.unwrap_or(0).max(found.offset_revision)),
    };
    let position = Position {
        current: offset.ours(header.revision),
        compacted,
    };
    let hub = Hub::new(
        position,
        options.seal.clone(),
        Arc::new(Counters::default()),
    );
    let shared = Shared {
        connection,
        keys,
        offset,
        hub: Arc::new(hub),
        recent: Mutex::new(Recent::new(position.current)),
        leases: Leases::default(),
        newest: Flights::default(),
        barriers: Flights::default(),
        histories: Semaphore::new(HISTORIES),
        closed: AtomicBool::new(false),
        database_bytes: AtomicU64::new(0),
    };
    Ok((shared, header.revision))
}

/// Writes the format if there is none, and reads the notes either way.
pub(super) fn notes(keys: &Keys) -> TxnRequest {
    let read = |name: &str| {
        Request::Range(RangeRequest {
            key: keys.note(name),
            ..RangeRequest::default()
        })
    };
    let reads = [FORMAT_NOTE, OFFSET_NOTE, RESTORING_NOTE].map(|name| read(name).into());
    let put = Request::Put(PutRequest {
        key: keys.note(FORMAT_NOTE),
        value: FORMAT.to_string().into_bytes(),
        lease: 0,
    });
    TxnRequest {
        compare: vec![Compare::absent(keys.note(FORMAT_NOTE))],
        success: std::iter::once(put.into()).chain(reads.clone()).collect(),
        failure: reads.to_vec(),
    }
}

/// What the notes say.
#[derive(Debug)]
pub(super) struct Notes {
    pub(super) format: i32,
    pub(super) offset: u64,
    offset_revision: i64,
    pub(super) restoring: bool,
}

impl Notes {
    pub(super) fn read(answer: &TxnResponse) -> Notes {
        let skip = usize::from(answer.succeeded);
        let note = |at: usize| -> Option<&KeyValue> {
            match answer.responses.get(at + skip)?.response.as_ref()? {
                Response::Range(range) => range.kvs.first(),
                _ => None,
            }
        };
        let text = |at: usize| {
            let note = note(at)?;
            std::str::from_utf8(&note.value).ok()
        };
        // A format that cannot be read is none of ours, so it is too new.
        let format = text(0).map_or(FORMAT, |text| text.parse().unwrap_or(i32::MAX));
        Notes {
            format,
            offset: text(1).and_then(|text| text.parse().ok()).unwrap_or(0),
            offset_revision: note(1).map_or(0, |note| note.mod_revision),
            restoring: note(2).is_some(),
        }
    }
}
