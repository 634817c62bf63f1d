//! Scheduler and controllers: always at work where the store is ours alone, else while elected.
//!
//! Invariant: a term in office has caches of its own, so that what was registered with them ends with
//! the term.

use client::{Client, Election, Informers};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the control plane works with.
pub(crate) struct ControlPlane {
    /// Speaks as the scheduler.
    pub(crate) scheduler: Client,
    /// Speaks as the controllers.
    pub(crate) masters: Client,
    /// The caches of this process, for one that is always at work.
    pub(crate) informers: Informers,
    /// Who stands for election; nobody where there is no one to compete with.
    pub(crate) elected: Option<String>,
    /// What controllers are told of the cluster.
    pub(crate) options: controllers::Options,
}

impl ControlPlane {
    /// Starts its tasks; they end with the drain.
    pub(crate) fn start(self, tasks: &mut JoinSet<&'static str>, drain: &CancellationToken) {
        let Self {
            scheduler,
            masters,
            informers,
            elected,
            options,
        } = self;
        let election = |lease: &str| {
            elected.clone().map(|identity| Election {
                client: masters.clone(),
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
        let (office, observer) = (
            election("kube-scheduler"),
            (masters.clone(), observe.clone()),
        );
        let work = move |term: CancellationToken| {
            let (masters, observe) = &observer;
            scheduler::run(scheduler.clone(), observe(masters, &term), term)
        };
        let task = led(office, drain.clone(), work);
        tasks.spawn(async move {
            task.await;
            "scheduler"
        });
        let office = election("kube-controller-manager");
        let work = move |term: CancellationToken| {
            let informers = observe(&masters, &term);
            controllers::run(masters.clone(), informers, options.clone(), term)
        };
        let task = led(office, drain.clone(), work);
        tasks.spawn(async move {
            task.await;
            "controllers"
        });
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
