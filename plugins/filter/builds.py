# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters that the roles of builds need; see the .yml files beside this one for each."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.homelab.containerd.plugins.module_utils import builds

Object = dict[str, t.Any]

#: The images that the engines' own projects publish; build_job_image takes precedence.
IMAGES = {
    "buildkit": "docker.io/moby/buildkit:latest",
    "buildah": "quay.io/buildah/stable:latest",
    "kaniko": "ghcr.io/osscontainertools/kaniko:latest",
    "img": "r.j3ss.co/img:latest",
}
#: Where the context is in the pod, and what the pod tells when it ends: the image's digest.
CONTEXT = "/workspace"
DIGEST = "/dev/termination-log"


def _words(option: str, values: t.Iterable[str]) -> list[str]:
    return [f"{option}={value}" for value in values]


def _buildkit(wish: Object) -> Object:
    """A buildkitd for this build alone, in the Job's container (moby/buildkit, "daemonless")."""
    toml = "".join(
        f'[registry."{host}"]\n  http = true\n  insecure = true\n'
        for host in wish["insecure_registries"]
    )
    build = ["buildctl", "build", "--progress=plain", "--frontend=dockerfile.v0"]
    if wish["git"]:
        build.append(f"--opt=context={wish['context']}")
    else:
        build += [f"--local=context={CONTEXT}", f"--local=dockerfile={CONTEXT}"]
    build.append(f"--opt=filename={wish['dockerfile']}")
    build += _words("--opt=target", filter(None, [wish["target"]]))
    build += _words("--opt=platform", filter(None, [",".join(wish["platforms"])]))
    build += [f"--opt=build-arg:{key}={value}" for key, value in sorted(wish["args"].items())]
    names = ",".join(wish["tags"])
    build.append(f'--output=type=image,"name={names}",push=true')
    build.append("--metadata-file=/tmp/metadata.json")
    script = f"""\
set -eu
printf %s {shlex.quote(toml)} >/tmp/buildkitd.toml
buildkitd --config /tmp/buildkitd.toml >/tmp/buildkitd.log 2>&1 &
for _ in $(seq 100); do buildctl debug workers >/dev/null 2>&1 && break; sleep 0.2; done
buildctl debug workers >/dev/null || {{ cat /tmp/buildkitd.log; exit 1; }}
{shlex.join(build)}
sed -n 's/.*"containerimage.digest": "\\(.*\\)".*/\\1/p' /tmp/metadata.json >{DIGEST}
"""
    return {"command": ["sh", "-c", script], "state": "/var/lib/buildkit"}


def _buildah(wish: Object) -> Object:
    insecure = bool(wish["insecure_registries"])
    verify = [f"--tls-verify={'false' if insecure else 'true'}"]
    build = ["buildah", "build", "--isolation=chroot", "--layers", *verify]
    build += [f"--file={wish['dockerfile']}"]
    build += _words("--tag", wish["tags"])
    build += _words("--target", filter(None, [wish["target"]]))
    build += _words("--platform", filter(None, [",".join(wish["platforms"])]))
    build += _words("--build-arg", (f"{k}={v}" for k, v in sorted(wish["args"].items())))
    build.append(wish["context"] if wish["git"] else CONTEXT)
    lines = ["set -eu", "" if wish["git"] else f"cd {CONTEXT}", shlex.join(build)]
    lines += [shlex.join(["buildah", "push", *verify, f"--digestfile={DIGEST}", tag])
              for tag in wish["tags"]]  # fmt: skip
    return {"command": ["sh", "-c", "\n".join(filter(None, lines))], "state": "/var/lib/containers"}


def _kaniko(wish: Object) -> Object:
    context = wish["context"] if wish["git"] else f"dir://{CONTEXT}"
    words = ["/kaniko/executor", f"--context={context}", f"--dockerfile={wish['dockerfile']}"]
    words += _words("--destination", wish["tags"])
    words += _words("--target", filter(None, [wish["target"]]))
    words += _words("--custom-platform", wish["platforms"][:1])
    words += _words("--build-arg", (f"{k}={v}" for k, v in sorted(wish["args"].items())))
    words += _words("--insecure-registry", wish["insecure_registries"])
    words.append(f"--digest-file={DIGEST}")
    return {"command": words, "privileged": False}


