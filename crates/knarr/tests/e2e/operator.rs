//! A small operator, written as people write them: `kube` with its runtime, a custom resource with
//! status and scale, finalizers, server-side apply, owned objects.
//!
//! A `Fleet` of so many boats has a ConfigMap for each of them; when the Fleet goes, its finalizer
//! notes so before it is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::watcher;
use kube::{Client, CustomResource, CustomResourceExt as _, Resource as _, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use testkit::{Cluster, Options, eventually};

use crate::support::LIMIT;

const MANAGER: &str = "fleet-operator";
const FINALIZER: &str = "example.com/scuttle";
const FLEET: &str = "example.com/fleet";

#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug)]
#[kube(
    group = "example.com",
    version = "v1",
    kind = "Fleet",
    namespaced,
    status = "FleetStatus",
    shortname = "fl",
    scale(
        spec_replicas_path = ".spec.boats",
        status_replicas_path = ".status.afloat"
    ),
    printcolumn(name = "Boats", type_ = "integer", json_path = ".spec.boats"),
    validation = "self.metadata.name.size() < 20"
)]
struct FleetSpec {
    #[schemars(range(min = 0, max = 50))]
    boats: u32,
    #[serde(default)]
    flag: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default)]
struct FleetStatus {
    afloat: u32,
    observed_generation: i64,
}

#[derive(Debug, thiserror::Error)]
enum OperatorError {
    #[error("a call failed")]
    Kube(#[from] kube::Error),
    #[error("the finalizer failed: {0}")]
    Finalizer(String),
}

fn boat_name(fleet: &Fleet, n: u32) -> String {
    format!("{}-{n}", fleet.name_any())
}

async fn launch(client: &Client, fleet: &Fleet) -> Result<Action, OperatorError> {
    let namespace = fleet.namespace().unwrap_or_default();
    let boats: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let owner = fleet.controller_owner_ref(&());
    for n in 0..fleet.spec.boats {
        let name = boat_name(fleet, n);
        let boat = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(BTreeMap::from([(FLEET.to_owned(), fleet.name_any())])),
                owner_references: owner.clone().map(|o| vec![o]),
                ..ObjectMeta::default()
            },
            data: fleet
                .spec
                .flag
                .clone()
                .map(|flag| BTreeMap::from([("flag".to_owned(), flag)])),
            ..ConfigMap::default()
        };
        let apply = PatchParams::apply(MANAGER).force();
        boats.patch(&name, &apply, &Patch::Apply(&boat)).await?;
    }
    let of = ListParams::default().labels(&format!("{FLEET}={}", fleet.name_any()));
    let mut afloat = 0;
    for boat in boats.list(&of).await? {
        let name = boat.name_any();
        let number = name.rsplit('-').next().and_then(|n| n.parse::<u32>().ok());
        if number.is_some_and(|n| n < fleet.spec.boats) {
            afloat += 1;
        } else {
            boats.delete(&name, &DeleteParams::default()).await?;
        }
    }
    let fleets: Api<Fleet> = Api::namespaced(client.clone(), &namespace);
    let status = json!({"apiVersion": "example.com/v1", "kind": "Fleet", "status": {
        "afloat": afloat, "observed_generation": fleet.metadata.generation}});
    fleets
        .patch_status(
            &fleet.name_any(),
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(&status),
        )
        .await?;
    Ok(Action::await_change())
}

async fn scuttle(client: &Client, fleet: &Fleet) -> Result<Action, OperatorError> {
    let notes: Api<ConfigMap> =
        Api::namespaced(client.clone(), &fleet.namespace().unwrap_or_default());
    let note = ConfigMap {
        metadata: ObjectMeta {
            name: Some(format!("{}-scuttled", fleet.name_any())),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    notes.create(&PostParams::default(), &note).await?;
    Ok(Action::await_change())
}

async fn reconcile(fleet: Arc<Fleet>, client: Arc<Client>) -> Result<Action, OperatorError> {
    let api: Api<Fleet> =
        Api::namespaced((*client).clone(), &fleet.namespace().unwrap_or_default());
    finalizer(&api, FINALIZER, fleet, |event| async {
        match event {
            finalizer::Event::Apply(fleet) => launch(&client, &fleet).await,
            finalizer::Event::Cleanup(fleet) => scuttle(&client, &fleet).await,
        }
    })
    .await
    .map_err(|error| OperatorError::Finalizer(error.to_string()))
}

/// Runs the operator until it is aborted.
fn operate(client: Client, streaming: bool) -> tokio::task::JoinHandle<()> {
    let config = if streaming {
        watcher::Config::default().streaming_lists()
    } else {
        watcher::Config::default()
    };
    let fleets: Api<Fleet> = Api::default_namespaced(client.clone());
    let boats: Api<ConfigMap> = Api::default_namespaced(client.clone());
    tokio::spawn(
        Controller::new(fleets, config.clone())
            .owns(boats, config.labels(FLEET))
            .run(
                reconcile,
                |_, error, _| {
                    eprintln!("the operator: {error:?}");
                    Action::requeue(Duration::from_millis(200))
                },
                Arc::new(client),
            )
            .for_each(|_| std::future::ready(())),
    )
}

#[test]
fn a_fleet() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let client = cluster.client().await?;
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let apply = PatchParams::apply("test");
        definitions
            .patch("fleets.example.com", &apply, &Patch::Apply(Fleet::crd()))
            .await
            .context("the definition")?;
        let established = kube::runtime::conditions::is_crd_established();
        let wait =
            kube::runtime::wait::await_condition(definitions, "fleets.example.com", established);
        tokio::time::timeout(LIMIT, wait).await??;
        for streaming in [false, true] {
            sail(&client, streaming)
                .await
                .with_context(|| format!("streaming: {streaming}"))?;
        }
        Ok(())
    });
}

