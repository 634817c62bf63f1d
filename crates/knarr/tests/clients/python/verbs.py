"""What people do with the Python client: `python3 verbs.py KUBECONFIG IMAGE`.

Fails with a traceback at the first thing that is not as Kubernetes has it.
"""

import base64
import sys
import tempfile
import threading
import time

import websocket
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream
from kubernetes.utils import create_from_dict

KUBECONFIG, IMAGE = sys.argv[1:]
NAMESPACE = "python"


def refused(status, reason, call, *args, **kwargs):
    """The call must be refused with this code and reason."""
    try:
        call(*args, **kwargs)
    except ApiException as error:
        body = error.body if isinstance(error.body, str) else error.body.decode()
        assert error.status == status, (error.status, body)
        assert f'"reason":"{reason}"' in body, body
        return body
    raise AssertionError(f"{call.__name__} was not refused")


def until(what, holds, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def config_maps(core):
    made = core.create_namespaced_config_map(
        NAMESPACE, {"metadata": {"name": "one", "labels": {"a": "b"}}, "data": {"k": "v"}}
    )
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo
    refused(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, {"metadata": {"name": "one"}})
    refused(404, "NotFound", core.read_namespaced_config_map, "none", NAMESPACE)
    body = refused(
        422, "Invalid", core.create_namespaced_config_map, NAMESPACE, {"metadata": {"name": "No"}}
    )
    assert "metadata.name" in body, body
    made.data["k"] = "w"
    kept = core.replace_namespaced_config_map("one", NAMESPACE, made)
    assert kept.data == {"k": "w"}
    refused(409, "Conflict", core.replace_namespaced_config_map, "one", NAMESPACE, made)
    patched = core.patch_namespaced_config_map("one", NAMESPACE, {"data": {"n": "m"}})
    assert patched.data == {"k": "w", "n": "m"}
    operations = [{"op": "remove", "path": "/data/n"}]
    assert core.patch_namespaced_config_map("one", NAMESPACE, operations).data == {"k": "w"}
    dry = core.patch_namespaced_config_map("one", NAMESPACE, {"data": None}, dry_run="All")
    assert dry.data is None
    assert core.read_namespaced_config_map("one", NAMESPACE).data == {"k": "w"}


def pages_and_watches(core):
    seen, begun = [], threading.Event()
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version

    def follow():
        begun.set()
        changes = watch.Watch().stream(
            core.list_namespaced_config_map,
            NAMESPACE,
            resource_version=start,
            label_selector="page",
            timeout_seconds=30,
        )
        for change in changes:
            seen.append((change["type"], change["object"].metadata.name))
            if len(seen) == 31:
                return

    follower = threading.Thread(target=follow)
    follower.start()
    begun.wait()
    for n in range(30):
        core.create_namespaced_config_map(
            NAMESPACE, {"metadata": {"name": f"page-{n:02}", "labels": {"page": "y"}}}
        )
    core.delete_namespaced_config_map("page-00", NAMESPACE)
    follower.join(30)
    assert [t for t, _ in seen] == ["ADDED"] * 30 + ["DELETED"], seen
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(
            NAMESPACE, label_selector="page=y", limit=10, _continue=token
        )
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"page-{n:02}" for n in range(1, 30)], names
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="page=y")
    left = core.list_namespaced_config_map(NAMESPACE, label_selector="page=y").items
    assert left == [], left


def logs_over_a_web_socket(settings):
    url = f"{settings.host.replace('https', 'wss')}/api/v1/namespaces/{NAMESPACE}/pods/web/log"
    tls = {"ca_certs": settings.ssl_ca_cert, "certfile": settings.cert_file, "keyfile": settings.key_file}
    for protocol in ("binary.k8s.io", "base64.binary.k8s.io"):
        socket = websocket.create_connection(url, sslopt=tls, subprotocols=[protocol], timeout=20)
        assert socket.subprotocol == protocol, socket.subprotocol
        said = b""
        while True:
            kind, data = socket.recv_data()
            if kind == websocket.ABNF.OPCODE_CLOSE:
                break
            said += data if protocol == "binary.k8s.io" else base64.b64decode(data)
        assert said == b"begun\n", said
        socket.close()


def pods(core):
    script = "trap 'exit 0' TERM; echo begun; httpd -p 8080 -h /etc; while :; do sleep 0.1; done"
    core.create_namespaced_pod(
        NAMESPACE,
        {
            "metadata": {"name": "web"},
            "spec": {
                "terminationGracePeriodSeconds": 2,
                "containers": [
                    {"name": "c", "image": IMAGE, "command": ["sh", "-c", script]},
                ],
            },
        },
    )
    pod_watch = watch.Watch()
    for change in pod_watch.stream(
        core.list_namespaced_pod, NAMESPACE, field_selector="metadata.name=web", timeout_seconds=30
    ):
        conditions = change["object"].status.conditions or []
        if any(c.type == "Ready" and c.status == "True" for c in conditions):
            pod_watch.stop()

    def log():
        # As it came: the client's own reading makes "b'…'" of it.
        return core.read_namespaced_pod_log("web", NAMESPACE, _preload_content=False).data

    until("the log", lambda: log() == b"begun\n")
    said = stream(
        core.connect_get_namespaced_pod_exec,
        "web",
        NAMESPACE,
        command=["sh", "-c", "echo out; echo err >&2; exit 3"],
        stdout=True,
        stderr=True,
        _preload_content=False,
    )
    said.run_forever(timeout=20)
    assert (said.read_stdout(), said.read_stderr(), said.returncode) == ("out\n", "err\n", 3)
    forward = portforward(core.connect_get_namespaced_pod_portforward, "web", NAMESPACE, ports="8080")
    http = forward.socket(8080)
    http.setblocking(True)
    http.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
    answer = b""
    while chunk := http.recv(4096):
        answer += chunk
    http.close()
    assert answer.endswith(b"\r\n\r\nweb\n"), answer
    logs_over_a_web_socket(core.api_client.configuration)
    core.delete_namespaced_pod("web", NAMESPACE)

    def gone():
        try:
            core.read_namespaced_pod("web", NAMESPACE)
        except ApiException as error:
            return error.status == 404
        return False

    until("the pod's end", gone)


