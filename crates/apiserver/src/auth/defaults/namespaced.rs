//! The Roles of single namespaces, and all bindings but those of the controllers, as facts.

use super::table::{BindingFacts, READ, RoleFacts, account, binding, group, role, rule, user};

/// Roles in `kube-system` and `kube-public`.
pub(super) const ROLES: &[RoleFacts] = &[
    role(
        "system:controller:bootstrap-signer",
        &[
            rule(READ, "", "configmaps"),
            rule("update", "", "configmaps").only("cluster-info"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    )
    .within("kube-public"),
    role(
        "extension-apiserver-authentication-reader",
        &[rule(READ, "", "configmaps").only("extension-apiserver-authentication")],
    )
    .within("kube-system"),
    role(
        "system::leader-locking-kube-controller-manager",
        &[
            rule(
                "create,get,list,update,watch",
                "coordination.k8s.io",
                "leases",
            ),
            rule(
                "create,get,list,update,watch",
                "coordination.k8s.io",
                "leasecandidates",
            ),
        ],
    )
    .within("kube-system"),
    role(
        "system::leader-locking-kube-scheduler",
        &[
            rule(
                "create,get,list,update,watch",
                "coordination.k8s.io",
                "leases",
            ),
            rule(
                "create,get,list,update,watch",
                "coordination.k8s.io",
                "leasecandidates",
            ),
        ],
    )
    .within("kube-system"),
    role(
        "system:controller:bootstrap-signer",
        &[rule(READ, "", "secrets")],
    )
    .within("kube-system"),
    role(
        "system:controller:cloud-provider",
        &[rule("create,get,list,watch", "", "configmaps")],
    )
    .within("kube-system"),
    role(
        "system:controller:token-cleaner",
        &[
            rule("delete,get,list,watch", "", "secrets"),
            rule("create,patch,update", ",events.k8s.io", "events"),
        ],
    )
    .within("kube-system"),
];

/// RoleBindings; each names a Role of its namespace.
pub(super) const ROLE_BINDINGS: &[BindingFacts] = &[
    binding(
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[account("kube-system", "bootstrap-signer")],
    )
    .within("kube-public"),
    binding(
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[
            user("system:kube-controller-manager"),
            user("system:kube-scheduler"),
        ],
    )
    .within("kube-system"),
    binding(
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            user("system:kube-controller-manager"),
            account("kube-system", "kube-controller-manager"),
            account("kube-system", "leader-election-controller"),
        ],
    )
    .within("kube-system"),
    binding(
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &[
            user("system:kube-scheduler"),
            account("kube-system", "kube-scheduler"),
        ],
    )
    .within("kube-system"),
    binding(
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[account("kube-system", "bootstrap-signer")],
    )
    .within("kube-system"),
    binding(
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &[account("kube-system", "cloud-provider")],
    )
    .within("kube-system"),
    binding(
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &[account("kube-system", "token-cleaner")],
    )
    .within("kube-system"),
];

/// ClusterRoleBindings.
pub(super) const CLUSTER_ROLE_BINDINGS: &[BindingFacts] = &[
    binding("cluster-admin", "cluster-admin", &[group("system:masters")]),
    binding(
        "system:basic-user",
        "system:basic-user",
        &[group("system:authenticated")],
    ),
    binding(
        "system:discovery",
        "system:discovery",
        &[group("system:authenticated")],
    ),
    binding(
        "system:kube-controller-manager",
        "system:kube-controller-manager",
        &[user("system:kube-controller-manager")],
    ),
    binding(
        "system:kube-dns",
        "system:kube-dns",
        &[account("kube-system", "kube-dns")],
    ),
    binding(
        "system:kube-scheduler",
        "system:kube-scheduler",
        &[user("system:kube-scheduler")],
    ),
    binding(
        "system:monitoring",
        "system:monitoring",
        &[group("system:monitoring")],
    ),
    binding("system:node", "system:node", &[]),
    binding(
        "system:node-proxier",
        "system:node-proxier",
        &[user("system:kube-proxy")],
    ),
    binding(
        "system:public-info-viewer",
        "system:public-info-viewer",
        &[
            group("system:authenticated"),
            group("system:unauthenticated"),
        ],
    ),
    binding(
        "system:service-account-issuer-discovery",
        "system:service-account-issuer-discovery",
        &[group("system:serviceaccounts")],
    ),
    binding(
        "system:volume-scheduler",
        "system:volume-scheduler",
        &[user("system:kube-scheduler")],
    ),
];
