# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.homelab.containerd.plugins.plugin_utils import options


class ActionModule(ActionBase):
    """check_options: all of it happens here; plugins/modules/check_options.py documents it."""

    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        _result, arguments = self.validate_argument_spec(
            argument_spec={
                "roles": {"type": "list", "elements": "str", "default": []},
                "hosts": {"type": "str"},
                "required_tags": {"type": "list", "elements": "str", "default": []},
            }
        )
        problems = self._options(arguments["roles"], bool(arguments["hosts"]), variables)
        if arguments["hosts"]:
            problems += self._hosts(arguments["hosts"], variables)
        skipped = set(arguments["required_tags"]) & set(variables.get("ansible_skip_tags") or [])
        if skipped:
            problems.append(
                "--skip-tags %s would leave out what protects the nodes. Choose with --tags "
                "what to run." % ",".join(sorted(skipped))
            )
        if problems:
            host = variables["inventory_hostname"]
            lines = ["%s: %s" % (host, text) for text in problems]
            return dict(result, failed=True, msg="\n".join([*lines, "Nothing was changed."]))
        return dict(result, changed=False)

    def _options(self, roles: list[str], playbook: bool, variables: dict[str, t.Any]) -> list[str]:
        """What the host's variables say of the roles' options, against the specs."""
        if not roles:
            return []
        specs: options.Specs = {}
        for role in [*roles, "playbooks"] if playbook else roles:
            specs.update(options.read_specs(role))
        problems = []
        for name, spec in specs.items():
            if name not in variables:
                continue
            try:
                value = self._templar.template(variables[name])
            except AnsibleUndefinedVariable:
                # It may rest on facts, or on a default of the role, which are not here yet.
                continue
            except AnsibleError as exc:
                problems.append("%s cannot be evaluated: %s" % (name, exc))
                continue
            try:
                options.check_value(name, spec, value)
            except options.BadValueError as exc:
                problems.append(str(exc))
        return problems + options.unknown_options(
            [*roles, "migrate"], variables, options.all_names()
        )

    def _hosts(self, pattern: str, variables: dict[str, t.Any]) -> list[str]:
        groups = variables["groups"]
        if pattern == options.CLUSTER:
            return options.group_problems(groups)
        lookup = lookup_loader.get(
            "ansible.builtin.inventory_hostnames", loader=self._loader, templar=self._templar
        )
        problem = options.pattern_problem(pattern, lookup.run([pattern], variables), groups)
        return [problem] if problem else []
