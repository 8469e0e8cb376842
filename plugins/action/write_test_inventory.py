# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import typing as t

from ansible.plugins import AnsiblePlugin
from ansible.plugins.action import ActionBase

#: What testinfra's own connections take from an inventory, or need not know. A host that needs
#: more is reached through Ansible, which is slower.
NATIVE = {
    "ansible_connection",
    "ansible_host",
    "ansible_user",
    "ansible_port",
    "ansible_ssh_args",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_private_key_file",
    "ansible_ssh_timeout",
    "ansible_ssh_retries",
    "ansible_pipelining",
    "ansible_become",
    "ansible_become_user",
    "ansible_python_interpreter",
}


def _given(plugin: AnsiblePlugin) -> dict[str, t.Any]:
    """The options of a plugin that are not the default, each by the variable that sets it."""
    found = {}
    for name, definition in plugin.option_definitions.items():
        value = plugin.get_option(name)
        variables = [entry["name"] for entry in definition.get("vars") or []]
        variable = next((word for word in variables if word.startswith("ansible_")), None)
        if variable and value is not None and str(value) != str(definition.get("default")):
            found[variable] = value
    return found


class ActionModule(ActionBase):
    """write_test_inventory: plugins/modules/write_test_inventory.py documents it."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        _result, arguments = self.validate_argument_spec(
            argument_spec={
                "path": {"type": "path", "required": True},
                "groups": {"type": "list", "elements": "str", "default": []},
                "variables": {"type": "dict", "default": {}},
            }
        )
        host = self._task.delegate_to or variables["inventory_hostname"]
        known = variables.get("ansible_delegated_vars", {}).get(host, variables)
        connection = self._connection
        written = {"ansible_connection": connection.ansible_name.removeprefix("ansible.builtin.")}
        written.update(_given(connection))
        become = connection.become
        written["ansible_become"] = become is not None
        if become is not None:
            written.update(_given(become))
            method = become.ansible_name.removeprefix("ansible.builtin.")
            if method != "sudo":
                written["ansible_become_method"] = method
        if "ansible_python_interpreter" in known:
            name = "ansible_python_interpreter"
            written[name] = self._templar.template(known[name])
        native = set(written) <= NATIVE
        written.update(arguments["variables"])
        children: dict[str, t.Any] = {group: {"hosts": {host: {}}} for group in arguments["groups"]}
        inventory = {"all": {"hosts": {host: written}, "children": children}}
        # It may have passwords in it.
        file = os.open(arguments["path"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as stream:
            json.dump(inventory, stream, default=str)
        return dict(result, changed=False, native=native)