def _img(wish: Object) -> Object:
    build = ["img", "build", "--no-console", f"--file={wish['dockerfile']}"]
    build += _words("--tag", wish["tags"])
    build += _words("--target", filter(None, [wish["target"]]))
    build += _words("--platform", wish["platforms"])
    build += _words("--build-arg", (f"{k}={v}" for k, v in sorted(wish["args"].items())))
    build.append(wish["context"] if wish["git"] else CONTEXT)
    insecure = ["--insecure-registry"] if wish["insecure_registries"] else []
    lines = ["set -eu", "" if wish["git"] else f"cd {CONTEXT}", shlex.join(build)]
    lines += [shlex.join(["img", "push", *insecure, tag]) for tag in wish["tags"]]
    return {"command": ["sh", "-c", "\n".join(filter(None, lines))]}


ENGINES = {"buildkit": _buildkit, "buildah": _buildah, "kaniko": _kaniko, "img": _img}


def build_job(wish: Object) -> Object:
    """The Job that builds in the cluster with one of the engines.

    wish: {"engine", "image", "name", "namespace", "node", "context" (a git repository, or a
    directory on that node), "git", "dockerfile", "tags", "args", "target", "platforms",
    "insecure_registries", "registry_login" (a Secret of type kubernetes.io/dockerconfigjson),
    "host_aliases", "timeout" in seconds}.
    """
    engine = wish["engine"]
    if engine not in ENGINES:
        raise AnsibleFilterError(
            f"build_engine is {engine!r}: it is node, or a Job of {', '.join(ENGINES)}."
        )
    if engine == "kaniko" and len(wish["platforms"]) > 1:
        raise AnsibleFilterError("kaniko builds for one platform: build_platforms has several.")
    asked = ENGINES[engine](wish)
    container: Object = {
        "name": "build",
        "image": wish["image"] or IMAGES[engine],
        "imagePullPolicy": "IfNotPresent",
        "command": asked["command"],
        # All but kaniko mount file systems, which a container may not without.
        "securityContext": {"privileged": asked.get("privileged", True)},
        "volumeMounts": [],
    }
    volumes: list[Object] = []

    def mount(name: str, path: str, source: Object, **more: t.Any) -> None:
        container["volumeMounts"].append({"name": name, "mountPath": path, **more})
        volumes.append({"name": name, **source})

    if not wish["git"]:
        source = {"hostPath": {"path": wish["context"], "type": "Directory"}}
        mount("context", CONTEXT, source, readOnly=True)
    if "state" in asked:
        # An overlay cannot have its upper directory on the container's own overlay.
        mount("state", asked["state"], {"emptyDir": {}})
    if wish["registry_login"]:
        place = "/kaniko/.docker" if engine == "kaniko" else "/login"
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        secret = {"secret": {"secretName": wish["registry_login"], "items": items}}
        mount("login", place, secret, readOnly=True)
        container["env"] = [
            {"name": "DOCKER_CONFIG", "value": place},
            # buildah's name for it.
            {"name": "REGISTRY_AUTH_FILE", "value": place + "/config.json"},
        ]
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": volumes,
    }
    if wish["node"]:
        pod["nodeSelector"] = {"kubernetes.io/hostname": wish["node"]}
        pod["tolerations"] = [{"operator": "Exists", "effect": "NoSchedule"}]
    if wish["host_aliases"]:
        pod["hostAliases"] = wish["host_aliases"]
    labels = {
        "app.kubernetes.io/managed-by": "homelab.containerd",
        "homelab.containerd/engine": engine,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": wish["name"],
            "namespace": wish["namespace"],
            # The pods get this label by themselves: one selector finds both.
            "labels": {**labels, "job-name": wish["name"]},
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": wish["timeout"],
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def job_outcome(text: str) -> Object:
    """{"state": running, done or failed, "digest", "reason"}, from kubectl get jobs,pods."""
    state, digest, reason = "running", "", ""
    for item in json.loads(text)["items"]:
        if item["kind"] == "Job":
            for condition in item.get("status", {}).get("conditions") or []:
                if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
                    state = "done" if condition["type"] == "Complete" else "failed"
                    reason = condition.get("message", "")
        else:
            for status in item.get("status", {}).get("containerStatuses") or []:
                ended = status.get("state", {}).get("terminated") or {}
                waiting = status.get("state", {}).get("waiting") or {}
                digest = (ended.get("message") or "").strip() or digest
                if waiting.get("reason") in (
                    "ErrImagePull",
                    "ImagePullBackOff",
                    "ErrImageNeverPull",
                ):
                    state, reason = "failed", waiting.get("message", waiting["reason"])
    return {"state": state, "digest": digest, "reason": reason}


def cluster_builder(wish: Object, ca: str, certificate: str, key: str) -> Object:
    """The objects of BuildKit in the cluster, as a List for kubectl apply.

    wish: {"name", "namespace", "image", "rootless", "registries" [{"host", "insecure"}],
    "host_aliases", "max_used_space", "node" and "cache_path" (without a storage class),
    "storage_class", "cache_size", "service_type", "port"}. The rest is PEM. As BuildKit's own
    examples/kubernetes have it, it serves TCP with the clients' certificates required, and a unix
    socket inside the pod for its probes.
    """
    rootless = wish["rootless"]
    labels = {
        "app.kubernetes.io/name": wish["name"],
        "app.kubernetes.io/managed-by": "homelab.containerd",
    }
    metadata = {"name": wish["name"], "namespace": wish["namespace"], "labels": labels}
    toml = f'[worker.oci]\n  maxUsedSpace = "{wish["max_used_space"]}"\n'
    for registry in wish["registries"]:
        toml += f'[registry."{registry["host"]}"]\n'
        if registry.get("insecure"):
            toml += "  http = true\n  insecure = true\n"
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
        "image": wish["image"],
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
        {"name": "certs", "secret": {"secretName": f"{wish['name']}-certs"}},
        {"name": "config", "configMap": {"name": wish["name"]}},
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
                "image": wish["image"],
                "imagePullPolicy": "IfNotPresent",
                "command": ["chown", "1000:1000", cache["mountPath"]],
                "securityContext": {"runAsUser": 0, "runAsGroup": 0},
                "volumeMounts": [cache],
            }
        ]
    if wish["host_aliases"]:
        pod["hostAliases"] = wish["host_aliases"]
    spec: Object = {
        # Two would share a cache, which buildkitd locks: the old one ends before the new begins. (A
        # StatefulSet would not replace one that never got ready, kubernetes/kubernetes#67250.)
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": {"app.kubernetes.io/name": wish["name"]}},
        "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod},
    }
    claims: list[Object] = []
    if wish["storage_class"]:
        volumes.append({"name": "cache", "persistentVolumeClaim": {"claimName": wish["name"]}})
        claims = [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": metadata,
                "spec": {
                    "storageClassName": wish["storage_class"],
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": wish["cache_size"]}},
                },
            }
        ]
    else:
        path = {"path": wish["cache_path"], "type": "DirectoryOrCreate"}
        volumes.append({"name": "cache", "hostPath": path})
        pod["nodeSelector"] = {"kubernetes.io/hostname": wish["node"]}
        pod["tolerations"] = [{"operator": "Exists", "effect": "NoSchedule"}]
    port = {"name": "grpc", "port": wish["port"], "targetPort": "grpc"}
    secret = {**metadata, "name": f"{wish['name']}-certs"}
    # Pods here are privileged, or without seccomp: clusters with Pod Security say so.
    namespace = {
        "name": wish["namespace"],
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
                    "type": wish["service_type"],
                    "selector": {"app.kubernetes.io/name": wish["name"]},
                    "ports": [port],
                },
            },
        ],
    }


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "build_job": build_job,
            "cluster_builder": cluster_builder,
            "image_name": builds.full_name,
            "job_outcome": job_outcome,
        }
