//! Tests of `job`.

use super::*;
use serde_json::{Value, json};

fn job(spec: Value) -> Job {
    let mut all = json!({"template": {"spec": {"containers": [{"name": "c"}],
        "restartPolicy": "Never"}}, "parallelism": 2, "completions": 3, "backoffLimit": 1});
    for (name, value) in spec.as_object().unwrap() {
        all[name] = value.clone();
    }
    serde_json::from_value(
        json!({"metadata": {"name": "j", "namespace": "a", "uid": "j"},
        "spec": all}),
    )
    .unwrap()
}

/// A Job and its pods, with a server that does what is planned.
struct World {
    job: Job,
    pods: Vec<Pod>,
    made: u32,
    now: Timestamp,
}

impl World {
    fn new(spec: Value) -> Self {
        Self {
            job: job(spec),
            pods: Vec::new(),
            made: 0,
            now: Timestamp::now(),
        }
    }

    fn step(&mut self) {
        let pods: Vec<Arc<Pod>> = self.pods.iter().cloned().map(Arc::new).collect();
        let plan = plan(&self.job, &pods, Duration::ZERO, self.now);
        self.job.status = Some(plan.status);
        let named =
            |list: &[Arc<Pod>], p: &Pod| list.iter().any(|l| l.metadata.uid == p.metadata.uid);
        for pod in &mut self.pods {
            if named(&plan.untrack, pod) {
                pod.metadata.finalizers = None;
            }
        }
        self.pods.retain(|p| !named(&plan.delete, p));
        for index in plan.create {
            let mut pod = super::super::new_pod(&self.job, index);
            self.made += 1;
            pod.metadata.uid = Some(format!("u{}", self.made));
            pod.metadata.name = pod.metadata.uid.clone();
            self.pods.push(pod);
        }
    }

    fn settle(&mut self) {
        for _ in 0..6 {
            self.step();
        }
    }

    /// Ends the running pod with this number.
    fn end(&mut self, number: usize, code: i32) {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        self.pods[number].status = serde_json::from_value(json!({"phase": phase,
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]}))
        .unwrap();
        self.settle();
    }

    fn told(&self) -> String {
        let s = self.job.status.clone().unwrap();
        let n = |c: Option<i32>| c.unwrap_or(0);
        let conditions: Vec<String> = s
            .conditions
            .iter()
            .flatten()
            .filter(|c| c.status == "True")
            .map(|c| format!("{}:{}", c.type_, c.reason.as_deref().unwrap()))
            .collect();
        let (a, o, f) = (n(s.active), n(s.succeeded), n(s.failed));
        format!("{a} active {o} ok {f} failed {}", conditions.join(" "))
            .trim_end()
            .to_owned()
    }
}

#[test]
fn enough_successes_complete_and_too_many_failures_fail() {
    let mut world = World::new(json!({}));
    world.settle();
    assert_eq!(world.told(), "2 active 0 ok 0 failed");
    world.end(0, 0);
    assert_eq!(world.told(), "2 active 1 ok 0 failed");
    world.end(1, 1);
    assert_eq!(world.told(), "2 active 1 ok 1 failed");
    world.end(2, 0);
    assert_eq!(world.told(), "1 active 2 ok 1 failed");
    world.end(3, 0);
    assert_eq!(
        world.told(),
        "0 active 3 ok 1 failed SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached"
    );
    assert!(
        world.pods.iter().all(|p| !is_tracked(p)),
        "nothing is left tracked"
    );

    let mut world = World::new(json!({}));
    world.settle();
    world.end(0, 1);
    world.end(1, 1);
    assert_eq!(
        world.told(),
        "0 active 0 ok 2 failed FailureTarget:BackoffLimitExceeded Failed:BackoffLimitExceeded"
    );
}

#[test]
fn indexes_are_each_done_once() {
    let mut world = World::new(json!({"completionMode": "Indexed", "completions": 4,
        "parallelism": 4, "backoffLimitPerIndex": 1, "backoffLimit": null}));
    world.settle();
    assert_eq!(world.pods.len(), 4);
    world.end(0, 0);
    world.end(2, 0);
    world.end(3, 0);
    let indexes = |w: &World| w.job.status.clone().unwrap().completed_indexes.unwrap();
    assert_eq!(indexes(&world), "0,2,3");
    world.end(1, 1);
    assert_eq!(indexes::of(&world.pods[4]), Some(1), "tried again");
    world.end(4, 1);
    assert_eq!(
        world.told(),
        "0 active 3 ok 2 failed FailureTarget:FailedIndexes Failed:FailedIndexes"
    );
    assert_eq!(
        world.job.status.unwrap().failed_indexes.as_deref(),
        Some("1")
    );
}

#[test]
fn policies_decide_before_the_limit() {
    let rule = |action: &str| {
        json!({"rules": [{"action": action,
        "onExitCodes": {"operator": "In", "values": [42]}}]})
    };
    let mut world = World::new(json!({"podFailurePolicy": rule("FailJob")}));
    world.settle();
    world.end(0, 42);
    assert!(
        world.told().ends_with("Failed:PodFailurePolicy"),
        "{}",
        world.told()
    );
    let mut world = World::new(json!({"podFailurePolicy": rule("Ignore")}));
    world.settle();
    for number in 0..3 {
        world.end(number, 42);
    }
    assert_eq!(world.told(), "2 active 0 ok 0 failed");
    let mut world = World::new(json!({"completionMode": "Indexed", "parallelism": 3,
        "successPolicy": {"rules": [{"succeededIndexes": "1-2", "succeededCount": 1}]}}));
    world.settle();
    world.end(0, 0);
    assert_eq!(world.told(), "2 active 1 ok 0 failed");
    world.end(1, 0);
    assert!(
        world.told().ends_with("Complete:SuccessPolicy"),
        "{}",
        world.told()
    );
}

#[test]
fn a_suspended_job_has_no_pods_and_a_late_one_fails() {
    let mut world = World::new(json!({"suspend": true, "activeDeadlineSeconds": 5}));
    world.settle();
    assert_eq!(
        world.told(),
        "0 active 0 ok 0 failed Suspended:JobSuspended"
    );
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.settle();
    assert_eq!(world.told(), "2 active 0 ok 0 failed");
    world.job.spec.as_mut().unwrap().suspend = Some(true);
    world.settle();
    assert_eq!(
        (world.pods.len(), world.told()),
        (
            0,
            "0 active 0 ok 0 failed Suspended:JobSuspended".to_owned()
        )
    );
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.settle();
    world.now += SignedDuration::from_secs(6);
    world.settle();
    assert!(
        world.told().ends_with("Failed:DeadlineExceeded"),
        "{}",
        world.told()
    );
}

#[test]
fn sets_of_indexes_are_written_short() {
    for text in ["", "0", "0,1", "0-2", "0,2,3,5-9"] {
        assert_eq!(indexes::write(&indexes::parse(text, 100)), text);
    }
    assert_eq!(indexes::parse("1-4000000000,x,7-", 3).len(), 2);
}
