//! Tests of `status`.

#![allow(clippy::unwrap_used, reason = "tests")]
use serde_json::{Value, json};

use super::*;
use crate::state::{CrashBackoff, Stop};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + secs).unwrap()
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 1}, "spec": spec}))
    .unwrap()
}

fn running(ready: bool) -> ContainerRecord {
    ContainerRecord {
        run: Run::Running { started_at: at(1) },
        started: true,
        ready,
        next_attempt: 1,
        begun: true,
        id: "abc".into(),
        ..ContainerRecord::default()
    }
}

fn exited(code: i32) -> ContainerRecord {
    let exit = Exit {
        code,
        reason: "Error".into(),
        message: None,
        started_at: Some(at(1)),
        finished_at: at(2),
        id: "abc".into(),
    };
    ContainerRecord {
        run: Run::Exited(exit),
        next_attempt: 1,
        begun: true,
        ..ContainerRecord::default()
    }
}

fn state(containers: &[(&str, ContainerRecord)]) -> PodState {
    PodState {
        sandbox: Step::Done,
        volumes: Step::Done,
        ips: vec!["10.1.0.2".parse().unwrap()],
        containers: containers
            .iter()
            .map(|(n, r)| ((*n).to_owned(), r.clone()))
            .collect(),
        start_time: Some(at(0)),
        ..PodState::default()
    }
}

fn summary(status: &PodStatus) -> String {
    let conditions: Vec<String> = status
        .conditions
        .iter()
        .flatten()
        .filter(|c| c.type_ != "PodScheduled")
        .map(|c| {
            format!(
                "{}={}{}",
                c.type_,
                c.status,
                c.reason
                    .as_deref()
                    .map(|r| format!("({r})"))
                    .unwrap_or_default()
            )
        })
        .collect();
    let states: Vec<String> = status
        .container_statuses
        .iter()
        .flatten()
        .map(|c| {
            let s = c.state.as_ref().unwrap();
            let reason = s
                .waiting
                .as_ref()
                .and_then(|w| w.reason.clone())
                .or_else(|| s.terminated.as_ref().and_then(|t| t.reason.clone()))
                .unwrap_or_else(|| "running".into());
            format!(
                "{}:{reason}:{}",
                c.name,
                if c.ready { "ready" } else { "unready" }
            )
        })
        .collect();
    format!(
        "{} {} {}",
        status.phase.as_deref().unwrap(),
        states.join(","),
        conditions.join(" ")
    )
}

#[test]
fn phases_and_conditions() {
    let two = json!({"containers": [{"name": "b"}, {"name": "a"}]});
    let never = json!({"restartPolicy": "Never", "containers": [{"name": "a"}]});
    let init = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let stopped = |mut s: PodState| {
        s.stop = Some(Stop {
            grace_secs: 1,
            reason: None,
            message: None,
        });
        s
    };
    let mut looping = exited(1);
    looping.backoff = CrashBackoff::default().next(at(1));
    let table = [
        (
            &two,
            PodState::default(),
            "Pending a:ContainerCreating:unready,b:ContainerCreating:unready PodReadyToStartContainers=False Initialized=True Ready=False(ContainersNotReady) ContainersReady=False(ContainersNotReady)",
        ),
        (
            &two,
            state(&[("a", running(true)), ("b", running(true))]),
            "Running a:running:ready,b:running:ready PodReadyToStartContainers=True Initialized=True Ready=True ContainersReady=True",
        ),
        (
            &two,
            state(&[("a", running(true)), ("b", running(false))]),
            "Running a:running:ready,b:running:unready PodReadyToStartContainers=True Initialized=True Ready=False(ContainersNotReady) ContainersReady=False(ContainersNotReady)",
        ),
        (
            &two,
            state(&[("a", running(true)), ("b", looping)]),
            "Running a:running:ready,b:CrashLoopBackOff:unready PodReadyToStartContainers=True Initialized=True Ready=False(ContainersNotReady) ContainersReady=False(ContainersNotReady)",
        ),
        (
            &init,
            state(&[("i", running(true))]),
            "Pending a:PodInitializing:unready PodReadyToStartContainers=True Initialized=False(ContainersNotInitialized) Ready=False(ContainersNotReady) ContainersReady=False(ContainersNotReady)",
        ),
        (
            &never,
            state(&[("a", exited(0))]),
            "Succeeded a:Error:unready PodReadyToStartContainers=True Initialized=True(PodCompleted) Ready=False(PodCompleted) ContainersReady=False(PodCompleted)",
        ),
        (
            &never,
            state(&[("a", exited(1))]),
            "Failed a:Error:unready PodReadyToStartContainers=True Initialized=True Ready=False(PodFailed) ContainersReady=False(PodFailed)",
        ),
        (
            &two,
            stopped(state(&[("a", exited(0)), ("b", exited(0))])),
            "Succeeded a:Error:unready,b:Error:unready PodReadyToStartContainers=True Initialized=True(PodCompleted) Ready=False(PodCompleted) ContainersReady=False(PodCompleted)",
        ),
        (
            &two,
            stopped(state(&[("a", exited(143)), ("b", exited(0))])),
            "Failed a:Error:unready,b:Error:unready PodReadyToStartContainers=True Initialized=True Ready=False(PodFailed) ContainersReady=False(PodFailed)",
        ),
        (
            &two,
            stopped(state(&[("a", exited(143)), ("b", running(true))])),
            "Running a:Error:unready,b:running:ready PodReadyToStartContainers=True Initialized=True Ready=False(ContainersNotReady) ContainersReady=False(ContainersNotReady)",
        ),
    ];
    for (spec, state, want) in table {
        let got = status(
            &pod(spec.clone()),
            &state,
            &[],
            &PodStatus::default(),
            at(9),
        );
        assert_eq!(summary(&got), want);
    }
}

#[test]
fn transition_times_stay_and_the_patch_is_small() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let first = status(
        &pod,
        &state(&[("a", running(false))]),
        &[],
        &PodStatus::default(),
        at(1),
    );
    let second = status(&pod, &state(&[("a", running(true))]), &[], &first, at(5));
    let time = |s: &PodStatus, kind: &str| {
        let list = s.conditions.as_ref().unwrap();
        list.iter()
            .find(|c| c.type_ == kind)
            .unwrap()
            .last_transition_time
            .clone()
            .unwrap()
            .0
    };
    assert_eq!(time(&second, "Initialized"), at(1));
    assert_eq!(time(&second, "Ready"), at(5));
    let patch = write::patch("u", &first, &second).unwrap();
    let keys: Vec<&String> = patch["status"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["conditions", "containerStatuses"]);
    let ready = &patch["status"]["conditions"][0];
    assert_eq!(
        (&ready["type"], &ready["reason"]),
        (&json!("Ready"), &Value::Null)
    );
    assert!(ready.as_object().unwrap().contains_key("reason"));
    assert_eq!(write::patch("u", &second, &second), None);
}

#[test]
fn crash_loop_words() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut r = exited(1);
    r.backoff = CrashBackoff::after_restarts(4, at(1));
    let got = status(&pod, &state(&[("a", r)]), &[], &PodStatus::default(), at(2));
    let c = &got.container_statuses.unwrap()[0];
    let waiting = c.state.clone().unwrap().waiting.unwrap();
    assert_eq!(
        waiting.message.unwrap(),
        "back-off 1m20s restarting failed container=a pod=p_ns(u)"
    );
    assert_eq!(
        c.last_state.clone().unwrap().terminated.unwrap().exit_code,
        1
    );
}
