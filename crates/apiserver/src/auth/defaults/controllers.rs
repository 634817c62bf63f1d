//! The ClusterRoles of upstream's controllers, as facts. Each is bound to the service account in
//! `kube-system` whose name follows the prefix.

use super::table::{READ, RoleFacts, role, rule};

/// By name.
pub(super) const CONTROLLER_ROLES: &[RoleFacts] = &[
    role(
        "system:controller:attachdetach-controller",
        &[
            rule("list,watch", "", "persistentvolumeclaims,persistentvolumes"),
            rule(READ, "", "nodes"),
            rule("patch,update", "", "nodes/status"),
            rule("list,watch", "", "pods"),
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule(
                "create,delete,get,list,watch",
                "storage.k8s.io",
                "volumeattachments",
            ),
            rule(READ, "storage.k8s.io", "csidrivers"),
            rule(READ, "storage.k8s.io", "csinodes"),
        ],
    ),
    role(
        "system:controller:certificate-controller",
        &[
            rule(
                "delete,get,list,watch",
                "certificates.k8s.io",
                "certificatesigningrequests",
            ),
            rule(
                "update",
                "certificates.k8s.io",
                "certificatesigningrequests/approval,certificatesigningrequests/status",
            ),
            rule("approve", "certificates.k8s.io", "signers")
                .only("kubernetes.io/kube-apiserver-client-kubelet"),
            rule("sign", "certificates.k8s.io", "signers").only(
                "kubernetes.io/kube-apiserver-client,\
kubernetes.io/kube-apiserver-client-kubelet,\
kubernetes.io/kubelet-serving,kubernetes.io/legacy-unknown",
            ),
            rule("create", "authorization.k8s.io", "subjectaccessreviews"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:clusterrole-aggregation-controller",
        &[rule(
            "escalate,get,list,patch,update,watch",
            "rbac.authorization.k8s.io",
            "clusterroles",
        )],
    ),
    role(
        "system:controller:cronjob-controller",
        &[
            rule("get,list,update,watch", "batch", "cronjobs"),
            rule("create,delete,get,list,patch,update,watch", "batch", "jobs"),
            rule("update", "batch", "cronjobs/status"),
            rule("update", "batch", "cronjobs/finalizers"),
            rule("delete,list,watch", "", "pods"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:daemon-set-controller",
        &[
            rule(READ, "apps,extensions", "daemonsets"),
            rule("update", "apps,extensions", "daemonsets/status"),
            rule("update", "apps,extensions", "daemonsets/finalizers"),
            rule("list,watch", "", "nodes"),
            rule("create,delete,list,patch,watch", "", "pods"),
            rule("create", "", "pods/binding"),
            rule(
                "create,delete,get,list,patch,update,watch",
                "apps",
                "controllerrevisions",
            ),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:deployment-controller",
        &[
            rule("get,list,update,watch", "apps,extensions", "deployments"),
            rule("update", "apps,extensions", "deployments/status"),
            rule("update", "apps,extensions", "deployments/finalizers"),
            rule(
                "create,delete,get,list,patch,update,watch",
                "apps,extensions",
                "replicasets",
            ),
            rule("get,list,update,watch", "", "pods"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:device-taint-eviction-controller",
        &[
            rule("delete,get,list,watch", "", "pods"),
            rule("patch,update", "", "pods/status"),
            rule(READ, "resource.k8s.io", "resourceclaims"),
            rule(READ, "resource.k8s.io", "resourceslices"),
            rule(READ, "resource.k8s.io", "deviceclasses"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:disruption-controller",
        &[
            rule(READ, "apps,extensions", "deployments"),
            rule(READ, "apps,extensions", "replicasets"),
            rule(READ, "", "replicationcontrollers"),
            rule(READ, "policy", "poddisruptionbudgets"),
            rule(READ, "apps", "statefulsets"),
            rule("update", "policy", "poddisruptionbudgets/status"),
            rule("patch,update", "", "pods/status"),
            rule("get", "*", "*/scale"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:endpoint-controller",
        &[
            rule(READ, "", "pods,services"),
            rule("create,delete,get,list,update,watch", "", "endpoints"),
            rule("create", "", "endpoints/restricted"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:endpointslice-controller",
        &[
            rule(READ, "", "nodes,pods,services"),
            rule("update", "", "services/finalizers"),
            rule(
                "create,delete,get,list,update,watch",
                "discovery.k8s.io",
                "endpointslices",
            ),
            rule("create", "discovery.k8s.io", "endpointslices/restricted"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:endpointslicemirroring-controller",
        &[
            rule(READ, "", "endpoints,services"),
            rule("update", "", "services/finalizers"),
            rule("update", "", "endpoints/finalizers"),
            rule(
                "create,delete,get,list,update,watch",
                "discovery.k8s.io",
                "endpointslices",
            ),
            rule("create", "discovery.k8s.io", "endpointslices/restricted"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:ephemeral-volume-controller",
        &[
            rule(READ, "", "pods"),
            rule("update", "", "pods/finalizers"),
            rule("create,get,list,watch", "", "persistentvolumeclaims"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:expand-controller",
        &[
            rule("get,list,patch,update,watch", "", "persistentvolumes"),
            rule("patch,update", "", "persistentvolumeclaims/status"),
            rule(READ, "", "persistentvolumeclaims"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:generic-garbage-collector",
        &[
            rule("delete,get,list,patch,update,watch", "*", "*"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:horizontal-pod-autoscaler",
        &[
            rule(READ, "autoscaling", "horizontalpodautoscalers"),
            rule("update", "autoscaling", "horizontalpodautoscalers/status"),
            rule("get,update", "*", "*/scale"),
            rule("list,watch", "", "pods"),
            rule("list,watch", "metrics.k8s.io", "pods"),
            rule(READ, "custom.metrics.k8s.io", "*"),
            rule(READ, "external.metrics.k8s.io", "*"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:job-controller",
        &[
            rule("get,list,patch,update,watch", "batch", "jobs"),
            rule("update", "batch", "jobs/status"),
            rule("update", "batch", "jobs/finalizers"),
            rule("create,delete,list,patch,watch", "", "pods"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:legacy-service-account-token-cleaner",
        &[
            rule("get", "", "configmaps")
                .only("kube-apiserver-legacy-service-account-token-tracking"),
            rule("delete,patch", "", "secrets"),
        ],
    ),
    role(
        "system:controller:namespace-controller",
        &[
            rule("delete,get,list,watch", "", "namespaces"),
            rule("update", "", "namespaces/finalize,namespaces/status"),
            rule("delete,deletecollection,get,list,watch", "*", "*"),
        ],
    ),
    role(
        "system:controller:node-controller",
        &[
            rule("delete,get,list,patch,update,watch", "", "nodes"),
            rule("patch,update", "", "nodes/status"),
            rule("patch,update", "", "pods/status"),
            rule("delete,get,list,watch", "", "pods"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:persistent-volume-binder",
        &[
            rule(
                "create,delete,get,list,update,watch",
                "",
                "persistentvolumes",
            ),
            rule("update", "", "persistentvolumes/status"),
            rule("get,list,update,watch", "", "persistentvolumeclaims"),
            rule("update", "", "persistentvolumeclaims/status"),
            rule("create,delete,get,list,watch", "", "pods"),
            rule(READ, "storage.k8s.io", "storageclasses"),
            rule("list,watch", "", "nodes"),
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule("watch", "", "events"),
        ],
    ),
    role(
        "system:controller:pod-garbage-collector",
        &[
            rule("delete,list,watch", "", "pods"),
            rule(READ, "", "nodes"),
            rule("patch", "", "pods/status"),
        ],
    ),
    role(
        "system:controller:pv-protection-controller",
        &[
            rule("get,list,update,watch", "", "persistentvolumes"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:pvc-protection-controller",
        &[
            rule("get,list,update,watch", "", "persistentvolumeclaims"),
            rule("update", "", "persistentvolumeclaims/status"),
            rule(READ, "", "pods"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:replicaset-controller",
        &[
            rule("get,list,update,watch", "apps,extensions", "replicasets"),
            rule("update", "apps,extensions", "replicasets/status"),
            rule("update", "apps,extensions", "replicasets/finalizers"),
            rule("create,delete,list,patch,watch", "", "pods"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:replication-controller",
        &[
            rule("get,list,update,watch", "", "replicationcontrollers"),
            rule("update", "", "replicationcontrollers/status"),
            rule("update", "", "replicationcontrollers/finalizers"),
            rule("create,delete,list,patch,watch", "", "pods"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:resource-claim-controller",
        &[
            rule(READ, "", "pods"),
            rule("update", "", "pods/finalizers"),
            rule(
                "create,delete,get,list,watch",
                "resource.k8s.io",
                "resourceclaims",
            ),
            rule(
                "patch,update",
                "resource.k8s.io",
                "resourceclaims,resourceclaims/status",
            ),
            rule("patch,update", "", "pods/status"),
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule("patch,update", "resource.k8s.io", "resourceclaims/binding"),
        ],
    ),
    role(
        "system:controller:resourcequota-controller",
        &[
            rule("list,watch", "*", "*"),
            rule("update", "", "resourcequotas/status"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:root-ca-cert-publisher",
        &[
            rule("create,update", "", "configmaps"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:route-controller",
        &[
            rule("list,watch", "", "nodes"),
            rule("patch", "", "nodes/status"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:selinux-warning-controller",
        &[
            rule("create,patch,update", ",events.k8s.io", "events"),
            rule(READ, "", "persistentvolumes"),
            rule(READ, "", "persistentvolumeclaims"),
            rule(READ, "", "pods"),
            rule(READ, "storage.k8s.io", "csidrivers"),
        ],
    ),
    role(
        "system:controller:service-account-controller",
        &[
            rule("create", "", "serviceaccounts"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:service-ca-cert-publisher",
        &[
            rule("create,update", "", "configmaps"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:service-cidrs-controller",
        &[
            rule(
                "get,list,patch,update,watch",
                "networking.k8s.io",
                "servicecidrs",
            ),
            rule(
                "patch,update",
                "networking.k8s.io",
                "servicecidrs/finalizers",
            ),
            rule("patch,update", "networking.k8s.io", "servicecidrs/status"),
            rule(READ, "networking.k8s.io", "ipaddresses"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:service-controller",
        &[
            rule(READ, "", "services"),
            rule("patch,update", "", "services/status"),
            rule("list,watch", "", "nodes"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:statefulset-controller",
        &[
            rule("list,watch", "", "pods"),
            rule(READ, "apps", "statefulsets"),
            rule("update", "apps", "statefulsets/status"),
            rule("update", "apps", "statefulsets/finalizers"),
            rule("create,delete,get,patch,update", "", "pods"),
            rule(
                "create,delete,get,list,patch,update,watch",
                "apps",
                "controllerrevisions",
            ),
            rule("create,get,list,watch", "", "persistentvolumeclaims"),
            rule("delete,update", "", "persistentvolumeclaims"),
            rule("update", "", "pods/finalizers"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:ttl-after-finished-controller",
        &[
            rule("delete,get,list,watch", "batch", "jobs"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:ttl-controller",
        &[
            rule("list,patch,update,watch", "", "nodes"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:validatingadmissionpolicy-status-controller",
        &[
            rule(
                READ,
                "admissionregistration.k8s.io",
                "validatingadmissionpolicies",
            ),
            rule(
                "get,patch,update",
                "admissionregistration.k8s.io",
                "validatingadmissionpolicies/status",
            ),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
    role(
        "system:controller:volumeattributesclass-protection-controller",
        &[
            rule(READ, "", "persistentvolumeclaims"),
            rule(READ, "", "persistentvolumes"),
            rule(
                "get,list,update,watch",
                "storage.k8s.io",
                "volumeattributesclasses",
            ),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    ),
];