def custom(api, core):
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"kind": "Boat", "plural": "boats"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "properties": {
                                        "oars": {"type": "integer", "minimum": 2, "default": 4},
                                        "name": {"type": "string"},
                                    },
                                    "x-kubernetes-validations": [
                                        {"rule": "self.oars % 2 == 0", "message": "odd oars"}
                                    ],
                                },
                                "status": {
                                    "type": "object",
                                    "properties": {"afloat": {"type": "boolean"}},
                                },
                            },
                        }
                    },
                }
            ],
        },
    }
    create_from_dict(api, definition)

    def served():
        # What was found before is kept in a file, also for other clusters at the same address.
        with tempfile.TemporaryDirectory() as folder:
            resources = dynamic.DynamicClient(api, cache_file=f"{folder}/cache").resources
            found = resources.search(api_version="example.com/v1", kind="Boat")
        return found and found[0]

    boats = until("the kind", served)
    boat = {
        "apiVersion": "example.com/v1",
        "kind": "Boat",
        "metadata": {"name": "argo"},
        "spec": {"name": "Argo", "unknown": 1},
    }
    made = boats.create(body=boat, namespace=NAMESPACE)
    assert made.spec.to_dict() == {"name": "Argo", "oars": 4}, made
    objects = client.CustomObjectsApi(api)
    place = ("example.com", "v1", NAMESPACE, "boats")
    for oars, words in ((5, "odd oars"), (1, "should be greater than or equal to 2")):
        wrong = {"spec": {"oars": oars}}
        body = refused(422, "Invalid", objects.patch_namespaced_custom_object, *place, "argo", wrong)
        assert words in body, body
    objects.patch_namespaced_custom_object_status(*place, "argo", {"status": {"afloat": True}})
    read = objects.get_namespaced_custom_object(*place, "argo")
    assert read["status"] == {"afloat": True} and read["metadata"]["generation"] == 1, read
    applied = {**boat, "spec": {"oars": 6}}
    # Its creator has the default that it was given.
    refused(
        409,
        "Conflict",
        boats.server_side_apply,
        body=applied,
        namespace=NAMESPACE,
        field_manager="mate",
    )
    boats.server_side_apply(
        body=applied, namespace=NAMESPACE, field_manager="mate", force_conflicts=True
    )
    managers = [f.manager for f in boats.get(name="argo", namespace=NAMESPACE).metadata.managedFields]
    assert "mate" in managers, managers
    refused(
        409,
        "Conflict",
        boats.server_side_apply,
        body={**boat, "spec": {"oars": 8}},
        namespace=NAMESPACE,
        field_manager="other",
    )
    client.ApiextensionsV1Api(api).delete_custom_resource_definition("boats.example.com")


def rights(api, core):
    core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": "robot"}})
    token = core.create_namespaced_service_account_token(
        "robot", NAMESPACE, {"spec": {"expirationSeconds": 600}}
    ).status.token
    settings = client.Configuration.get_default_copy()
    settings.host, settings.ssl_ca_cert = api.configuration.host, api.configuration.ssl_ca_cert
    settings.cert_file = settings.key_file = None
    settings.api_key = {"authorization": f"Bearer {token}"}
    robot = client.ApiClient(settings)
    robot_core = client.CoreV1Api(robot)
    refused(403, "Forbidden", robot_core.list_namespaced_secret, NAMESPACE)
    rbac = client.RbacAuthorizationV1Api(api)
    rbac.create_namespaced_role_binding(
        NAMESPACE,
        {
            "metadata": {"name": "robot"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": NAMESPACE}],
        },
    )
    until("the binding", lambda: robot_core.list_namespaced_config_map(NAMESPACE).items)
    refused(403, "Forbidden", robot_core.list_namespaced_secret, NAMESPACE)
    who = client.AuthenticationV1Api(robot).create_self_subject_review({})
    assert who.status.user_info.username == f"system:serviceaccount:{NAMESPACE}:robot", who
    may = client.AuthorizationV1Api(robot).create_self_subject_access_review(
        {"spec": {"resourceAttributes": {"namespace": NAMESPACE, "verb": "get", "resource": "pods"}}}
    )
    assert may.status.allowed


def main():
    api = config.new_client_from_config(KUBECONFIG)
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    until(
        "the service account",
        lambda: "default" in [a.metadata.name for a in core.list_namespaced_service_account(NAMESPACE).items],
    )
    config_maps(core)
    pages_and_watches(core)
    pods(core)
    custom(api, core)
    rights(api, core)
    core.delete_namespace(NAMESPACE)
    until("the namespace's end", lambda: NAMESPACE not in [n.metadata.name for n in core.list_namespace().items])
    print("python: all as it should be")


main()