async fn sail(client: &Client, streaming: bool) -> Result<()> {
    let operator = operate(client.clone(), streaming);
    let fleets: Api<Fleet> = Api::default_namespaced(client.clone());
    let boats: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let name = if streaming { "streaming" } else { "listing" };
    let fleet = |boats: u32, flag: Option<&str>| {
        let spec = FleetSpec {
            boats,
            flag: flag.map(str::to_owned),
        };
        Fleet::new(name, spec)
    };
    let afloat = async |wanted: u32| {
        eventually(&format!("{wanted} boats"), LIMIT, async || {
            let fleet = fleets.get(name).await?;
            let status = fleet.status.clone().unwrap_or_default();
            let of = ListParams::default().labels(&format!("{FLEET}={name}"));
            let there = boats.list(&of).await?.items.len();
            ensure!(
                status.afloat == wanted
                    && there == wanted as usize
                    && Some(status.observed_generation) == fleet.metadata.generation,
                "{there} boats, {status:?}, generation {:?}",
                fleet.metadata.generation
            );
            Ok(fleet)
        })
        .await
    };
    let made = fleets
        .create(&PostParams::default(), &fleet(3, None))
        .await?;
    ensure!(made.metadata.generation == Some(1));
    let settled = afloat(3).await?;
    ensure!(settled.finalizers() == [FINALIZER]);
    // One boat sinks: it is replaced.
    boats
        .delete(&boat_name(&made, 1), &DeleteParams::default())
        .await?;
    eventually("the boat's successor", LIMIT, async || {
        Ok(boats.get(&boat_name(&made, 1)).await?)
    })
    .await?;
    // A change of the Fleet reaches its boats.
    let flagged = Patch::Merge(json!({"spec": {"flag": "red"}}));
    fleets
        .patch(name, &PatchParams::default(), &flagged)
        .await?;
    afloat(3).await?;
    eventually("the flag", LIMIT, async || {
        let data = boats
            .get(&boat_name(&made, 0))
            .await?
            .data
            .unwrap_or_default();
        ensure!(data.get("flag").is_some_and(|f| f == "red"), "{data:?}");
        Ok(())
    })
    .await?;
    // The scale subresource, as an autoscaler uses it.
    let scaled = Patch::Merge(json!({"spec": {"replicas": 1}}));
    let scale = fleets
        .patch_scale(name, &PatchParams::default(), &scaled)
        .await?;
    ensure!(scale.spec.and_then(|s| s.replicas) == Some(1));
    afloat(1).await?;
    let scale = fleets.get_scale(name).await?;
    ensure!(scale.status.map(|s| s.replicas) == Some(1));
    // Rules of the schema.
    let Err(kube::Error::Api(refused)) = fleets
        .create(&PostParams::default(), &fleet(51, None))
        .await
    else {
        bail!("51 boats were accepted");
    };
    ensure!(refused.code == 422 || refused.code == 409, "{refused:?}");
    let long = Fleet::new(
        "a-name-that-is-much-too-long",
        FleetSpec {
            boats: 51,
            flag: None,
        },
    );
    let Err(kube::Error::Api(refused)) = fleets.create(&PostParams::default(), &long).await else {
        bail!("a long name and 51 boats were accepted");
    };
    ensure!(refused.code == 422, "{refused:?}");
    ensure!(
        refused
            .message
            .contains("should be less than or equal to 50"),
        "{refused:?}"
    );
    // The end: finalizer, then the boats by the garbage collector.
    fleets.delete(name, &DeleteParams::default()).await?;
    eventually("the end", LIMIT, async || {
        ensure!(fleets.get_opt(name).await?.is_none(), "the fleet is there");
        boats.get(&format!("{name}-scuttled")).await?;
        let of = ListParams::default().labels(&format!("{FLEET}={name}"));
        let left = boats.list(&of).await?.items.len();
        ensure!(left == 0, "{left} boats are left");
        Ok(())
    })
    .await?;
    operator.abort();
    Ok(())
}
