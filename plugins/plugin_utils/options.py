# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with the options and the groups of an inventory, in sentences.

Ansible's own check of role arguments takes a string for a list and for a dictionary. Variables of
the command line (-e name=value) are strings, so a role would read "HC112" letter by letter.
"""

from __future__ import annotations

import difflib
import pathlib
import re
import typing as t
from collections.abc import Callable, Iterable, Mapping, Sequence

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.homelab.containerd.plugins.module_utils._switch import limits

Specs = dict[str, dict[str, t.Any]]
Groups = Mapping[str, Sequence[str]]

COLLECTION = pathlib.Path(__file__).resolve().parents[2]
#: Ten times as fast, where PyYAML has it; every host reads all specs.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: The groups that the playbooks know.
CONTROL_PLANE, WORKERS = "kube_control_plane", "kube_node"
CLUSTER = "%s:%s" % (CONTROL_PLANE, WORKERS)
#: What the filter `bool` understands; to the others it says false.
BOOLEANS = ("true", "false", "yes", "no", "on", "off", "1", "0")
#: Facts that the roles set for everybody: they begin like an option and are none.
FACTS = frozenset(
    {
        "assess_cluster",
        "assess_facts",
        "assess_plan",
        "assess_time",
        "build_result",
        "carry_images_expected",
        "carry_images_restored",
        "carry_images_result",
        "containerd_docker_proxies",
        "switch_runtime_result",
        "verify_results",
        "verify_times",
    }
)
#: So alike has a name to be, of 1, to be taken for a misspelt other one.
NEAR = 0.8


def read_specs(role: str) -> Specs:
    """The options of a role of the collection; "playbooks" for those that only playbooks take."""
    base = COLLECTION if role == "playbooks" else COLLECTION / "roles" / role
    path = base / "meta/argument_specs.yml"
    entries = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)["argument_specs"]
    options: Specs = {}
    for entry in entries.values():
        options.update(entry.get("options") or {})
    return options


def all_names() -> set[str]:
    """Every option of the collection, and every fact that a role sets."""
    names = set(FACTS) | set(read_specs("playbooks"))
    for path in (COLLECTION / "roles").glob("*/meta/argument_specs.yml"):
        names |= set(read_specs(path.parents[1].name))
    return names


def _serial(value: t.Any) -> str | None:
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        found = re.fullmatch(r"(\d+)(%?)", str(entry).strip())
        number = int(found[1]) if found else 0
        if isinstance(entry, bool) or number < 1 or (found and found[2] and number > 100):
            return "it has to be a number from 1, or a percentage from 1% to 100%"
    return None if entries else "the list is empty"


def _overrides(value: t.Any) -> str | None:
    wrong = [str(code) for code in value if not re.fullmatch(r"HC1\d\d", str(code))]
    if not wrong:
        return None
    return (
        "%s is no code of a blocker. Blockers are overridden one by one, by the code that assess "
        "shows (HC1xx); docs/codes.md says what happens then" % ", ".join(wrong)
    )


DAY, YEARS = 86400, 3650
#: The least and the most of each whole number; its description says the same. kubectl takes a
#: time-out of 0 for none at all.
BOUNDS = {
    "build_timeout": (1, 7 * DAY),
    "buildkit_drain_timeout": (0, DAY),
    "buildkit_tls_days": (1, YEARS),
    "buildkit_tls_renew_days": (0, YEARS),
    "carry_images_reserve_bytes": (0, 1 << 60),
    "certificates_days": (1, YEARS),
    "certificates_renew_days": (0, YEARS),
    "cluster_builder_port": (1, 65535),
    "cluster_builder_timeout": (1, DAY),
    "cluster_builder_tls_days": (1, YEARS),
    "cluster_builder_tls_renew_days": (0, YEARS),
    "switch_runtime_drain_timeout": (1, DAY),
    "verify_timeout": (1, DAY),
    **{"switch_runtime_" + name: bounds for name, bounds in limits.LIMITS.items()},
}


def _out_of_bounds(name: str, value: t.Any) -> str | None:
    least, most = BOUNDS[name]
    return None if least <= int(value) <= most else "it has to be from %d to %d" % (least, most)


#: What an argument spec cannot say.
RULES: dict[str, Callable[[t.Any], str | None]] = {
    "assess_overrides": _overrides,
    "assess_serial": _serial,
    "migrate_serial": _serial,
}


#: Their values are not shown.
SECRET = frozenset({"build_secrets", "buildkit_environment", "containerd_environment"})


class BadValueError(Exception):
    """A value that does not fit, with the sentence that says so."""

    def __init__(self, name: str, value: t.Any, text: str) -> None:
        self.value = value
        #: containerd_registries[0].mirrors to containerd_registries.
        self.option = re.split(r"[\[.]", name)[0]
        super().__init__("%s is %s: %s" % (name, self._shown(), text))

    def _shown(self) -> str:
        text = repr(self.value)
        if self.option in SECRET:
            return "not shown here"
        return text if len(text) <= 200 else text[:200] + "…"


def _how(name: str, yaml_form: str, json_form: str) -> str:
    text = "Write it as %s" % yaml_form
    if not re.search(r"[\[.]", name):
        text += ", and on the command line as -e '{\"%s\": %s}'" % (name, json_form)
    return text + "."


def _check_type(name: str, spec: Mapping[str, t.Any], value: t.Any) -> None:
    """Refuse a value of another type than the spec says; nothing is converted."""
    kind = spec.get("type", "str")
    if value is None:
        raise BadValueError(name, value, "it has no value. Give it one, or leave it out.")
    if kind == "list":
        if not isinstance(value, list | tuple):
            raise BadValueError(
                name,
                value,
                "that is not a list. " + _how(name, "[a, b]", '["a", "b"]'),
            )
        element = {"type": spec.get("elements", "raw"), "options": spec.get("options")}
        for index, entry in enumerate(value):
            _check_type("%s[%d]" % (name, index), element, entry)
    elif kind == "dict":
        if not isinstance(value, Mapping):
            raise BadValueError(
                name,
                value,
                "that is not a dictionary. " + _how(name, "{key: value}", '{"key": "value"}'),
            )
        inner = spec.get("options") or {}
        for key in value:
            if key in inner:
                _check_type("%s.%s" % (name, key), inner[key], value[key])
            elif inner:
                raise BadValueError(
                    name, value, "there is no key %s. Its keys are %s." % (key, ", ".join(inner))
                )
    elif kind in ("str", "path") and isinstance(value, Mapping | list | tuple):
        raise BadValueError(name, value, "that is not a string.")
    elif kind == "bool" and str(value).lower() not in BOOLEANS:
        raise BadValueError(name, value, "it has to be true or false.")
    elif kind == "int" and (
        isinstance(value, bool) or not re.fullmatch(r"\d+", str(value).strip())
    ):
        raise BadValueError(name, value, "it has to be a whole number from 0.")


def check_value(name: str, spec: Mapping[str, t.Any], value: t.Any) -> None:
    """Raise BadValueError with what is wrong with an option's value."""
    _check_type(name, spec, value)
    errors = ArgumentSpecValidator({name: spec}).validate({name: value}).error_messages
    if errors and name in SECRET:
        errors = ["it is not what its description says"]
    rule = RULES[name](value) if name in RULES else None
    if name in BOUNDS:
        rule = _out_of_bounds(name, value)
    if errors or rule:
        raise BadValueError(name, value, "%s." % (rule or "; ".join(errors).rstrip(".")))


