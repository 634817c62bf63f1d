//! `ka.req.pod.containers` fields: what the containers of a pod in a request are to be.

use rules::Values;
use rules::fields::FieldId as F;
use serde_json::Value as Json;

use super::extract::{at, push, texts, walk, write_text};

/// The containers of a request: all, or the one of an index.
pub(super) struct Containers<'a> {
    pub(super) json: &'a Json,
    pub(super) list: &'static str,
    pub(super) index: Option<usize>,
}

/// Pushes the values of a field, and says whether there is code for it.
pub(super) fn field<'a>(of: &Containers<'a>, field: F, out: &mut Values<'a>) -> bool {
    let all = |keys: &[&str], out: &mut Values<'a>| of.each(keys, out);
    match field {
        F::KaReqPodContainersArgs => of.joined("args", out),
        F::KaReqPodContainersCommand => of.joined("command", out),
        // A container without a name or an image leaves all without.
        F::KaReqPodContainersName => of.whole("name", |name, out| push(name, out), out),
        F::KaReqPodContainersImage => of.whole("image", |image, out| push(image, out), out),
        F::KaReqPodContainersImageRepository => of.whole("image", repository, out),
        F::KaReqContainerImage => of
            .first()
            .whole("image", |image, out| push(image, out), out),
        F::KaReqContainerImageRepository => of.first().whole("image", repository, out),
        F::KaReqPodContainersHostPort => of.host_ports(out),
        F::KaReqPodContainersPrivileged => all(&["securityContext", "privileged"], out),
        F::KaReqContainerPrivileged => {
            let mut any = false;
            let known = of.walk(&["securityContext", "privileged"], &mut |found| {
                any |= found.and_then(Json::as_bool).unwrap_or(false);
            });
            if known {
                out.text(if any { "true" } else { "false" });
            }
        }
        F::KaReqPodContainersAllowPrivilegeEscalation => {
            all(&["securityContext", "allowPrivilegeEscalation"], out);
        }
        F::KaReqPodContainersReadOnlyFs => {
            all(&["securityContext", "readOnlyRootFilesystem"], out);
        }
        F::KaReqPodContainersRunAsUser => all(&["securityContext", "runAsUser"], out),
        F::KaReqPodContainersRunAsGroup => all(&["securityContext", "runAsGroup"], out),
        F::KaReqPodContainersEffRunAsUser => of.effective("runAsUser", out),
        F::KaReqPodContainersEffRunAsGroup => of.effective("runAsGroup", out),
        F::KaReqPodContainersProcMount => all(&["securityContext", "procMount"], out),
        F::KaReqPodContainersAddCapabilities => {
            all(&["securityContext", "capabilities", "add"], out);
        }
        _ => return false,
    }
    true
}

/// An image without tag and digest, as upstream cuts it: at the first colon, a registry's port too.
fn repository<'a>(image: &'a Json, out: &mut Values<'a>) {
    let image = image.as_str().unwrap_or_default();
    let end = image.find([':', '@']).unwrap_or(image.len());
    out.text(image.get(..end).unwrap_or_default());
}

impl<'a> Containers<'a> {
    fn first(&self) -> Self {
        Self {
            index: Some(0),
            ..*self
        }
    }

    fn walk(&self, keys: &[&str], take: &mut dyn FnMut(Option<&'a Json>)) -> bool {
        let Some(list) = at(self.json, &["requestObject", "spec", self.list]) else {
            return false;
        };
        walk(list, self.index, keys, take)
    }

    fn each(&self, keys: &[&str], out: &mut Values<'a>) {
        if let Some(list) = at(self.json, &["requestObject", "spec", self.list]) {
            texts(list, self.index, keys, out);
        }
    }

    /// Pushes what every container has; nothing if one has it not.
    fn whole(&self, key: &str, push: fn(&'a Json, &mut Values<'a>), out: &mut Values<'a>) {
        let mut complete = true;
        self.walk(&[key], &mut |found| complete &= found.is_some());
        if complete {
            self.walk(&[key], &mut |found| {
                if let Some(found) = found {
                    push(found, out);
                }
            });
        }
    }

    /// Pushes lists of words, those of a container in one text.
    fn joined(&self, key: &str, out: &mut Values<'a>) {
        let mut sound = true;
        self.walk(&[key], &mut |found| {
            sound &= found.is_none_or(|found| {
                found
                    .as_array()
                    .is_some_and(|words| words.iter().all(Json::is_string))
            });
        });
        if !sound {
            return;
        }
        self.walk(&[key], &mut |found| {
            let Some(words) = found.and_then(Json::as_array) else {
                return;
            };
            out.write(|store| {
                for (place, word) in words.iter().filter_map(Json::as_str).enumerate() {
                    if place > 0 {
                        store.push(b' ');
                    }
                    store.extend_from_slice(word.as_bytes());
                }
            });
        });
    }

    /// Ports on the host; where none is given that of the container, which is the host's in its network.
    fn host_ports(&self, out: &mut Values<'a>) {
        self.walk(&["ports"], &mut |found| {
            for port in found.and_then(Json::as_array).into_iter().flatten() {
                if let Some(number) = port.get("hostPort").or_else(|| port.get("containerPort")) {
                    push(number, out);
                }
            }
        });
    }

    /// What a container has, or else the pod, or else 0. As upstream, both are looked for beside the
    /// fields and in the security context, which is where they are.
    fn effective(&self, key: &str, out: &mut Values<'a>) {
        let spec = ["requestObject", "spec"];
        let of_pod = at(self.json, &[spec[0], spec[1], "securityContext", key])
            .or_else(|| at(self.json, &[spec[0], spec[1], key]));
        self.walk(&[], &mut |container| {
            let items: &[Json] = match container {
                Some(Json::Array(items)) => items,
                Some(one) => std::slice::from_ref(one),
                None => &[],
            };
            for container in items
                .iter()
                .enumerate()
                .filter(|(place, _)| self.index.is_none_or(|index| index == *place))
                .map(|(_, container)| container)
            {
                let own = container
                    .get("securityContext")
                    .and_then(|context| context.get(key))
                    .or_else(|| container.get(key));
                match own.or(of_pod) {
                    Some(id) => out.write(|store| write_text(id, store)),
                    None => out.text("0"),
                }
            }
        });
    }
}
