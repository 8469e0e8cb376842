# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters for the kubelet's configuration."""

from __future__ import annotations

import re
import typing as t

import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import versions

KUBELET_HEADER = "# Ansible managed: homelab.containerd added these keys, and keeps the others."


def kubelet_config(text: str, settings: dict[str, t.Any], flags: t.Iterable[str] = ()) -> str:
    """The kubelet's config.yaml with keys at its end that neither it nor a flag says already.

    A flag overrides the file, and is called containerLogMaxSize as container-log-max-size.
    """
    try:
        config = yaml.safe_load(text or "")
        if not isinstance(config, dict):
            raise yaml.YAMLError("a mapping is expected")
    except yaml.YAMLError as exc:
        raise AnsibleFilterError("the kubelet's configuration: %s" % exc) from exc
    missing = {
        key: value
        for key, value in settings.items()
        if key not in config and re.sub("[A-Z]", lambda m: "-" + m[0].lower(), key) not in flags
    }
    if not missing:
        return text
    # Plain types: yaml knows none of Ansible's.
    added = (
        KUBELET_HEADER
        + "\n"
        + yaml.safe_dump({str(key): _plain(value) for key, value in missing.items()})
    )
    longer = text.rstrip("\n") + "\n" + added
    try:
        whole = yaml.safe_load(longer)
    except yaml.YAMLError:
        whole = None
    # In braces, or with its own end marker: then the whole file is written again.
    return longer if whole == {**config, **missing} else yaml.safe_dump(config) + added


def _plain(value: t.Any) -> bool | int | str:
    if isinstance(value, bool):
        return value
    return int(value) if isinstance(value, int) else str(value)


def kubelet_configmaps_out_of_step(
    configmaps: list[dict[str, t.Any]], kubelet: dict[str, t.Any], keys: t.Iterable[str] = ()
) -> list[dict[str, str]]:
    """kubeadm's kubelet ConfigMaps without what the node has: {"name", "text"} to set.

    The cgroup driver has to be the same. Those of keys that the ConfigMap does not have are added.
    """
    config = yaml.safe_load(kubelet["config_text"] or "") or {}
    driver = config.get("cgroupDriver")
    version = versions.parse_version(kubelet["version"])
    if not version:
        return []
    # 1.23 writes the versioned one, and reads the other where its feature gate says so.
    names = ("kubelet-config", versions.kubelet_configmap(version))
    found = []
    for configmap in configmaps:
        text = (configmap.get("data") or {}).get("kubelet")
        if configmap["metadata"]["name"] not in names or not text:
            continue
        before = yaml.safe_load(text)
        wanted = dict({key: config[key] for key in keys if key in config}, **before)
        if driver:
            wanted["cgroupDriver"] = driver
        if wanted != before:
            found.append({"name": configmap["metadata"]["name"], "text": yaml.safe_dump(wanted)})
    return found


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "kubelet_config": kubelet_config,
            "kubelet_configmaps_out_of_step": kubelet_configmaps_out_of_step,
        }
