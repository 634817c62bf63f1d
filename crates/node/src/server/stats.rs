//! `/stats/summary` and `/metrics`.
//!
//! Invariant: numbers are read when they are asked for; nothing is sampled.

use std::{fmt::Write as _, sync::Arc};

use jiff::Timestamp;
use runtime::Usage;
use serde_json::{Value, json};

use super::Server;
use crate::host;

/// A running container and what it uses.
struct Reading {
    namespace: String,
    pod: String,
    uid: String,
    containers: Vec<(String, Usage)>,
    whole: Usage,
}

async fn readings(server: &Server) -> Vec<Reading> {
    let mut out = Vec::new();
    for pod in server.pods.informer.list() {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let Some(view) = server.pods.view(&uid) else {
            continue;
        };
        let view = Arc::clone(&view.borrow());
        let Some(shim) = &view.shim else { continue };
        let mut containers = Vec::new();
        for (name, c) in view.containers.iter().filter(|(_, c)| c.running) {
            if let Ok(usage) = shim.stats(&c.id).await {
                containers.push((name.clone(), usage));
            }
        }
        out.push(Reading {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            pod: pod.metadata.name.clone().unwrap_or_default(),
            uid,
            containers,
            whole: shim.pod_stats().await.unwrap_or_default(),
        });
    }
    out
}

fn cpu(usage: &Usage, now: &str) -> Value {
    json!({"time": now, "usageCoreNanoSeconds": usage.cpu_usage_ns})
}

fn memory(usage: &Usage, now: &str) -> Value {
    json!({
        "time": now,
        "usageBytes": usage.memory_usage_bytes,
        "workingSetBytes": usage.memory_working_set_bytes,
        "rssBytes": usage.memory_rss_bytes,
        "pageFaults": usage.memory_page_faults,
        "majorPageFaults": usage.memory_major_page_faults,
    })
}

/// The summary of node and pods.
pub(super) async fn summary(server: &Server) -> Value {
    let now = Timestamp::now().to_string();
    let pods: Vec<Value> = readings(server)
        .await
        .iter()
        .map(|r| {
            let containers: Vec<Value> = r
                .containers
                .iter()
                .map(|(name, u)| json!({"name": name, "startTime": now, "cpu": cpu(u, &now), "memory": memory(u, &now)}))
                .collect();
            json!({
                "podRef": {"name": r.pod, "namespace": r.namespace, "uid": r.uid},
                "startTime": now,
                "containers": containers,
                "cpu": cpu(&r.whole, &now),
                "memory": memory(&r.whole, &now),
                "process_stats": {"process_count": r.whole.pids_current},
            })
        })
        .collect();
    let (total, free) = host::disk(&server.shared.config.data_dir);
    let capacity = server.shared.capacity;
    json!({
        "node": {
            "nodeName": server.shared.config.node_name,
            "memory": {"time": now, "availableBytes": host::available_memory(), "usageBytes": capacity.memory_bytes - host::available_memory()},
            "fs": {"time": now, "capacityBytes": total, "availableBytes": free, "usedBytes": total - free},
        },
        "pods": pods,
    })
}

/// A few metrics in the Prometheus text format.
pub(super) async fn metrics(server: &Server) -> String {
    let readings = readings(server).await;
    let containers: usize = readings.iter().map(|r| r.containers.len()).sum();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# TYPE kubelet_running_pods gauge\nkubelet_running_pods {}",
        readings.len()
    );
    let _ = writeln!(
        out,
        "# TYPE kubelet_running_containers gauge\nkubelet_running_containers{{container_state=\"running\"}} {containers}"
    );
    let _ = writeln!(out, "# TYPE container_cpu_usage_seconds_total counter");
    for (r, name, u) in each(&readings) {
        if let Some(nanos) = u.cpu_usage_ns {
            let secs = std::time::Duration::from_nanos(nanos).as_secs_f64();
            let _ = writeln!(
                out,
                "container_cpu_usage_seconds_total{{container=\"{name}\",namespace=\"{}\",pod=\"{}\"}} {secs}",
                r.namespace, r.pod
            );
        }
    }
    let _ = writeln!(out, "# TYPE container_memory_working_set_bytes gauge");
    for (r, name, u) in each(&readings) {
        if let Some(bytes) = u.memory_working_set_bytes {
            let _ = writeln!(
                out,
                "container_memory_working_set_bytes{{container=\"{name}\",namespace=\"{}\",pod=\"{}\"}} {bytes}",
                r.namespace, r.pod
            );
        }
    }
    out
}

fn each(readings: &[Reading]) -> impl Iterator<Item = (&Reading, &String, &Usage)> {
    readings
        .iter()
        .flat_map(|r| r.containers.iter().map(move |(name, u)| (r, name, u)))
}
