//! postStart and preStop hooks.
//!
//! Invariant: a hook never outlives its caller.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use runtime::Shim;

use crate::{
    exec::{self, Ended},
    probe::{http, http_target},
};

/// What lifecycle hooks call themselves.
const USER_AGENT: &str = "kube-lifecycle/1.36";

/// Runs a hook to its end; the error is what the event says. The caller bounds the time.
///
/// # Errors
/// When the command fails or the request gets no answer.
pub(crate) async fn run(
    hook: &LifecycleHandler,
    container: &Container,
    id: &str,
    shim: &Shim,
    ip: Option<IpAddr>,
) -> Result<(), String> {
    if let Some(action) = &hook.exec {
        let argv = action.command.clone().unwrap_or_default();
        let shown = argv.join(" ");
        return match exec::run(shim, id, argv, None).await {
            Ok(Ended::Exited(0, _)) => Ok(()),
            Ok(Ended::Exited(code, output)) => Err(format!(
                "Exec lifecycle hook ([{shown}]) for Container \"{}\" failed - error: command '{shown}' exited with {code}: {output}, message: {output:?}",
                container.name
            )),
            Ok(Ended::TimedOut) => Err("timed out".into()),
            Err(e) => Err(stdx::chain(&e)),
        };
    }
    if let Some(action) = &hook.http_get {
        let host = ip.map(|ip| ip.to_string()).unwrap_or_default();
        let target = http_target(action, container, &host)?;
        return http::get(&target, USER_AGENT).await.map(drop).map_err(|e| {
            format!(
                "HTTP lifecycle hook ({}) for Container \"{}\" failed - error: {e}",
                target.path, container.name
            )
        });
    }
    if let Some(action) = &hook.sleep {
        let secs = u64::try_from(action.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(secs)).await;
        return Ok(());
    }
    Err("invalid handler: no action".into())
}
