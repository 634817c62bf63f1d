//! Tests of `deployment`.

use super::super::sets::template_hash;
use super::*;
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

fn deployment(replicas: i32, strategy: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "d", "generation": 1,
            "annotations": {"team": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "spec": {"replicas": replicas, "strategy": strategy, "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10, "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}},
                "spec": {"containers": [{"name": "c", "image": "one"}]}}},
    }))
    .unwrap()
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

fn set_image(deployment: &mut Deployment, image: &str) {
    let template = &mut deployment.spec.as_mut().unwrap().template;
    template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    deployment.metadata.generation = deployment.metadata.generation.map(|g| g + 1);
}

/// A cluster of one Deployment in which sets have as many pods as they ask for, and pods become
/// available one by one.
struct Cluster {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    now: Timestamp,
    /// No pod of this image ever becomes available.
    broken: &'static str,
    log: Vec<String>,
}

impl Cluster {
    fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            sets: Vec::new(),
            now: Timestamp::now(),
            broken: "-",
            log: Vec::new(),
        }
    }

    /// One plan and its writes; answers whether anything was written.
    fn step(&mut self) -> bool {
        let sets: Vec<Arc<ReplicaSet>> = self.sets.iter().cloned().map(Arc::new).collect();
        let running = |s: &ReplicaSet| s.status.as_ref().is_some_and(|s| s.replicas > 0);
        let plan = plan(&self.deployment, &sets, &running, self.now);
        let mut wrote = plan.create.is_some() || !plan.updates.is_empty();
        if let Some(mut set) = plan.create {
            self.now += SignedDuration::from_secs(1);
            set.metadata.creation_timestamp = Some(Time(self.now));
            set.metadata.uid = set.metadata.name.clone();
            self.sets.push(set);
        }
        for (old, new) in plan.updates {
            let at = self
                .sets
                .iter()
                .position(|s| s.metadata.name == old.metadata.name)
                .unwrap();
            self.sets[at] = new;
        }
        for set in plan.delete {
            self.sets.retain(|s| s.metadata.name != set.metadata.name);
            wrote = true;
        }
        if let Some(revision) = plan.revision {
            let annotations = self.deployment.metadata.annotations.as_mut().unwrap();
            annotations.insert(REVISION.to_owned(), revision);
        }
        self.log.extend(plan.scaled);
        wrote |= self.deployment.status.as_ref() != Some(&plan.status);
        self.deployment.status = Some(plan.status);
        wrote
    }

    /// The sets' controller: pods appear and go, at most `ready` more become available.
    fn pods(&mut self, mut ready: i32) -> bool {
        let before = self.sets.clone();
        for set in &mut self.sets {
            let wanted = set.spec.as_ref().unwrap().replicas.unwrap();
            let spec = set
                .spec
                .as_ref()
                .unwrap()
                .template
                .as_ref()
                .unwrap()
                .spec
                .as_ref()
                .unwrap();
            let works = spec.containers[0].image.as_deref() != Some(self.broken);
            let status = set.status.get_or_insert_default();
            status.replicas = wanted;
            let available = status.available_replicas.unwrap_or(0).min(wanted);
            let more = if works {
                ready.min(wanted - available)
            } else {
                0
            };
            ready -= more;
            status.available_replicas = Some(available + more);
            status.ready_replicas = status.available_replicas;
            status.observed_generation = set.metadata.generation;
        }
        before != self.sets
    }

    fn totals(&self) -> (i32, i32) {
        let total = self
            .sets
            .iter()
            .map(|s| s.spec.as_ref().unwrap().replicas.unwrap())
            .sum();
        let available = |s: &ReplicaSet| {
            let wanted = s.spec.as_ref().unwrap().replicas.unwrap();
            s.status
                .as_ref()
                .and_then(|s| s.available_replicas)
                .unwrap_or(0)
                .min(wanted)
        };
        (total, self.sets.iter().map(available).sum())
    }

    fn settle(&mut self, mut check: impl FnMut(i32, i32)) {
        for _ in 0..1000 {
            let wrote = self.step();
            let (total, available) = self.totals();
            check(total, available);
            if !self.pods(1) && !wrote {
                return;
            }
        }
        panic!("never settles: {:?}", self.log);
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets
            .iter()
            .map(|s| s.spec.as_ref().unwrap().replicas.unwrap())
            .collect()
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let conditions = self
            .deployment
            .status
            .as_ref()
            .unwrap()
            .conditions
            .clone()
            .unwrap();
        let c = conditions.into_iter().find(|c| c.type_ == kind).unwrap();
        (c.status, c.reason.unwrap())
    }
}

