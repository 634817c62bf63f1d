//! A small API server: lists and watches of what a test puts into it.

use bytes::Bytes;
use client::{Informers, in_process};
use http::{Request, Response};
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use kube_body::Body;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

mod kube_body {
    pub(crate) type Body = kube::client::Body;
}

#[derive(Default)]
struct State {
    version: u64,
    /// Collection path and object.
    objects: Vec<(String, Value)>,
    /// Version, collection path, line.
    log: Vec<(u64, String, String)>,
    watchers: Vec<(String, UnboundedSender<String>)>,
}

/// The server. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Api(Arc<Mutex<State>>);

pub(crate) const SERVICES: &str = "/api/v1/services";
pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

impl Api {
    /// Creates or replaces an object.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let same = |o: &Value| {
            o["metadata"]["name"] == object["metadata"]["name"]
                && o["metadata"]["namespace"] == object["metadata"]["namespace"]
        };
        let old = state.objects.iter().position(|(p, o)| p == path && same(o));
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        if let Some(old) = old {
            state.objects.remove(old);
        }
        state.objects.push((path.into(), object.clone()));
        state.publish(path, kind, &object);
    }

    pub(crate) fn delete(&self, path: &str, name: &str) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        let at = state
            .objects
            .iter()
            .position(|(p, o)| p == path && o["metadata"]["name"] == name);
        let (_, mut object) = state.objects.remove(at.unwrap());
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.publish(path, "DELETED", &object);
    }

    /// A Service of namespace `ns`.
    pub(crate) fn service(&self, name: &str, spec: Value) {
        self.put(
            SERVICES,
            json!({ "metadata": { "namespace": "ns", "name": name }, "spec": spec }),
        );
    }

    /// The only slice of a Service of namespace `ns`: endpoints as `ADDRESS[/HOSTNAME][!]`
    /// (not ready), ports as `NAME:NUMBER[/PROTOCOL]`.
    pub(crate) fn slice(&self, service: &str, ports: &[&str], endpoints: &[&str]) {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|text| {
                let ready = !text.ends_with('!');
                let (ip, hostname) = text.trim_end_matches('!').split_once('/').map_or((text.trim_end_matches('!'), None), |(i, h)| (i, Some(h)));
                json!({ "addresses": [ip], "hostname": hostname, "nodeName": "here", "conditions": { "ready": ready } })
            })
            .collect();
        let ports: Vec<Value> = ports
            .iter()
            .map(|text| {
                let (name, number) = text.split_once(':').unwrap();
                let (number, protocol) = number.split_once('/').unwrap_or((number, "TCP"));
                json!({ "name": name, "port": number.parse::<u16>().unwrap(), "protocol": protocol })
            })
            .collect();
        self.put(SLICES, json!({
            "metadata": { "namespace": "ns", "name": format!("{service}-x"), "labels": { "kubernetes.io/service-name": service } },
            "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
        }));
    }

    /// Caches that are filled from here.
    pub(crate) fn informers(&self, drain: &CancellationToken) -> Informers {
        let state = self.0.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let response = State::answer(&state, request.uri());
            async move { Ok::<_, Infallible>(response) }
        });
        Informers::new(in_process(service), drain.clone())
    }
}

impl State {
    fn publish(&mut self, path: &str, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({ "type": kind, "object": object }));
        self.log.push((self.version, path.into(), line.clone()));
        self.watchers
            .retain(|(p, w)| p != path || w.send(line.clone()).is_ok());
    }

    fn answer(
        state: &Mutex<State>,
        uri: &http::Uri,
    ) -> Response<Either<Full<Bytes>, Channel<Bytes>>> {
        let mut state = state.lock().unwrap();
        let (path, query) = (
            uri.path().trim_end_matches('?'),
            uri.query().unwrap_or_default(),
        );
        if !query.contains("watch=true") {
            let items: Vec<&Value> = state
                .objects
                .iter()
                .filter(|(p, _)| p == path)
                .map(|(_, o)| o)
                .collect();
            let list = json!({ "metadata": { "resourceVersion": state.version.to_string() }, "items": items });
            return Response::new(Either::Left(Full::from(list.to_string())));
        }
        let after = query
            .split('&')
            .find_map(|p| p.strip_prefix("resourceVersion="))
            .unwrap();
        let after: u64 = after.parse().unwrap();
        let (lines, mut sent) = unbounded_channel();
        for (_, _, line) in state.log.iter().filter(|(v, p, _)| *v > after && p == path) {
            lines.send(line.clone()).unwrap();
        }
        state.watchers.push((path.into(), lines));
        let (mut body, channel) = Channel::new(16);
        tokio::spawn(async move {
            while let Some(line) = sent.recv().await {
                if body.send_data(Bytes::from(line)).await.is_err() {
                    return;
                }
            }
        });
        Response::new(Either::Right(channel))
    }
}
