//! Scheduler and controllers: always at work where the store is ours alone, else while elected.
//!
//! Invariant: a term in office has caches of its own, so that what was registered with them ends with
//! the term.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::{Client, Election, Informers};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the control plane works with.
pub(crate) struct ControlPlane {
    /// Speaks as the scheduler.
    pub(crate) scheduler: Client,
    /// Speak as the controllers.
    pub(crate) accounts: controllers::Accounts,
    /// The caches of this process, for one that is always at work; what fills them may list and watch
    /// everything.
    pub(crate) informers: Informers,
    /// Who stands for election; nobody where there is no one to compete with.
    pub(crate) elected: Option<String>,
    /// What controllers are told of the cluster.
    pub(crate) options: controllers::Options,
}

/// Whether the controllers work in this process now, for what one server does for all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Office(Arc<AtomicBool>);

impl Office {
    /// Whether it is held here.
    pub(crate) fn is_held(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Does `work` in office; out of it when that ends or is dropped.
    async fn hold<F: Future<Output = ()>>(self, work: F) {
        struct Term(Office);
        impl Drop for Term {
            fn drop(&mut self) {
                self.0.0.store(false, Ordering::Relaxed);
            }
        }
        self.0.store(true, Ordering::Relaxed);
        let _term = Term(self);
        work.await;
    }
}

impl ControlPlane {
    /// Starts its tasks; they end with the drain. Returns the controllers' office.
    pub(crate) fn start(
        self,
        tasks: &mut JoinSet<&'static str>,
        drain: &CancellationToken,
    ) -> Office {
        let Self {
            scheduler,
            accounts,
            informers,
            elected,
            options,
        } = self;
        let readers = informers.client();
        let election = |client: &Client, lease: &str| {
            elected.clone().map(|identity| Election {
                client: client.clone(),
                namespace: "kube-system".to_owned(),
                name: lease.to_owned(),
                identity,
            })
        };
        let of_a_term = elected.is_some();
        let observe = move |client: &Client, term: &CancellationToken| {
            if of_a_term {
                Informers::new(client.clone(), term.clone())
            } else {
                informers.clone()
            }
        };
        let office = election(&scheduler, "kube-scheduler");
        let observer = (readers.clone(), observe.clone());
        let work = move |term: CancellationToken| {
            let (readers, observe) = &observer;
            scheduler::run(scheduler.clone(), observe(readers, &term), term)
        };
        let task = led(office, drain.clone(), work);
        tasks.spawn(async move {
            task.await;
            "scheduler"
        });
        let office = Office::default();
        let held = office.clone();
        let standing = election(&readers, "kube-controller-manager");
        let work = move |term: CancellationToken| {
            let informers = observe(&readers, &term);
            let run = controllers::run(accounts.clone(), informers, options.clone(), term);
            held.clone().hold(run)
        };
        let task = led(standing, drain.clone(), work);
        tasks.spawn(async move {
            task.await;
            "controllers"
        });
        office
    }
}

/// Runs `work` at once, or whenever this process wins the election.
async fn led<W, F>(election: Option<Election>, drain: CancellationToken, mut work: W)
where
    W: FnMut(CancellationToken) -> F,
    F: Future<Output = ()>,
{
    match election {
        Some(election) => client::lead(election, drain, work).await,
        None => work(drain).await,
    }
}

#[cfg(test)]
mod tests {
    use super::Office;

    #[tokio::test]
    async fn an_office_is_held_as_long_as_its_work_goes_on() {
        let office = Office::default();
        assert!(!office.is_held());
        let term = office.clone().hold(std::future::pending());
        {
            let mut term = std::pin::pin!(term);
            assert!(futures::poll!(&mut term).is_pending());
            assert!(office.is_held());
        }
        assert!(!office.is_held(), "the term was cut short");
        office.clone().hold(async {}).await;
        assert!(!office.is_held(), "the term came to its end");
    }
}
