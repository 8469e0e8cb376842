# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter that describes BuildKit as objects of the cluster."""

from __future__ import annotations

import base64
import hashlib
import json
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.homelab.containerd.plugins.filter.build_job import Object
from ansible_collections.homelab.containerd.plugins.plugin_utils import buildkit_config


def cluster_builder(options: Object, ca: str, certificate: str, key: str) -> Object:
    """The objects of BuildKit in the cluster, as a List for kubectl apply.

    options: {"name", "namespace", "image", "rootless", "registries" [{"host", "insecure"}],
    "host_aliases", "max_used_space", "node" and "cache_path" (without a storage class),
    "storage_class", "cache_size", "service_type", "port"}. The rest is PEM. As BuildKit's own
    examples/kubernetes have it, it serves TCP with the clients' certificates required, and a unix
    socket inside the pod for its probes.
    """
    rootless = boolean(options["rootless"])
    labels = {
        "app.kubernetes.io/name": options["name"],
        "app.kubernetes.io/managed-by": "homelab.containerd",
    }
    metadata = {"name": options["name"], "namespace": options["namespace"], "labels": labels}
    toml = buildkit_config.buildkitd_toml(
        {
            "worker": "oci",
            "max_used_space": options["max_used_space"],
            "registries": options["registries"],
        }
    )
    # A lookup strips the last newline, which PEM ends with.
    certs = {
        name: text.strip() + "\n"
        for name, text in {"ca.pem": ca, "cert.pem": certificate, "key.pem": key}.items()
    }
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in certs.items()}
    # A pod reads both once, when it starts: another content is another pod.
    content = hashlib.sha256(json.dumps([toml, encoded]).encode()).hexdigest()
    # Each mode has its own place in the volume: neither reads what the other's buildkitd wrote.
    cache: Object = {"name": "cache", "mountPath": "/var/lib/buildkit"}
    if rootless:
        cache = {**cache, "mountPath": "/home/user/.local/share/buildkit", "subPath": "rootless"}
    socket = f"unix:///run/{'user/1000/' if rootless else ''}buildkit/buildkitd.sock"
    command = [
        *(["rootlesskit"] if rootless else []),
        *("buildkitd", "--config=/etc/homelab-buildkit/buildkitd.toml", f"--addr={socket}"),
        *("--addr=tcp://0.0.0.0:1234", "--tlscacert=/certs/ca.pem"),
        *("--tlscert=/certs/cert.pem", "--tlskey=/certs/key.pem"),
        *(["--oci-worker-no-process-sandbox"] if rootless else []),
    ]
    probe = {"exec": {"command": ["buildctl", f"--addr={socket}", "debug", "workers"]}}
    security: Object = {"privileged": True}
    annotations = {"homelab.containerd/content": content}
    if rootless:
        unconfined = {"type": "Unconfined"}
        security = {"runAsUser": 1000, "runAsGroup": 1000, "seccompProfile": unconfined}
        # The field for AppArmor is younger (1.30) than some of the clusters this is for.
        annotations["container.apparmor.security.beta.kubernetes.io/buildkitd"] = "unconfined"
    container = {
        "name": "buildkitd",
        "image": options["image"],
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "ports": [{"name": "grpc", "containerPort": 1234}],
        "securityContext": security,
        "readinessProbe": {**probe, "periodSeconds": 5, "timeoutSeconds": 10},
        "livenessProbe": {
            **probe,
            **{"initialDelaySeconds": 30, "periodSeconds": 60, "timeoutSeconds": 30},
        },
        "volumeMounts": [
            {"name": "certs", "mountPath": "/certs", "readOnly": True},
            {"name": "config", "mountPath": "/etc/homelab-buildkit", "readOnly": True},
            cache,
        ],
    }
    volumes: list[Object] = [
        {"name": "certs", "secret": {"secretName": f"{options['name']}-certs"}},
        {"name": "config", "configMap": {"name": options["name"]}},
    ]
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # A build in flight may end before a new pod takes its place.
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
        "volumes": volumes,
    }
    if rootless:
        # Not with fsGroup: it would change the group and the mode of each file in the cache at each
        # start, and those files are the layers of images.
        pod["initContainers"] = [
            {
                "name": "owner",
                "image": options["image"],
                "imagePullPolicy": "IfNotPresent",
                "command": ["chown", "1000:1000", cache["mountPath"]],
                "securityContext": {"runAsUser": 0, "runAsGroup": 0},
                "volumeMounts": [cache],
            }
        ]
    if options["host_aliases"]:
        pod["hostAliases"] = options["host_aliases"]
    spec: Object = {
        # Two would share a cache, which buildkitd locks: the old one ends before the new begins. (A
        # StatefulSet would not replace one that never got ready, kubernetes/kubernetes#67250.)
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": {"app.kubernetes.io/name": options["name"]}},
        "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod},
    }
    claims: list[Object] = []
    if options["storage_class"]:
        volumes.append({"name": "cache", "persistentVolumeClaim": {"claimName": options["name"]}})
        claims = [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": metadata,
                "spec": {
                    "storageClassName": options["storage_class"],
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": options["cache_size"]}},
                },
            }
        ]
    else:
        path = {"path": options["cache_path"], "type": "DirectoryOrCreate"}
        volumes.append({"name": "cache", "hostPath": path})
        pod["nodeSelector"] = {"kubernetes.io/hostname": options["node"]}
        pod["tolerations"] = [{"operator": "Exists", "effect": "NoSchedule"}]
    port = {"name": "grpc", "port": int(options["port"]), "targetPort": "grpc"}
    secret = {**metadata, "name": f"{options['name']}-certs"}
    # Pods here are privileged, or without seccomp: clusters with Pod Security say so.
    namespace = {
        "name": options["namespace"],
        "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
    }
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": namespace},
            {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "data": encoded},
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata,
                "data": {"buildkitd.toml": toml},
            },
            *claims,
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {
                    "type": options["service_type"],
                    "selector": {"app.kubernetes.io/name": options["name"]},
                    "ports": [port],
                },
            },
        ],
    }


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "cluster_builder": cluster_builder,
        }
