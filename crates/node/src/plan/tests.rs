//! Tests of `plan`.

#![allow(clippy::unwrap_used, reason = "tests")]
use serde_json::json;

use super::*;
use crate::state::{CrashBackoff, Stop};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + secs).unwrap()
}

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}),
    )
    .unwrap()
}

fn ready() -> ImageStep {
    ImageStep::Ready {
        id: "sha256:1".into(),
    }
}

fn exited(code: i32, secs: i64) -> Run {
    Run::Exited(Exit {
        code,
        reason: String::new(),
        message: None,
        started_at: None,
        finished_at: at(secs),
        id: "x".into(),
    })
}

fn record(image: ImageStep, run: Run) -> ContainerRecord {
    let begun = run != Run::Never;
    ContainerRecord {
        image,
        run,
        begun,
        next_attempt: u32::from(begun),
        ..ContainerRecord::default()
    }
}

fn prepared(containers: &[(&str, ContainerRecord)]) -> PodState {
    PodState {
        sandbox: Step::Done,
        volumes: Step::Done,
        containers: containers
            .iter()
            .map(|(n, r)| ((*n).to_owned(), r.clone()))
            .collect(),
        start_time: Some(at(0)),
        ..PodState::default()
    }
}

fn running() -> Run {
    Run::Running { started_at: at(0) }
}

fn two_init() -> Pod {
    pod(json!({
        "restartPolicy": "Always",
        "initContainers": [{"name": "i1"}, {"name": "side", "restartPolicy": "Always"}, {"name": "i2"}],
        "containers": [{"name": "a"}, {"name": "b"}],
    }))
}

#[test]
fn a_new_pod_does_everything_independent_at_once() {
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let got = plan(&pod, &PodState::default(), at(0)).actions;
    let want = [
        Action::LaunchSandbox,
        Action::PrepareVolumes,
        Action::Pull("a".into()),
        Action::Pull("b".into()),
    ];
    assert_eq!(got, want);
}

#[test]
fn init_containers_come_in_order_and_sidecars_stay() {
    let pod = two_init();
    let start = |name: &str| vec![Action::Start(name.into(), false)];
    let mut state = prepared(&[
        ("i1", record(ready(), Run::Never)),
        ("side", record(ready(), Run::Never)),
        ("i2", record(ready(), Run::Never)),
        ("a", record(ready(), Run::Never)),
        ("b", record(ready(), Run::Never)),
    ]);
    assert_eq!(plan(&pod, &state, at(0)).actions, start("i1"));
    state
        .containers
        .insert("i1".into(), record(ready(), exited(0, 1)));
    assert_eq!(plan(&pod, &state, at(1)).actions, start("side"));
    let mut side = record(ready(), running());
    state.containers.insert("side".into(), side.clone());
    assert_eq!(plan(&pod, &state, at(1)).actions, []);
    side.started = true;
    state.containers.insert("side".into(), side);
    assert_eq!(plan(&pod, &state, at(1)).actions, start("i2"));
    state
        .containers
        .insert("i2".into(), record(ready(), exited(0, 2)));
    assert_eq!(
        plan(&pod, &state, at(2)).actions,
        [
            Action::Start("a".into(), false),
            Action::Start("b".into(), false)
        ]
    );
    // Once the regular containers run, an init container is not run again, a sidecar is.
    state
        .containers
        .insert("a".into(), record(ready(), running()));
    state
        .containers
        .insert("b".into(), record(ready(), running()));
    state
        .containers
        .insert("side".into(), record(ready(), exited(0, 3)));
    assert_eq!(
        plan(&pod, &state, at(3)).actions,
        [Action::Start("side".into(), true)]
    );
}

#[test]
fn restart_policies() {
    let table = [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ];
    for (policy, code, restarts) in table {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
        let state = prepared(&[("a", record(ready(), exited(code, 0)))]);
        let got = plan(&pod, &state, at(0)).actions;
        let want = if restarts {
            Action::Start("a".into(), true)
        } else {
            Action::TearDown
        };
        assert_eq!(got, [want], "{policy} {code}");
        let want = (!restarts).then_some(if code == 0 {
            Outcome::Succeeded
        } else {
            Outcome::Failed
        });
        assert_eq!(outcome(&desired(&pod), &state), want, "{policy} {code}");
    }
}