#[test]
fn a_rollout_keeps_its_limits_and_ends() {
    let table = [
        (10, json!("25%"), json!("25%"), 13, 8),
        (3, json!(1), json!(0), 4, 3),
        (4, json!(0), json!(1), 4, 3),
        (1, json!("25%"), json!("25%"), 2, 1),
        (5, json!(0), json!(0), 5, 4),
        (2, json!("100%"), json!("100%"), 4, 0),
    ];
    for (replicas, surge, unavailable, most, least) in table {
        let what = format!("{replicas} +{surge} -{unavailable}");
        let mut cluster = Cluster::new(deployment(replicas, rolling(surge, unavailable)));
        cluster.settle(|total, _| assert!(total <= most, "{what}"));
        assert_eq!(
            cluster.log.len(),
            1,
            "{what}: created in one go: {:?}",
            cluster.log
        );
        set_image(&mut cluster.deployment, "two");
        cluster.settle(|total, available| {
            assert!(total <= most, "{what}: {total} pods");
            assert!(available >= least, "{what}: {available} available");
        });
        assert_eq!(cluster.sizes(), [0, replicas], "{what}");
        assert_eq!(
            cluster.condition("Progressing"),
            ("True".into(), "NewReplicaSetAvailable".into())
        );
        let annotations = cluster.deployment.metadata.annotations.clone().unwrap();
        assert_eq!(annotations[REVISION], "2", "{what}");
        // Back to the first template: its set is used again under a new revision.
        set_image(&mut cluster.deployment, "one");
        cluster.settle(|_, _| {});
        assert_eq!(cluster.sizes(), [replicas, 0], "{what}");
        let first = cluster.sets[0].metadata.annotations.as_ref().unwrap();
        assert_eq!(first[REVISION], "3", "{what}");
        assert_eq!(
            first["deployment.kubernetes.io/revision-history"], "1",
            "{what}"
        );
        assert_eq!(first.get("team").map(String::as_str), Some("x"), "{what}");
        assert!(
            !first.contains_key("kubectl.kubernetes.io/last-applied-configuration"),
            "{what}"
        );
    }
}

#[test]
fn recreation_waits_until_the_old_pods_have_ended() {
    let mut cluster = Cluster::new(deployment(3, json!({"type": "Recreate"})));
    cluster.settle(|_, _| {});
    set_image(&mut cluster.deployment, "two");
    cluster.step();
    assert_eq!(cluster.sizes(), [0], "the old ones go first");
    cluster.step();
    assert_eq!(cluster.sizes(), [0], "their pods still run");
    cluster.settle(|total, _| assert!(total <= 3));
    assert_eq!(cluster.sizes(), [0, 3]);
    set_image(&mut cluster.deployment, "one");
    cluster.step();
    cluster.step();
    assert_eq!(cluster.sizes(), [0, 0], "a set that is there waits as well");
    cluster.settle(|_, _| {});
    assert_eq!(cluster.sizes(), [3, 0]);
}

#[test]
fn scaling_during_a_rollout_is_shared_in_proportion() {
    let mut cluster = Cluster::new(deployment(10, rolling(json!(3), json!(2))));
    cluster.settle(|_, _| {});
    cluster.broken = "two";
    set_image(&mut cluster.deployment, "two");
    cluster.settle(|_, _| {});
    assert_eq!(cluster.sizes(), [8, 5]);
    let spec = cluster.deployment.spec.as_mut().unwrap();
    spec.replicas = Some(15);
    cluster.step();
    // 18 pods are allowed; the shares of the five new ones: 3 and 2.
    assert_eq!(cluster.sizes(), [11, 7]);
    cluster.deployment.spec.as_mut().unwrap().replicas = Some(5);
    cluster.step();
    assert_eq!(
        cluster.sizes().iter().sum::<i32>(),
        8,
        "{:?}",
        cluster.sizes()
    );
    cluster.deployment.spec.as_mut().unwrap().replicas = Some(0);
    cluster.settle(|_, _| {});
    assert_eq!(cluster.sizes(), [0, 0]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut cluster = Cluster::new(deployment(2, rolling(json!(1), json!(0))));
    cluster.settle(|_, _| {});
    cluster.deployment.spec.as_mut().unwrap().paused = Some(true);
    set_image(&mut cluster.deployment, "two");
    cluster.deployment.spec.as_mut().unwrap().replicas = Some(4);
    cluster.settle(|_, _| {});
    assert_eq!(cluster.sizes(), [4]);
    assert_eq!(
        cluster.condition("Progressing"),
        ("Unknown".into(), "DeploymentPaused".into())
    );
    cluster.deployment.spec.as_mut().unwrap().paused = None;
    cluster.settle(|_, _| {});
    assert_eq!(cluster.sizes(), [0, 4]);
    assert_eq!(
        cluster.condition("Progressing"),
        ("True".into(), "NewReplicaSetAvailable".into())
    );
}

#[test]
fn a_stuck_rollout_is_told_after_its_deadline_and_history_is_bounded() {
    let mut cluster = Cluster::new(deployment(1, rolling(json!(1), json!(0))));
    cluster.settle(|_, _| {});
    cluster.broken = "bad";
    set_image(&mut cluster.deployment, "bad");
    cluster.settle(|_, _| {});
    assert_eq!(cluster.condition("Progressing").0, "True");
    assert_eq!(cluster.condition("Available").0, "True");
    cluster.now += SignedDuration::from_secs(601);
    cluster.step();
    assert_eq!(
        cluster.condition("Progressing"),
        ("False".into(), "ProgressDeadlineExceeded".into())
    );
    cluster
        .deployment
        .spec
        .as_mut()
        .unwrap()
        .revision_history_limit = Some(2);
    for image in ["three", "four", "five", "six"] {
        set_image(&mut cluster.deployment, image);
        cluster.settle(|_, _| {});
    }
    assert_eq!(cluster.sets.len(), 3);
    assert_eq!(cluster.sizes(), [0, 0, 1]);
}

#[test]
fn the_hash_names_a_template() {
    let one = deployment(1, json!({}));
    let mut two = one.clone();
    set_image(&mut two, "two");
    let hash = |d: &Deployment, c| template_hash(&d.spec.as_ref().unwrap().template, c);
    assert_eq!(hash(&one, None), hash(&one, None));
    assert_ne!(hash(&one, None), hash(&two, None));
    assert_ne!(hash(&one, None), hash(&one, Some(1)));
    assert!(
        hash(&one, None)
            .chars()
            .all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c))
    );
}
