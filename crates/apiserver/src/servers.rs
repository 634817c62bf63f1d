//! The servers that share a store: `default/kubernetes` leads to all that live.
//!
//! Invariant: a server that is gone, in whatever way, is led to no longer than its key lives. Upstream's
//! lease endpoint reconciler keeps the same times.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stdx::Backoff;
use store::{Expect, ListOptions, Revision, Store, StoreError, Write};
use tokio::time::Instant;

use crate::bootstrap;
use crate::state::State;

/// A server's key is its address under this prefix.
const ROOT: &str = "/servers/";
/// How long a key lives that is not renewed.
const TTL: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);

/// The addresses at which pods reach the servers.
pub(crate) type Servers = BTreeSet<SocketAddr>;

/// This server's key, and what it was written as last.
struct Announced {
    key: String,
    revision: Revision,
    times: u64,
}

impl Announced {
    /// Writes the key again. Each time another value: the same one would not count.
    async fn renew(&mut self, state: &State) -> Result<(), StoreError> {
        let times = self.times + 1;
        let write = |expect| Write::put(&self.key, expect, times.to_string()).with_ttl(TTL);
        let expect = match self.revision {
            Revision(0) => Expect::Absent,
            at => Expect::At(at),
        };
        let written = match state.store.write(write(expect)).await {
            // It ended meanwhile, or is from a run before this one.
            Err(StoreError::Conflict { current, .. }) => {
                let expect = current.map_or(Expect::Absent, |entry| Expect::At(entry.modified));
                state.store.write(write(expect)).await
            }
            written => written,
        };
        (self.revision, self.times) = (written?, times);
        Ok(())
    }
}

/// All servers. Where the store is ours alone, that is this one.
pub(crate) async fn all(state: &State) -> Result<Servers, StoreError> {
    let mut servers = Servers::from([state.advertise]);
    if state.store.is_shared() {
        servers.extend(announced(&state.store).await?);
    }
    Ok(servers)
}

/// The addresses of the servers that say that they use this store, each at most 15 seconds after its end.
///
/// # Errors
/// The store cannot be read.
pub async fn announced(store: &Store) -> Result<BTreeSet<SocketAddr>, StoreError> {
    let options = ListOptions {
        prefix: ROOT,
        ..ListOptions::default()
    };
    let page = store.list(options).await?;
    let address = |key: &str| key.strip_prefix(ROOT)?.parse::<SocketAddr>().ok();
    let addresses = page.entries.iter().filter_map(|entry| address(&entry.key));
    Ok(addresses.collect())
}

/// Keeps this server's key, and `default/kubernetes` in step with everybody's, until the drain.
pub(crate) async fn run(state: Arc<State>) {
    if !state.store.is_shared() {
        return;
    }
    let mut own = Announced {
        key: format!("{ROOT}{}", state.advertise),
        revision: Revision(0),
        times: 0,
    };
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    while let Err(error) = follow(&state, &mut own).await {
        if state.drain.is_cancelled() || matches!(error, StoreError::Closed) {
            return;
        }
        tracing::warn!("the list of servers: {}", stdx::chain::chain(&error));
        tokio::time::sleep(backoff.next()).await;
    }
    // Nobody has to wait for the key's end; who cannot remove it leaves it to that.
    let gone = Write::delete(&own.key, Expect::At(own.revision));
    let _ = tokio::time::timeout(Duration::from_secs(1), state.store.write(gone)).await;
}

async fn follow(state: &Arc<State>, own: &mut Announced) -> Result<(), StoreError> {
    own.renew(state).await?;
    let mut renew_at = Instant::now() + RENEW;
    let mut changes = state.store.subscribe(ROOT, state.store.current())?;
    let mut led_to = Servers::new();
    loop {
        let servers = all(state).await?;
        if servers != led_to {
            match bootstrap::lead_to(state, &servers).await {
                Ok(()) => led_to = servers,
                Err(error) => tracing::warn!("default/kubernetes: {}", stdx::chain::chain(&error)),
            }
        }
        tokio::select! {
            () = state.drain.cancelled() => return Ok(()),
            batch = changes.next() => drop(batch?),
            () = tokio::time::sleep_until(renew_at) => {
                own.renew(state).await?;
                renew_at = Instant::now() + RENEW;
            }
        }
    }
}