#[test]
fn crash_loop_waits_doubles_and_forgets() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut backoff = CrashBackoff::default();
    let mut delays = Vec::new();
    for n in 0..8 {
        let mut r = record(ready(), exited(1, n));
        r.backoff = backoff;
        let state = prepared(&[("a", r)]);
        let got = plan(&pod, &state, at(n));
        match got.wake_at {
            Some(wake) => {
                assert_eq!(got.actions, []);
                delays.push(wake.duration_since(at(n)).as_secs());
                assert_eq!(
                    plan(&pod, &state, wake).actions,
                    [Action::Start("a".into(), true)]
                );
            }
            None => delays.push(0),
        }
        backoff = backoff.next(at(n));
    }
    assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(backoff.until(at(7 + 601)), None);
    assert_eq!(backoff.next(at(7 + 601)).delay_secs(), 10);
}

#[test]
fn a_failed_init_container_under_never_fails_the_pod() {
    let pod = pod(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    let state = prepared(&[("i", record(ready(), exited(3, 0)))]);
    assert_eq!(plan(&pod, &state, at(0)).actions, [Action::TearDown]);
    assert_eq!(outcome(&desired(&pod), &state), Some(Outcome::Failed));
}

#[test]
fn stopping_kills_regular_containers_then_sidecars_then_the_sandbox() {
    let pod = two_init();
    let mut side = record(ready(), running());
    side.started = true;
    let mut state = prepared(&[
        ("side", side),
        ("a", record(ready(), running())),
        ("b", record(ready(), running())),
    ]);
    state.stop = Some(Stop {
        grace_secs: 30,
        reason: None,
        message: None,
    });
    let kill = |n: &str| Action::Kill(n.into(), KillReason::Stop);
    assert_eq!(plan(&pod, &state, at(0)).actions, [kill("a"), kill("b")]);
    for name in ["a", "b"] {
        state.containers.get_mut(name).unwrap().stopping = true;
    }
    assert_eq!(plan(&pod, &state, at(0)).actions, []);
    for name in ["a", "b"] {
        state
            .containers
            .insert(name.into(), record(ready(), exited(143, 1)));
    }
    assert_eq!(plan(&pod, &state, at(1)).actions, [kill("side")]);
    state
        .containers
        .insert("side".into(), record(ready(), exited(143, 2)));
    assert_eq!(plan(&pod, &state, at(2)).actions, [Action::TearDown]);
    state.torn_down = true;
    assert_eq!(plan(&pod, &state, at(2)), Plan::default());
}

#[test]
fn an_unhealthy_container_is_killed_once() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let mut r = record(ready(), running());
    r.unhealthy = Some("w".into());
    let mut state = prepared(&[("a", r)]);
    let want = Action::Kill("a".into(), KillReason::Unhealthy("w".into()));
    assert_eq!(plan(&pod, &state, at(0)).actions, [want]);
    state.containers.get_mut("a").unwrap().stopping = true;
    assert_eq!(plan(&pod, &state, at(0)).actions, []);
}

#[test]
fn a_failed_pull_waits_for_its_time() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let image = ImageStep::Failed {
        reason: "ErrImagePull".into(),
        message: String::new(),
        flip_at: at(1),
        retry_at: at(10),
    };
    let state = prepared(&[("a", record(image, Run::Never))]);
    let got = plan(&pod, &state, at(0));
    assert_eq!((got.actions, got.wake_at), (vec![], Some(at(1))));
    assert_eq!(
        plan(&pod, &state, at(10)).actions,
        [Action::Pull("a".into())]
    );
}

#[test]
fn a_post_start_hook_holds_up_the_next_container() {
    let pod = pod(json!({"containers": [
        {"name": "a", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}, {"name": "b"}]}));
    let mut state = prepared(&[
        ("a", record(ready(), Run::Never)),
        ("b", record(ready(), Run::Never)),
    ]);
    assert_eq!(
        plan(&pod, &state, at(0)).actions,
        [Action::Start("a".into(), false)]
    );
    state
        .containers
        .insert("a".into(), record(ready(), Run::Starting));
    assert_eq!(plan(&pod, &state, at(0)).actions, []);
    state
        .containers
        .insert("a".into(), record(ready(), running()));
    assert_eq!(
        plan(&pod, &state, at(0)).actions,
        [Action::Start("b".into(), false)]
    );
}

#[test]
fn restart_rules_come_before_the_policy() {
    let pod = pod(
        json!({"restartPolicy": "Never", "containers": [{"name": "a",
        "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]}),
    );
    let want = [(42, Action::Start("a".into(), true)), (1, Action::TearDown)];
    for (code, want) in want {
        let state = prepared(&[("a", record(ready(), exited(code, 0)))]);
        assert_eq!(plan(&pod, &state, at(0)).actions, [want]);
    }
}
