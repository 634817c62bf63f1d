//! The store through its public door: on real files and real etcds, with real processes.
//!
//! `writes`, `watch`, `history` and `life` are the contract of `backend.rs`: each case there runs on
//! every engine. The others are about what one engine alone can do or suffer.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

/// Runs each case on each engine, as `sqlite::…` and `etcd::…`. A case takes the place for its store.
macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case($crate::support::Place::new()).await;
                }
            )*
        }
        mod etcd {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let Some(place) = $crate::support::Place::etcd() else { return };
                    super::$case(place).await;
                }
            )*
        }
    };
}

mod crash;
mod damage;
mod etcd;
mod etcd_server;
mod former;
mod history;
mod life;
mod linearizable;
mod model;
mod seal;
mod snapshot;
mod support;
mod watch;
mod writes;
