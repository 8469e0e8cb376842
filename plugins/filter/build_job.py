# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters that the roles of builds need; see the .yml files beside this one for each."""

from __future__ import annotations

import json
import shlex
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.homelab.containerd.plugins.module_utils._containerd import image_names
from ansible_collections.homelab.containerd.plugins.plugin_utils import buildkit_config

Object = dict[str, t.Any]

#: Where the context is in the pod, and what the pod tells when it ends: the image's digest.
CONTEXT = "/workspace"
DIGEST = "/dev/termination-log"


def _words(option: str, values: t.Iterable[str]) -> list[str]:
    return [f"{option}={value}" for value in values]


def _buildkit(options: Object) -> Object:
    """A buildkitd for this build alone, in the Job's container (moby/buildkit, "daemonless")."""
    registries = [{"host": host, "insecure": True} for host in options["insecure_registries"]]
    toml = buildkit_config.buildkitd_toml({"registries": registries})
    build = ["buildctl", "build", "--progress=plain", "--frontend=dockerfile.v0"]
    if options["git"]:
        build.append(f"--opt=context={options['context']}")
    else:
        build += [f"--local=context={CONTEXT}", f"--local=dockerfile={CONTEXT}"]
    build.append(f"--opt=filename={options['dockerfile']}")
    build += _words("--opt=target", filter(None, [options["target"]]))
    build += _words("--opt=platform", filter(None, [",".join(options["platforms"])]))
    build += [f"--opt=build-arg:{key}={value}" for key, value in sorted(options["args"].items())]
    names = ",".join(options["tags"])
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


def _buildah(options: Object) -> Object:
    insecure = bool(options["insecure_registries"])
    verify = [f"--tls-verify={'false' if insecure else 'true'}"]
    build = ["buildah", "build", "--isolation=chroot", "--layers", *verify]
    build += [f"--file={options['dockerfile']}"]
    build += _words("--tag", options["tags"])
    build += _words("--target", filter(None, [options["target"]]))
    build += _words("--platform", filter(None, [",".join(options["platforms"])]))
    build += _words("--build-arg", (f"{k}={v}" for k, v in sorted(options["args"].items())))
    build.append(options["context"] if options["git"] else CONTEXT)
    lines = ["set -eu", "" if options["git"] else f"cd {CONTEXT}", shlex.join(build)]
    lines += [shlex.join(["buildah", "push", *verify, f"--digestfile={DIGEST}", tag])
              for tag in options["tags"]]  # fmt: skip
    return {"command": ["sh", "-c", "\n".join(filter(None, lines))], "state": "/var/lib/containers"}


def _kaniko(options: Object) -> Object:
    context = options["context"] if options["git"] else f"dir://{CONTEXT}"
    words = ["/kaniko/executor", f"--context={context}", f"--dockerfile={options['dockerfile']}"]
    words += _words("--destination", options["tags"])
    words += _words("--target", filter(None, [options["target"]]))
    words += _words("--custom-platform", options["platforms"][:1])
    words += _words("--build-arg", (f"{k}={v}" for k, v in sorted(options["args"].items())))
    words += _words("--insecure-registry", options["insecure_registries"])
    words.append(f"--digest-file={DIGEST}")
    return {"command": words, "privileged": False}


def _img(options: Object) -> Object:
    build = ["img", "build", "--no-console", f"--file={options['dockerfile']}"]
    build += _words("--tag", options["tags"])
    build += _words("--target", filter(None, [options["target"]]))
    build += _words("--platform", options["platforms"])
    build += _words("--build-arg", (f"{k}={v}" for k, v in sorted(options["args"].items())))
    build.append(options["context"] if options["git"] else CONTEXT)
    insecure = ["--insecure-registry"] if options["insecure_registries"] else []
    lines = ["set -eu", "" if options["git"] else f"cd {CONTEXT}", shlex.join(build)]
    lines += [shlex.join(["img", "push", *insecure, tag]) for tag in options["tags"]]
    return {"command": ["sh", "-c", "\n".join(filter(None, lines))]}


ENGINES = {"buildkit": _buildkit, "buildah": _buildah, "kaniko": _kaniko, "img": _img}


def build_job(options: Object) -> Object:
    """The Job that builds in the cluster with one of the engines.

    options: {"engine", "image", "name", "namespace", "node", "context" (a git repository, or a
    directory on that node), "git", "dockerfile", "tags", "args", "target", "platforms",
    "insecure_registries", "registry_login" (a Secret of type kubernetes.io/dockerconfigjson),
    "host_aliases", "timeout" in seconds}.
    """
    engine = options["engine"]
    if engine not in ENGINES:
        raise AnsibleFilterError(
            f"build_engine is {engine!r}: it is node, or a Job of {', '.join(ENGINES)}."
        )
    if not options["image"]:
        raise AnsibleFilterError(f"build_job_image is empty: name an image with {engine}.")
    if engine == "kaniko" and len(options["platforms"]) > 1:
        raise AnsibleFilterError("kaniko builds for one platform: build_platforms has several.")
    asked = ENGINES[engine](options)
    container: Object = {
        "name": "build",
        "image": options["image"],
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

    if not options["git"]:
        source = {"hostPath": {"path": options["context"], "type": "Directory"}}
        mount("context", CONTEXT, source, readOnly=True)
    if "state" in asked:
        # An overlay cannot have its upper directory on the container's own overlay.
        mount("state", asked["state"], {"emptyDir": {}})
    if options["registry_login"]:
        place = "/kaniko/.docker" if engine == "kaniko" else "/login"
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        secret = {"secret": {"secretName": options["registry_login"], "items": items}}
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
    if options["node"]:
        pod["nodeSelector"] = {"kubernetes.io/hostname": options["node"]}
        pod["tolerations"] = [{"operator": "Exists", "effect": "NoSchedule"}]
    if options["host_aliases"]:
        pod["hostAliases"] = options["host_aliases"]
    labels = {
        "app.kubernetes.io/managed-by": "homelab.containerd",
        "homelab.containerd/engine": engine,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": options["name"],
            "namespace": options["namespace"],
            # The pods get this label by themselves: one selector finds both.
            "labels": {**labels, "job-name": options["name"]},
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(options["timeout"]),
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


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "build_job": build_job,
            "image_name": image_names.full_name,
            "job_outcome": job_outcome,
        }
