# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters that decide; see the .yml files beside this one for each."""

from __future__ import annotations

import typing as t

import yaml
from ansible_collections.homelab.containerd.plugins.plugin_utils import toml
from ansible_collections.homelab.containerd.plugins.plugin_utils.containerd_config import problem
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
    ClusterFacts,
    ClusterPlan,
    NodeFacts,
    Plan,
    PlanOptions,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan import before_snapshot
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan import plan as decisions
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import describe


def plan(facts: NodeFacts, options: PlanOptions) -> Plan:
    """What to do on a node: plugin_utils/plan/plan.py, with the node's YAML and TOML parsed."""
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
        trouble = problem(toml.parse(facts["containerd"]["config_text"] or "").unwrap())
    except ValueError as exc:
        trouble = str(exc)
    if trouble:
        errors["containerd_config"] = trouble
    for part, unread in (
        ("kubelet_config", facts["kubelet"].get("config_error")),
        ("containerd_config", facts["containerd"].get("config_error")),
    ):
        if unread:
            errors[part] = unread
    return decisions.decide(facts, options, config, errors)


def cluster_plan(facts: ClusterFacts, plans: list[Plan], options: PlanOptions) -> ClusterPlan:
    """What holds for all nodes together: plugin_utils/plan/plan.py, decide_cluster()."""
    return decisions.decide_cluster(facts, plans, options)


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "before_snapshot": before_snapshot.before_snapshot,
            "cluster_plan": cluster_plan,
            "describe_finding": describe,
            "plan": plan,
        }