def _near(name: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, sorted(names), n=1, cutoff=NEAR)


def unknown_options(
    roles: Iterable[str], variables: Iterable[str], known: Iterable[str]
) -> list[str]:
    """Names that begin like an option and are none.

    A name of one word belongs to other collections too (kubespray has containerd_storage_dir), so
    there only what is nearly an option is refused.
    """
    problems = []
    known = set(known)
    for variable in sorted(set(variables) - known):
        for role in roles:
            prefix = role + "_"
            if not variable.startswith(prefix):
                continue
            ours = {name[len(prefix) :]: name for name in known if name.startswith(prefix)}
            near = _near(variable[len(prefix) :], ours)
            if near:
                problems.append(
                    "there is no option %s. Did you mean %s?" % (variable, ours[near[0]])
                )
            elif "_" in role or role == "migrate":
                problems.append(
                    "there is no option %s. Those that begin so are %s."
                    % (variable, ", ".join(sorted(set(ours.values()) - FACTS)))
                )
    return problems


def group_problems(groups: Groups) -> list[str]:
    """What is wrong with the groups of a cluster's inventory."""
    problems = []
    chosen = {host for name in (CONTROL_PLANE, WORKERS) for host in groups.get(name, ())}
    others = [name for name in groups if name not in (CONTROL_PLANE, WORKERS, "all", "ungrouped")]
    for right in (CONTROL_PLANE, WORKERS):
        for name in difflib.get_close_matches(right, others, n=9, cutoff=NEAR):
            left_out = [host for host in groups[name] if host not in chosen]
            if groups[name] and (left_out or not groups.get(right)):
                problems.append(
                    "the inventory has a group %s (%s), which no playbook reads. Rename it to %s, "
                    "or give it a name that is less similar."
                    % (name, ", ".join(groups[name]), right)
                )
    if not groups.get(CONTROL_PLANE):
        problems.append(
            "the inventory has no group %s with a host in it. Put the control-plane nodes into %s "
            "and all nodes that run pods into %s; the README has an example."
            % (CONTROL_PLANE, CONTROL_PLANE, WORKERS)
        )
    return problems


def pattern_problem(pattern: str, found: Sequence[str], groups: Groups) -> str | None:
    """What is wrong with a pattern of hosts that a playbook was given."""
    if found:
        return None
    near = _near(pattern, groups)
    return "buildkit_hosts is %s, and no host of the inventory is in it.%s" % (
        pattern,
        " Did you mean %s?" % near[0] if near else "",
    )
