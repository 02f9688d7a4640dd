"""The Python client through cluster-proxy: list, watch, patch, exec and port-forward.

Arguments: a kubeconfig, the namespace, a pod to run programs in, a pod that serves /file at 8080.
Prints "all of it works" at the end; anything else is an exception.
"""

import hashlib
import http.client
import sys
import threading

from kubernetes import client, config, watch
from kubernetes.stream import portforward, stream

kubeconfig, namespace, worker, web = sys.argv[1:]
config.load_kube_config(kubeconfig)
core = client.CoreV1Api()

names = {pod.metadata.name for pod in core.list_namespaced_pod(namespace).items}
assert {worker, web} <= names, names

NAME = "of-python"
body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=NAME), data={"a": "1"})
made = core.create_namespaced_config_map(namespace, body)


def change():
    core.patch_namespaced_config_map(NAME, namespace, {"data": {"b": "2"}})
    core.delete_namespaced_config_map(NAME, namespace)


threading.Timer(0.5, change).start()
seen = []
events = watch.Watch().stream(
    core.list_namespaced_config_map,
    namespace,
    field_selector=f"metadata.name={NAME}",
    resource_version=made.metadata.resource_version,
    timeout_seconds=20,
)
for event in events:
    seen.append((event["type"], dict(event["object"].data)))
    if event["type"] == "DELETED":
        break
both = {"a": "1", "b": "2"}
assert seen == [("MODIFIED", both), ("DELETED", both)], seen

try:
    core.read_namespaced_config_map(NAME, namespace)
    raise AssertionError("it is still there")
except client.ApiException as error:
    assert error.status == 404, error

# Each exec needs a client of its own: stream() changes the one that it is given.
shell = stream(
    client.CoreV1Api(client.ApiClient()).connect_get_namespaced_pod_exec,
    worker,
    namespace,
    command=["sh", "-c", "read -r word; echo heard $word; echo aside >&2; exit 5"],
    stdin=True,
    stdout=True,
    stderr=True,
    tty=False,
    _preload_content=False,
)
shell.write_stdin("something\n")
shell.run_forever(timeout=20)
answer = (shell.read_stdout(), shell.read_stderr(), shell.returncode)
assert answer == ("heard something\n", "aside\n", 5), answer

sums = set()
for _ in range(2):
    forward = portforward(
        client.CoreV1Api(client.ApiClient()).connect_get_namespaced_pod_portforward,
        web,
        namespace,
        ports="8080",
    )
    connection = http.client.HTTPConnection("web", 8080, timeout=20)
    connection.sock = forward.socket(8080)
    connection.sock.setblocking(True)
    connection.request("GET", "/file", headers={"Connection": "close"})
    file = connection.getresponse().read()
    assert len(file) == 1_000_000, len(file)
    assert forward.error(8080) is None, forward.error(8080)
    sums.add(hashlib.sha256(file).hexdigest())
assert len(sums) == 1, sums

print("all of it works")
