# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters that decide and translate; see the .yml files beside this one for each."""

from __future__ import annotations

import re
import typing as t

import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.homelab.containerd.plugins.module_utils import (
    cluster,
    daemon_config,
    registries,
    version_rules,
)
from ansible_collections.homelab.containerd.plugins.module_utils import plan as _plan
from ansible_collections.homelab.containerd.plugins.module_utils.containerd_config import (
    config_paths_of,
    merge_settings,
    problem,
    registries_of,
)
from ansible_collections.homelab.containerd.plugins.module_utils.findings import describe

try:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError
except ImportError as exc:  # pragma: no cover
    TOMLKIT_ERROR: ImportError | None = exc
else:
    TOMLKIT_ERROR = None


KUBELET_HEADER = "# Ansible managed: homelab.containerd added these keys, and keeps the others."

HEADER = "# Ansible managed: homelab.containerd sets the CRI keys here and keeps the others."


def _need_tomlkit() -> None:
    if TOMLKIT_ERROR:
        raise AnsibleFilterError(
            "The controller lacks tomlkit: pip install -r requirements.txt"
        ) from TOMLKIT_ERROR


def plan(facts: dict[str, t.Any], wishes: dict[str, t.Any]) -> dict[str, t.Any]:
    """What to do on a node: module_utils/plan.py, with the node's YAML and TOML parsed."""
    _need_tomlkit()
    errors = {}
    config = None
    try:
        config = yaml.safe_load(facts["kubelet"]["config_text"] or "")
        if config is not None and not isinstance(config, dict):
            raise yaml.YAMLError("a mapping is expected")
    except yaml.YAMLError as exc:
        config = None
        errors["kubelet_config"] = " ".join(str(exc).split())
    try:
        trouble = problem(tomlkit.parse(facts["containerd"]["config_text"] or "").unwrap())
    except TOMLKitError as exc:
        trouble = "it is not TOML: %s" % exc
    if trouble:
        errors["containerd_config"] = trouble
    for part in ("kubelet", "containerd"):
        if facts[part].get("config_error"):
            errors[part + "_config"] = facts[part]["config_error"]
    return _plan.decide(facts, wishes, config, errors)


def cluster_plan(
    facts: dict[str, t.Any], plans: list[dict[str, t.Any]], wishes: dict[str, t.Any]
) -> dict[str, t.Any]:
    """What holds for all nodes together: module_utils/plan.py, decide_cluster()."""
    return _plan.decide_cluster(facts, plans, wishes)


def containerd_config(existing: str, settings: dict[str, t.Any]) -> str:
    """config.toml with our settings in it: module_utils/containerd_config.py over tomlkit."""
    _need_tomlkit()
    document = tomlkit.parse(existing or "")
    try:
        merge_settings(document, settings)
    except ValueError as exc:
        raise AnsibleFilterError("containerd's config.toml: %s" % exc) from exc
    text = tomlkit.dumps(document)
    return text if text.startswith(HEADER) else HEADER + "\n" + text


def containerd_registries(existing: str) -> list[dict[str, t.Any]]:
    """The registries of a config.toml's CRI, which containerd_config takes out of it."""
    _need_tomlkit()
    document = tomlkit.parse(existing or "").unwrap()
    return [] if problem(document) else registries_of(document)


def containerd_config_paths(existing: str) -> list[str]:
    """The directories that a config.toml's CRI reads hosts.toml files from."""
    _need_tomlkit()
    document = tomlkit.parse(existing or "").unwrap()
    return [] if problem(document) else config_paths_of(document)


def docker_certificates(paths: list[str]) -> dict[str, t.Any]:
    """Files below /etc/docker/certs.d by their registry: module_utils/registries.py."""
    found: dict[str, list[str]] = {}
    for path in paths:
        directory, _slash, name = path.rpartition("/")
        found.setdefault(directory, []).append(name)
    return {
        directory.rpartition("/")[2]: registries.certificates(directory, names)
        for directory, names in found.items()
    }


def _config_version(containerd: str) -> int:
    version = version_rules.parse_version(containerd)
    if version is None:
        raise AnsibleFilterError("not a version of containerd: %r" % containerd)
    return version_rules.config_version(version)


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
        + yaml.safe_dump({str(k): v if isinstance(v, int) else str(v) for k, v in missing.items()})
    )
    longer = text.rstrip("\n") + "\n" + added
    try:
        whole = yaml.safe_load(longer)
    except yaml.YAMLError:
        whole = None
    # In braces, or with an end of its own: then it is written anew.
    return longer if whole == {**config, **missing} else yaml.safe_dump(config) + added


def kubelet_configmaps_out_of_step(
    configmaps: list[dict[str, t.Any]], kubelet: dict[str, t.Any], keys: t.Iterable[str] = ()
) -> list[dict[str, str]]:
    """kubeadm's kubelet ConfigMaps that lack what the node has: {"name", "text"} to set.

    The cgroup driver has to be the same; of keys those are added that the ConfigMap lacks.
    """
    config = yaml.safe_load(kubelet["config_text"] or "") or {}
    driver = config.get("cgroupDriver")
    version = version_rules.parse_version(kubelet["version"])
    if not version:
        return []
    # 1.23 writes the versioned one, and reads the other where its feature gate says so.
    names = ("kubelet-config", version_rules.kubeadm(version)["configmap"])
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


def translate_daemon_json(
    daemon_json: t.Any,
    flags: t.Any = (),
    certs_d: dict[str, t.Any] | None = None,
    environment: dict[str, str] | str | None = None,
    path: str = daemon_config.DAEMON_JSON,
) -> dict[str, t.Any]:
    """What becomes of docker's configuration: module_utils/daemon_config.py, from its text.

    flags and environment may also be texts as /proc/PID/cmdline and /proc/PID/environ have them.
    """
    if isinstance(flags, str):
        flags = [word for word in flags.split("\0") if word]
    if isinstance(environment, str):
        words = [word.partition("=") for word in environment.split("\0")]
        environment = daemon_config.proxies({name: value for name, _equals, value in words})
    value, error = daemon_json, None
    duplicates: list[str] = []
    if isinstance(daemon_json, str):
        value, error, duplicates = daemon_config.parse(daemon_json)
    elif not isinstance(daemon_json, dict):
        value, error = {}, "a JSON object is expected, found %s" % type(daemon_json).__name__
    found = daemon_config.translate(
        value, flags, certs_d, environment, path=path, duplicates=duplicates
    )
    if error:
        found["problems"].insert(0, {"key": "", "text": error})
    return found


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "plan": plan,
            "cluster_plan": cluster_plan,
            "describe_finding": describe,
            "containerd_config": containerd_config,
            "containerd_config_version": _config_version,
            "before_snapshot": cluster.before_snapshot,
            "containerd_config_paths": containerd_config_paths,
            "containerd_registries": containerd_registries,
            "docker_certificates": docker_certificates,
            "kubelet_config": kubelet_config,
            "kubelet_configmaps_out_of_step": kubelet_configmaps_out_of_step,
            "hosts_toml": registries.hosts_toml,
            "translate_daemon_json": translate_daemon_json,
        }
