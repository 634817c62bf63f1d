//! Objects that are being converted, so that the watchers of one change ask its webhook once.
//!
//! Invariants: an object is in one flight of a schema at most; who waits for a flight has none of
//! its own open, and is told of its end whatever became of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::cache::Object;

/// An object of the cache that is to be read by a schema. The address is the object's own for as long
/// as the flight holds it.
type Key = (u64, usize);

/// All flights of this server.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<Key, watch::Receiver<()>>>);

/// Objects that one request converts; ends when it is dropped.
pub(super) struct Flight<'f> {
    flights: &'f Flights,
    keys: Vec<Key>,
    _objects: Vec<Arc<Object>>,
    _end: watch::Sender<()>,
}

impl Flights {
    /// Begins a flight of those objects that are in none; for each object, the end of the flight that
    /// it is in already.
    pub(super) fn begin(
        &self,
        schema: u64,
        objects: &[Arc<Object>],
    ) -> (Flight<'_>, Vec<Option<watch::Receiver<()>>>) {
        let (end, ended) = watch::channel(());
        let mut flight = Flight {
            flights: self,
            keys: Vec::new(),
            _objects: objects.to_vec(),
            _end: end,
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = objects.iter().map(|object| {
            let key = (schema, Arc::as_ptr(object).addr());
            let other = all.get(&key).cloned();
            if other.is_none() {
                all.insert(key, ended.clone());
                flight.keys.push(key);
            }
            other
        });
        let others = others.collect();
        drop(all);
        (flight, others)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut all = self
            .flights
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            all.remove(key);
        }
    }
}
