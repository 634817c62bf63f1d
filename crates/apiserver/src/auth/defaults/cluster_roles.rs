//! The ClusterRoles for people and for the parts of a cluster, as facts.

use super::table::{ALL, READ, RoleFacts, WRITE, role, rule, urls};

/// In upstream's order: by name.
pub(super) const CLUSTER_ROLES: &[RoleFacts] = &[
    role("admin", &[]).gathers("admin"),
    role("cluster-admin", &[rule("*", "*", "*"), urls("*", "*")]),
    role("edit", &[]).feeds("admin").gathers("edit"),
    role(
        "system:aggregate-to-admin",
        &[
            rule(
                "create",
                "authorization.k8s.io",
                "localsubjectaccessreviews",
            ),
            rule(ALL, "rbac.authorization.k8s.io", "rolebindings,roles"),
        ],
    )
    .feeds("admin"),
    role(
        "system:aggregate-to-edit",
        &[
            rule(
                READ,
                "",
                "pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy",
            ),
            rule("impersonate", "", "serviceaccounts"),
            rule(
                WRITE,
                "",
                "pods,pods/attach,pods/exec,pods/portforward,pods/proxy",
            ),
            rule("create", "", "pods/eviction"),
            rule(
                WRITE,
                "",
                "configmaps,persistentvolumeclaims,replicationcontrollers,\
replicationcontrollers/scale,secrets,serviceaccounts,services,\
services/proxy",
            ),
            rule("create", "", "serviceaccounts/token"),
            rule(WRITE, ",events.k8s.io", "events"),
            rule(
                WRITE,
                "apps",
                "daemonsets,deployments,deployments/rollback,deployments/scale,\
replicasets,replicasets/scale,statefulsets,statefulsets/scale",
            ),
            rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
            rule(WRITE, "batch", "cronjobs,jobs"),
            rule(
                WRITE,
                "extensions",
                "daemonsets,deployments,deployments/rollback,deployments/scale,ingresses,\
networkpolicies,replicasets,replicasets/scale,\
replicationcontrollers/scale",
            ),
            rule(WRITE, "policy", "poddisruptionbudgets"),
            rule(WRITE, "networking.k8s.io", "ingresses,networkpolicies"),
            rule(ALL, "coordination.k8s.io", "leases"),
            rule(
                WRITE,
                "resource.k8s.io",
                "resourceclaims,resourceclaimtemplates",
            ),
        ],
    )
    .feeds("edit"),
    role(
        "system:aggregate-to-view",
        &[
            rule(
                READ,
                "",
                "configmaps,endpoints,persistentvolumeclaims,\
persistentvolumeclaims/status,pods,replicationcontrollers,\
replicationcontrollers/scale,serviceaccounts,services,services/status",
            ),
            rule(
                READ,
                "",
                "bindings,limitranges,namespaces/status,pods/log,pods/status,\
replicationcontrollers/status,resourcequotas,resourcequotas/status",
            ),
            rule(READ, "", "namespaces"),
            rule(READ, ",events.k8s.io", "events"),
            rule(READ, "discovery.k8s.io", "endpointslices"),
            rule(
                READ,
                "apps",
                "controllerrevisions,daemonsets,daemonsets/status,deployments,\
deployments/scale,deployments/status,replicasets,replicasets/scale,\
replicasets/status,statefulsets,statefulsets/scale,statefulsets/status",
            ),
            rule(
                READ,
                "autoscaling",
                "horizontalpodautoscalers,horizontalpodautoscalers/status",
            ),
            rule(READ, "batch", "cronjobs,cronjobs/status,jobs,jobs/status"),
            rule(
                READ,
                "extensions",
                "daemonsets,daemonsets/status,deployments,deployments/scale,\
deployments/status,ingresses,ingresses/status,networkpolicies,\
replicasets,replicasets/scale,replicasets/status,\
replicationcontrollers/scale",
            ),
            rule(
                READ,
                "policy",
                "poddisruptionbudgets,poddisruptionbudgets/status",
            ),
            rule(
                READ,
                "networking.k8s.io",
                "ingresses,ingresses/status,networkpolicies",
            ),
            rule(
                READ,
                "resource.k8s.io",
                "resourceclaims,resourceclaims/status,resourceclaimtemplates",
            ),
        ],
    )
    .feeds("view"),
    role(
        "system:auth-delegator",
        &[
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    role(
        "system:basic-user",
        &[
            rule(
                "create",
                "authorization.k8s.io",
                "selfsubjectaccessreviews,selfsubjectrulesreviews",
            ),
            rule("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[rule(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/nodeclient",
        )],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[rule(
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests/selfnodeclient",
        )],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[rule("approve", "certificates.k8s.io", "signers")
            .only("kubernetes.io/kube-apiserver-client")],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[rule("approve", "certificates.k8s.io", "signers")
            .only("kubernetes.io/kube-apiserver-client-kubelet")],
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[rule("approve", "certificates.k8s.io", "signers").only("kubernetes.io/kubelet-serving")],
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[rule("approve", "certificates.k8s.io", "signers").only("kubernetes.io/legacy-unknown")],
    ),
    role(
        "system:discovery",
        &[urls(
            "get",
            "/api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,\
/version,/version/",
        )],
    ),
    role(
        "system:heapster",
        &[
            rule(READ, "", "events,namespaces,nodes,pods"),
            rule(READ, "extensions", "deployments"),
        ],
    ),
    role(
        "system:kube-aggregator",
        &[rule(READ, "", "endpoints,services")],
    ),
    role(
        "system:kube-controller-manager",
        &[
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule("create", "coordination.k8s.io", "leases"),
            rule("get,update", "coordination.k8s.io", "leases").only("kube-controller-manager"),
            rule("create", "", "secrets,serviceaccounts"),
            rule("delete", "", "secrets"),
            rule("get", "", "configmaps,namespaces,secrets,serviceaccounts"),
            rule("update", "", "secrets,serviceaccounts"),
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
            rule("list,watch", "*", "*"),
            rule("create", "", "serviceaccounts/token"),
        ],
    ),
    role(
        "system:kube-dns",
        &[rule("list,watch", "", "endpoints,services")],
    ),
    role(
        "system:kube-scheduler",
        &[
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule("create", "coordination.k8s.io", "leases"),
            rule("get,list,update,watch", "coordination.k8s.io", "leases").only("kube-scheduler"),
            rule(ALL, "coordination.k8s.io", "leasecandidates"),
            rule(READ, "", "nodes"),
            rule("delete,get,list,watch", "", "pods"),
            rule("create", "", "bindings,pods/binding"),
            rule("patch,update", "", "pods/status"),
            rule(READ, "", "replicationcontrollers,services"),
            rule(READ, "apps,extensions", "replicasets"),
            rule(READ, "apps", "statefulsets"),
            rule(READ, "policy", "poddisruptionbudgets"),
            rule(READ, "", "persistentvolumeclaims,persistentvolumes"),
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
            rule(READ, "storage.k8s.io", "csinodes"),
            rule(READ, "storage.k8s.io", "volumeattachments"),
            rule(READ, "", "namespaces"),
            rule(READ, "storage.k8s.io", "csidrivers"),
            rule(READ, "storage.k8s.io", "csistoragecapacities"),
            rule(READ, "resource.k8s.io", "deviceclasses"),
            rule(
                "get,list,patch,update,watch",
                "resource.k8s.io",
                "resourceclaims",
            ),
            rule(
                "get,list,patch,update,watch",
                "resource.k8s.io",
                "resourceclaims/status",
            ),
            rule("update", "", "pods/finalizers"),
            rule(READ, "resource.k8s.io", "resourceslices"),
            rule("create,delete", "resource.k8s.io", "resourceclaims"),
            rule("patch,update", "resource.k8s.io", "resourceclaims/binding"),
        ],
    ),
    role(
        "system:kubelet-api-admin",
        &[
            rule(READ, "", "nodes"),
            rule("proxy", "", "nodes"),
            rule("*", "", "nodes/log,nodes/metrics,nodes/proxy,nodes/stats"),
            rule("*", "", "nodes/configz,nodes/healthz,nodes/pods"),
        ],
    ),
    role(
        "system:monitoring",
        &[
            urls(
                "get",
                "/flagz,/healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,\
/readyz,/readyz/*,/statusz",
            ),
            rule("get", "", "nodes/metrics"),
        ],
    ),
    role(
        "system:node",
        &[
            rule("create", "authentication.k8s.io", "tokenreviews"),
            rule(
                "create",
                "authorization.k8s.io",
                "localsubjectaccessreviews,subjectaccessreviews",
            ),
            rule(READ, "", "services"),
            rule("create,get,list,watch", "", "nodes"),
            rule("patch,update", "", "nodes/status"),
            rule("patch,update", "", "nodes"),
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule(READ, "", "pods"),
            rule("create,delete", "", "pods"),
            rule("patch,update", "", "pods/status"),
            rule("create", "", "pods/eviction"),
            rule(READ, "", "configmaps,secrets"),
            rule("get", "", "persistentvolumeclaims,persistentvolumes"),
            rule("get", "", "endpoints"),
            rule(
                "create,get,list,watch",
                "certificates.k8s.io",
                "certificatesigningrequests",
            ),
            rule(
                "create,delete,get,patch,update",
                "coordination.k8s.io",
                "leases",
            ),
            rule("get", "storage.k8s.io", "volumeattachments"),
            rule("create", "", "serviceaccounts/token"),
            rule("get,patch,update", "", "persistentvolumeclaims/status"),
            rule(READ, "storage.k8s.io", "csidrivers"),
            rule(
                "create,delete,get,patch,update",
                "storage.k8s.io",
                "csinodes",
            ),
            rule(READ, "node.k8s.io", "runtimeclasses"),
            rule("get", "resource.k8s.io", "resourceclaims"),
            rule("deletecollection", "resource.k8s.io", "resourceslices"),
            rule("get", "", "serviceaccounts"),
        ],
    ),
    role(
        "system:node-bootstrapper",
        &[rule(
            "create,get,list,watch",
            "certificates.k8s.io",
            "certificatesigningrequests",
        )],
    ),
    role(
        "system:node-problem-detector",
        &[
            rule("get", "", "nodes"),
            rule("patch", "", "nodes/status"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:node-proxier",
        &[
            rule("list,watch", "", "endpoints,services"),
            rule(READ, "", "nodes"),
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule("list,watch", "networking.k8s.io", "servicecidrs"),
            rule("list,watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    role(
        "system:persistent-volume-provisioner",
        &[
            rule("create,delete,get,list,watch", "", "persistentvolumes"),
            rule("get,list,update,watch", "", "persistentvolumeclaims"),
            rule(READ, "storage.k8s.io", "storageclasses"),
            rule("watch", "", "events"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:public-info-viewer",
        &[urls("get", "/healthz,/livez,/readyz,/version,/version/")],
    ),
    role(
        "system:service-account-issuer-discovery",
        &[urls(
            "get",
            "/.well-known/openid-configuration,/.well-known/openid-configuration/,\
/openid/v1/jwks,/openid/v1/jwks/",
        )],
    ),
    role(
        "system:volume-scheduler",
        &[
            rule("get,list,patch,update,watch", "", "persistentvolumes"),
            rule(READ, "storage.k8s.io", "storageclasses"),
            rule("get,list,patch,update,watch", "", "persistentvolumeclaims"),
        ],
    ),
    role("view", &[]).feeds("edit").gathers("view"),
];
