//! Services, endpoints, ingresses, network policies.

use serde_json::Value;

use super::{AGE, NAME, Printer, Row, SELECTOR, field, first_three, or_none, text};

const SERVICE: Printer = Printer {
    columns: &[
        NAME,
        text("Type"),
        text("Cluster-IP"),
        text("External-IP"),
        text("Port(s)"),
        AGE,
        SELECTOR,
    ],
    cells: |row| {
        let cluster_ip = match row.text("/spec/clusterIPs/0") {
            "" => row.text_or("/spec/clusterIP", "<none>"),
            ip => ip.into(),
        };
        vec![
            row.name(),
            row.text("/spec/type").into(),
            cluster_ip,
            external_ip(row).into(),
            service_ports(row).into(),
            row.age(),
            row.labels("/spec/selector").into(),
        ]
    },
};

fn strings(items: &[Value]) -> Vec<String> {
    items
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Addresses that a load balancer gave.
fn ingress_points(row: &Row<'_>) -> Vec<String> {
    let address = |i: &Value| match field(i, "ip") {
        "" => field(i, "hostname").to_owned(),
        ip => ip.to_owned(),
    };
    let points = row.list("/status/loadBalancer/ingress").iter().map(address);
    points.filter(|p| !p.is_empty()).collect()
}

fn external_ip(row: &Row<'_>) -> String {
    let given = strings(row.list("/spec/externalIPs"));
    match row.text("/spec/type") {
        "ClusterIP" | "NodePort" => or_none(given.join(",")),
        "LoadBalancer" => {
            let mut all = ingress_points(row);
            all.extend(given);
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        "ExternalName" => row.text("/spec/externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn service_ports(row: &Row<'_>) -> String {
    let one = |port: &Value| {
        let number = |key: &str| port.get(key).and_then(Value::as_i64).unwrap_or_default();
        let protocol = field(port, "protocol");
        match number("nodePort") {
            0 => format!("{}/{protocol}", number("port")),
            node => format!("{}:{node}/{protocol}", number("port")),
        }
    };
    or_none(
        row.list("/spec/ports")
            .iter()
            .map(one)
            .collect::<Vec<_>>()
            .join(","),
    )
}

const ENDPOINTS: Printer = Printer {
    columns: &[NAME, text("Endpoints"), AGE],
    cells: |row| vec![row.name(), endpoints(row).into(), row.age()],
};

fn endpoints(row: &Row<'_>) -> String {
    let mut all = Vec::new();
    for subset in row.list("/subsets") {
        let part = |key: &str| {
            subset
                .get(key)
                .and_then(Value::as_array)
                .map_or(&[][..], Vec::as_slice)
        };
        let (addresses, ports) = (part("addresses"), part("ports"));
        for address in addresses.iter().map(|a| field(a, "ip")) {
            if ports.is_empty() {
                all.push(address.to_owned());
            }
            for port in ports {
                let port = port.get("port").and_then(Value::as_i64).unwrap_or_default();
                all.push(if address.contains(':') {
                    format!("[{address}]:{port}")
                } else {
                    format!("{address}:{port}")
                });
            }
        }
    }
    first_three(&all, "<none>")
}

const ENDPOINT_SLICE: Printer = Printer {
    columns: &[
        NAME,
        text("AddressType"),
        text("Ports"),
        text("Endpoints"),
        AGE,
    ],
    cells: |row| {
        let port = |p: &Value| match p.get("port").and_then(Value::as_i64) {
            Some(number) => number.to_string(),
            None if !field(p, "name").is_empty() => field(p, "name").to_owned(),
            None => "*".to_owned(),
        };
        let ports: Vec<String> = row.list("/ports").iter().map(port).collect();
        let addresses = row
            .list("/endpoints")
            .iter()
            .filter_map(|e| e.get("addresses").and_then(Value::as_array));
        let addresses: Vec<String> = addresses.flat_map(|a| strings(a)).collect();
        vec![
            row.name(),
            row.text("/addressType").into(),
            first_three(&ports, "<unset>").into(),
            first_three(&addresses, "<unset>").into(),
            row.age(),
        ]
    },
};

const INGRESS: Printer = Printer {
    columns: &[
        NAME,
        text("Class"),
        text("Hosts"),
        text("Address"),
        text("Ports"),
        AGE,
    ],
    cells: |row| {
        let hosts = row
            .list("/spec/rules")
            .iter()
            .map(|r| field(r, "host"))
            .filter(|h| !h.is_empty());
        let hosts: Vec<String> = hosts.map(str::to_owned).collect();
        vec![
            row.name(),
            row.text_or("/spec/ingressClassName", "<none>"),
            first_three(&hosts, "*").into(),
            ingress_points(row).join(",").into(),
            if row.count("/spec/tls") > 0 {
                "80, 443"
            } else {
                "80"
            }
            .into(),
            row.age(),
        ]
    },
};

const INGRESS_CLASS: Printer = Printer {
    columns: &[NAME, text("Controller"), text("Parameters"), AGE],
    cells: |row| {
        let parameters = match (
            row.text("/spec/parameters/kind"),
            row.text("/spec/parameters/apiGroup"),
        ) {
            ("", _) => "<none>".to_owned(),
            (kind, "") => format!("{kind}/{}", row.text("/spec/parameters/name")),
            (kind, group) => format!("{kind}.{group}/{}", row.text("/spec/parameters/name")),
        };
        vec![
            row.name(),
            row.text("/spec/controller").into(),
            parameters.into(),
            row.age(),
        ]
    },
};

const NETWORK_POLICY: Printer = Printer {
    columns: &[NAME, text("Pod-Selector"), AGE],
    cells: |row| {
        vec![
            row.name(),
            row.selector("/spec/podSelector").into(),
            row.age(),
        ]
    },
};

const IP_ADDRESS: Printer = Printer {
    columns: &[NAME, text("ParentRef")],
    cells: |row| {
        let parts = ["resource", "namespace", "name"]
            .map(|key| row.text(&format!("/spec/parentRef/{key}")));
        vec![
            row.name(),
            parts
                .into_iter()
                .filter(|p| !p.is_empty())
                .collect::<Vec<_>>()
                .join("/")
                .into(),
        ]
    },
};

const SERVICE_CIDR: Printer = Printer {
    columns: &[NAME, text("CIDRs"), AGE],
    cells: |row| {
        vec![
            row.name(),
            strings(row.list("/spec/cidrs")).join(",").into(),
            row.age(),
        ]
    },
};

pub(super) fn core(plural: &str) -> Option<&'static Printer> {
    match plural {
        "services" => Some(&SERVICE),
        "endpoints" => Some(&ENDPOINTS),
        _ => None,
    }
}

pub(super) fn printer(plural: &str) -> Option<&'static Printer> {
    Some(match plural {
        "endpointslices" => &ENDPOINT_SLICE,
        "ingresses" => &INGRESS,
        "ingressclasses" => &INGRESS_CLASS,
        "networkpolicies" => &NETWORK_POLICY,
        "ipaddresses" => &IP_ADDRESS,
        "servicecidrs" => &SERVICE_CIDR,
        _ => return None,
    })
}
