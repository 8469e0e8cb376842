#!/usr/bin/python
# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: build
short_description: Build an image from a Dockerfile with the node's BuildKit
version_added: "0.1.0"
author:
  - The homelab.containerd contributors (@homelab)
description:
  - Replaces C(docker build). The image is stored in this node's containerd, where the kubelet
    finds it, in a registry, in an OCI archive, or in several of these.
  - The steps are shown as they run. A failure names the failing line of the Dockerfile.
  - It builds first, and then publishes only what is new. So a failed build publishes nothing, and
    a second run that builds the same image changes nothing.
extends_documentation_fragment:
  - homelab.containerd.attributes
  - homelab.containerd.detached
options:
  context:
    description:
      - A directory on the node, or a git repository that buildkitd fetches with the node's git,
        for example V(https://git.lab/app.git#main:subdirectory).
      - The role of this name copies a directory of the controller to the node first.
    type: str
    required: true
  dockerfile:
    description: The Dockerfile, as a path below the context.
    type: str
    default: Dockerfile
  tags:
    description: The names of the image.
    type: list
    elements: str
    required: true
  destinations:
    description:
      - V(node) is this node's containerd. Its layers are not compressed.
      - V(registry) pushes under the names of O(tags). V(archive) writes O(archive).
    type: list
    elements: str
    choices: [node, registry, archive]
    default: [node]
  archive:
    description: The file for an OCI archive (a tar) on the node.
    type: path
  build_args:
    description:
      - Values for ARG. The process list and the image's history show them.
      - In the output, asterisks replace the values of those whose names say that they are secrets.
    type: dict
    default: {}
  target:
    description: The stage to build. If empty, the last one.
    type: str
    default: ""
  platforms:
    description: The platforms to build for, for example V(linux/arm64). If empty, the node's.
    type: list
    elements: str
    default: []
  secrets:
    description:
      - Ids and values for C(RUN --mount=type=secret,id=ID).
      - They are written neither to disk nor to the process list nor to the output. If a step prints
        one, asterisks are shown in its place.
    type: dict
  secrets_file:
    description: Set by the action plugin, which takes O(secrets) out of the arguments.
    type: path
  cache_from:
    description: Caches to import, for example V(type=registry,ref=registry.lab/app/cache).
    type: list
    elements: str
    default: []
  cache_to:
    description: >-
      Where to export the cache, for example V(type=registry,ref=registry.lab/app/cache,mode=max).
    type: list
    elements: str
    default: []
  no_cache:
    description: Whether to run every step again. The image is then new, and the task changed.
    type: bool
    default: false
  pull:
    description: Whether to ask the registries for base images even if containerd has them.
    type: bool
    default: false
  compression:
    description: The compression of layers that leave the node.
    type: str
    choices: [gzip, zstd, estargz, uncompressed]
    default: gzip
  docker_config:
    description: The directory with the config.json of the logins to registries.
    type: path
    default: /root/.docker
  address:
    description: buildkitd's socket.
    type: str
    default: unix:///run/buildkit/buildkitd.sock
  containerd_namespace:
    description: containerd's namespace that buildkitd builds in.
    type: str
    default: k8s.io
  timeout:
    description: Seconds for the whole build.
    type: int
    default: 7200
attributes:
  check_mode:
    support: full
    details:
      - Builds only into the cache, and publishes nothing. So it knows whether the image is new, and
        finds errors in the Dockerfile. In the next run every step is cached.
  diff_mode:
    support: full
    details: Shows each name with its image ID before and after.
"""

EXAMPLES = r"""
- name: Build what the pods of this node run
  homelab.containerd.build:
    context: /srv/app
    tags: [home/app:1]

- name: Build from git, with a token, for the registry
  homelab.containerd.build:
    context: https://git.lab/app.git#v1.2
    tags: [registry.lab:5000/app:1.2, registry.lab:5000/app:latest]
    destinations: [registry]
    secrets:
      GIT_AUTH_TOKEN: "{{ git_token }}"
"""

RETURN = r"""
image_id:
  description: The digest of the image's configuration, as docker and CRI show it.
  returned: success
  type: str
digests:
  description: For each destination the digest of the manifest.
  returned: success
  type: dict
published:
  description: >-
    What was new, each with C(destination), C(name) and C(digest); in check mode what would be.
  returned: success
  type: list
  elements: dict
restored:
  description:
    - Names of base images that were adopted from docker and missed blobs of their layers, which
      this build restored.
  returned: success
  type: list
  elements: str
pulled:
  description:
    - Whether the base images were pulled, although I(pull) is not set, because one missed blobs
      that could not be restored.
  returned: success
  type: bool
steps:
  description: The Dockerfile's steps, each with C(name), C(state) (done or cached) and C(seconds).
  returned: success
  type: list
  elements: dict
delta:
  description: How long it took on the node, in seconds.
  returned: when not in check mode
  type: float
"""

import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.homelab.containerd.plugins.module_utils._build import buildctl
from ansible_collections.homelab.containerd.plugins.module_utils._build.builder import (
    Builder,
    Published,
    check,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    lock,
    progress,
)


def run_module(module: AnsibleModule) -> t.Dict[str, t.Any]:
    options = dict(module.params)
    options["secrets"] = take_secrets(module)
    options["build_args"] = {key: str(value) for key, value in options["build_args"].items()}
    module.no_log_values.update(buildctl.secret_values(options))
    builder = Builder(options)
    check(options, builder)
    ways = {"node": builder.to_node, "registry": builder.to_registry, "archive": builder.to_archive}
    steps: t.List[t.Dict[str, t.Any]] = []
    digests = {}
    new: t.List[Published] = []
    built: t.Dict[str, t.Any] = {}
    # Every form of it is made before the first is published: a failure leaves all as it was.
    made = {}
    for destination in options["destinations"]:
        built = builder.solve(destination, False)
        built["image_id"] = built.get(
            "containerimage.config.digest", built["containerimage.digest"]
        )
        made[destination] = built
        digests[destination] = built["containerimage.digest"]
        steps = steps or built["steps"]
        options["no_cache"] = False
    for destination, built in made.items():
        new += ways[destination](built, not module.check_mode)
    for entry in new:
        builder.progress.say("%(destination)s %(name)s: %(after).19s" % entry)
    if not new:
        builder.progress.say("nothing new: %s exists already" % built["image_id"][:19])

    def listing(key: str) -> str:
        return "".join(
            "%s %s %s\n" % (entry["destination"], entry["name"], entry[key] or "absent")
            for entry in new
        )

    return {
        "changed": bool(new),
        "image_id": built["image_id"],
        "digests": digests,
        "published": [
            {
                "destination": entry["destination"],
                "name": entry["name"],
                "digest": digests[entry["destination"]],
            }
            for entry in new
        ],
        "restored": builder.restored,
        "pulled": builder.pulled,
        "steps": steps,
        "diff": {"before": listing("before"), "after": listing("after")},
    }


def take_secrets(module: AnsibleModule) -> t.Dict[str, str]:
    """The secrets, from the file in memory that the action plugin wrote; it is gone afterwards."""
    path = module.params["secrets_file"]
    if not path:
        return {key: str(value) for key, value in (module.params["secrets"] or {}).items()}
    try:
        with open(path, encoding="utf-8") as stream:
            values = json.load(stream)
        os.unlink(path)
    except (OSError, ValueError) as exc:
        raise commands.NodeError("The secrets did not arrive: %s. Run it again." % exc) from exc
    return dict(values)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "context": {"type": "str", "required": True},
            "dockerfile": {"type": "str", "default": "Dockerfile"},
            "tags": {"type": "list", "elements": "str", "required": True},
            "destinations": {
                "type": "list",
                "elements": "str",
                "choices": ["node", "registry", "archive"],
                "default": ["node"],
            },
            "archive": {"type": "path"},
            "build_args": {"type": "dict", "default": {}},
            "target": {"type": "str", "default": ""},
            "platforms": {"type": "list", "elements": "str", "default": []},
            "secrets": {"type": "dict", "no_log": True},
            "secrets_file": {"type": "path", "no_log": False},
            "cache_from": {"type": "list", "elements": "str", "default": []},
            "cache_to": {"type": "list", "elements": "str", "default": []},
            "no_cache": {"type": "bool", "default": False},
            "pull": {"type": "bool", "default": False},
            "compression": {
                "type": "str",
                "choices": ["gzip", "zstd", "estargz", "uncompressed"],
                "default": "gzip",
            },
            "docker_config": {"type": "path", "default": "/root/.docker"},
            "address": {"type": "str", "default": "unix:///run/buildkit/buildkitd.sock"},
            "containerd_namespace": {"type": "str", "default": "k8s.io"},
            "timeout": {"type": "int", "default": 7200},
            "progress_file": {"type": "path"},
            "started_by": {"type": "str"},
        },
        supports_check_mode=True,
    )

    def work() -> t.Dict[str, t.Any]:
        # A switch restarts containerd below a build. Builds take no lock: many may run at once.
        lock.refuse_beside("switch_runtime")
        return run_module(module)

    progress.finish(module, work)


if __name__ == "__main__":
    main()
