//! Deployment: moves from one template to the next by scaling ReplicaSets.

mod plan;
mod scale;
mod sets;
mod status;

use crate::claim;
use crate::context::{Context, by_owner, orphans};
use crate::owners;
use crate::pods;
use crate::write::{self, WriteError};
use client::{EventType, Events, Index, Informer, Key, Queue};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::DeleteParams;
use plan::{Plan, plan};
use std::sync::Arc;
use tracing::{debug, info};

struct Controller {
    context: Context,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    owned_sets: Index<ReplicaSet>,
    queue: Queue<Key>,
    events: Events,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context) {
    let sets = context.informers.get::<ReplicaSet>();
    let controller = Arc::new(Controller {
        deployments: context.informers.get::<Deployment>(),
        owned_sets: sets.index(by_owner),
        sets,
        queue: Queue::new(),
        events: context.events("deployment-controller"),
        context,
    });
    controller.listen();
    controller.deployments.synced().await;
    controller.sets.synced().await;
    controller.context.pods.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("deployment", queue, 5, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Controller {
    fn listen(self: &Arc<Self>) {
        let this = self.clone();
        self.deployments.on_change(move |old, new| {
            if let Some(deployment) = new.or(old) {
                this.queue.add(Key::of(&**deployment));
            }
        });
        let this = self.clone();
        self.sets.on_change(move |old, new| {
            for set in [old, new].into_iter().flatten() {
                this.queue_owner(set);
            }
        });
        // Who recreates waits for the last old pod to go.
        let this = self.clone();
        self.context.pods.on_change(move |old, new| {
            if let (Some(pod), None) = (old, new)
                && let Some(owner) = pods::controller(&pod.metadata)
                && let Some(set) = this.sets.get(
                    pod.metadata.namespace.as_deref().unwrap_or_default(),
                    &owner.name,
                )
            {
                this.queue_owner(&set);
            }
        });
    }

    fn queue_owner(&self, set: &ReplicaSet) {
        owners::queue_owner(&self.deployments, &self.queue, set, |deployment, set| {
            claim::selects(deployment.spec.as_ref().map(|s| &s.selector), set)
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(deployment) = self.deployments.get_key(key) else {
            return Ok(());
        };
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let selector = deployment
            .spec
            .as_ref()
            .and_then(|s| claim::selector(&s.selector));
        if selector
            .as_ref()
            .is_none_or(kube::core::Selector::selects_all)
        {
            let message =
                "This deployment is selecting all pods. A non-empty selector is required.";
            let about = client::reference(&*deployment);
            self.events
                .record(&about, EventType::Warning, "SelectingAll", message);
            return Ok(());
        }
        let claim = claim::claim(
            deployment.metadata.deletion_timestamp.is_some(),
            selector.as_ref(),
            self.owned_sets.get(uid),
            self.owned_sets.get(&orphans(&key.namespace)),
        );
        let sets = claim::execute(&self.context.client, &*deployment, claim).await?;
        let running = |set: &ReplicaSet| {
            let pods = self
                .context
                .pods_of(set.metadata.uid.as_deref().unwrap_or_default());
            pods.iter().any(|p| !pods::is_finished(p))
        };
        let plan = plan(&deployment, &sets, &running, Timestamp::now());
        self.execute(key, &deployment, plan).await
    }

    async fn execute(
        &self,
        key: &Key,
        deployment: &Deployment,
        plan: Plan,
    ) -> Result<(), WriteError> {
        let client = &self.context.client;
        let mut status = plan.status;
        if let Some(set) = plan.create {
            let name = set.metadata.name.clone().unwrap_or_default();
            match write::create(client, &key.namespace, &set).await {
                Ok(_) => info!(set = name, "created"),
                Err(error) if client::is_already_exists(&error) => {
                    return self.name_taken(deployment, &set).await;
                }
                Err(error) if client::is_namespace_terminating(&error) => return Ok(()),
                Err(error) => {
                    let message = format!(
                        "Failed to create new replica set \"{name}\": {}",
                        error.message()
                    );
                    status::set_progressing(
                        &mut status,
                        "False",
                        "ReplicaSetCreateError",
                        &message,
                        Timestamp::now(),
                    );
                    let mut changed = deployment.clone();
                    changed.status = Some(status);
                    write::update_status(client, deployment, &changed).await?;
                    return Err(error);
                }
            }
        }
        for (old, new) in &plan.updates {
            write::update(client, &**old, new).await?;
        }
        let about = client::reference(deployment);
        for message in plan.scaled {
            self.events
                .record(&about, EventType::Normal, "ScalingReplicaSet", message);
        }
        for set in &plan.delete {
            let key = Key::of(&**set);
            let params = DeleteParams::background();
            debug!(set = %key, "deleting: older than the history limit");
            write::delete::<ReplicaSet>(client, &key, set.metadata.uid.as_deref(), params).await?;
        }
        let mut current = deployment.clone();
        if let Some(revision) = plan.revision {
            let mut changed = current.clone();
            let annotations = changed.metadata.annotations.get_or_insert_default();
            annotations.insert(sets::REVISION.to_owned(), revision);
            if let Some(written) = write::updated(client, &current, &changed).await? {
                current = written;
            }
        }
        let mut changed = current.clone();
        changed.status = Some(status);
        match write::update_status(client, &current, &changed).await {
            Err(error) if client::is_not_found(&error) => return Ok(()),
            result => result?,
        };
        if let Some(delay) = plan.again {
            self.queue.add_after(key.clone(), delay);
        }
        Ok(())
    }

    /// There is a set of this name: ours, which the cache does not show yet, or another one, so
    /// that the next hash must differ.
    async fn name_taken(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
    ) -> Result<(), WriteError> {
        let client = &self.context.client;
        let Some(live) = write::read::<ReplicaSet>(
            client,
            &Key::new(
                deployment.metadata.namespace.as_deref().unwrap_or_default(),
                set.metadata.name.as_deref().unwrap_or_default(),
            ),
        )
        .await?
        else {
            self.queue.retry(Key::of(deployment));
            return Ok(());
        };
        if client::owner_uid(&live) == deployment.metadata.uid.as_deref()
            && sets::same_template(deployment, &live)
        {
            debug!("the cache does not show the new set yet");
            return Ok(());
        }
        let mut changed = deployment.clone();
        let status = changed.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
        info!(
            collisions = status.collision_count,
            "the name of the new set is taken"
        );
        write::update_status(client, deployment, &changed)
            .await
            .map(drop)
    }
}
