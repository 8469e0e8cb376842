# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._docker import daemon_config
from ansible_collections.homelab.containerd.plugins.module_utils._docker.daemon_config import (
    parse,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import flags
from hypothesis import given
from hypothesis import strategies as st

# --- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "why"),
    [
        ("", {}, None),
        (" \n", {}, None),
        ('{"debug": true}\n', {"debug": True}, None),
        ('\ufeff{"debug": true}', {"debug": True}, "BOM"),
        ('{"debug": true', {}, "line 1, column 15: Expecting"),
        ('{"debug": true} x', {"debug": True}, "comes after"),
        ('{"debug": true,}', {}, "line 1, column 15: JSON has no comma after the last entry"),
        ('\n{"dns": ["a",\n  "b" , \n]}', {}, "line 3, column 7: JSON has no comma after"),
        ('// mine\n{"debug": true}', {}, "line 1, column 1: JSON has no comments"),
        ('\n\n{\n  # mine\n  "debug": true}', {}, "line 4, column 3: JSON has no comments"),
        ('{"debug": /* mine */ true}', {}, "line 1, column 11: JSON has no comments"),
        ('{"dns": [], // mine\n "mtu": 1}', {}, "line 1, column 13: JSON has no comments"),
        ('{"dns": [] // mine\n}', {}, "line 1, column 12: JSON has no comments"),
        ('{"dns": ["a",,]}', {}, "line 1, column 14: "),
        ("[]", {}, "found a list"),
        ("null", {}, "found null"),
        ('"x"', {}, "found a string"),
        ('{"mtu": NaN}', {}, "NaN"),
        ('{"mtu": -Infinity}', {}, "-Infinity"),
        ('{"mtu": 1e999}', {}, "1e999"),
        ('{"mtu": %s}' % ("9" * 5000), {}, "not a JSON number"),
        ('{"a": "\\ud800"}', {"a": "\ufffd"}, None),
        ('{"\\udfff": ["\\udfff"]}', {"\ufffd": ["\ufffd"]}, None),
        ('{"a": "\x01"}', {}, "control character"),
        ("[" * 100000, {}, ""),
        ('{"a": ' + "[" * 200 + "]" * 200 + "}", {}, "nested"),
    ],
)
def test_parse(text, value, why):
    found, error, duplicates = parse(text)
    assert found == value and duplicates == []
    assert error is None if why is None else why in (error or "")
    assert error is None or error.isprintable()


def test_parse_names_what_is_there_twice_and_takes_the_last():
    text = '{"mtu": 1, "log-opts": {"max-size": "1m", "max-size": "2m"}, "mtu": 3}'
    assert parse(text) == ({"mtu": 3, "log-opts": {"max-size": "2m"}}, None, ["max-size", "mtu"])


@given(st.text())
def test_parse_never_raises(text):
    value, error, _duplicates = parse(text)
    assert isinstance(value, dict)
    json.dumps(value, ensure_ascii=False).encode()
    assert error is None or isinstance(error, str)


# --- flags ------------------------------------------------------------------------------------

#: As systemd starts it with an ExecStart= of docker's documentation and a few flags more.
DOCKERD = [
    "/usr/bin/dockerd",
    "-Hfd://",
    "-H",
    "tcp://10.0.0.7:2376",
    "--tlsverify",
    "--storage-opt",
    "overlay2.size=10G",
    "--storage-opt",
    "overlay2.override_kernel_check=true",
    "--log-opt",
    "tag={{.Name}}",
    "-Dl",
    "warn",
    "--containerd=/run/containerd/containerd.sock",
]


def test_a_command_line_of_dockerds():
    assert daemon_config.flag_values(DOCKERD) == {
        "host": ["fd://", "tcp://10.0.0.7:2376"],
        "tlsverify": ["true"],
        "storage-opt": ["overlay2.size=10G", "overlay2.override_kernel_check=true"],
        "log-opt": ["tag={{.Name}}"],
        "debug": ["true"],
        "log-level": ["warn"],
        "containerd": ["/run/containerd/containerd.sock"],
    }
    # The kubelet's reader loses the first storage option, the sockets and the log level.
    kubelets = flags.flag_values(DOCKERD[1:])
    assert kubelets["storage-opt"] == "overlay2.override_kernel_check=true"
    assert not {"host", "debug", "log-level"} & set(kubelets)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], []),
        (["dockerd"], []),
        (
            ["--label", "-x", "--debug", "false"],
            [("label", "-x"), ("debug", "true"), ("", "false")],
        ),
        (["-D=false", "-H=", "--icc="], [("debug", "false"), ("host", ""), ("icc", "")]),
        (["-DZx", "-l"], [("debug", "true"), ("Z", "x"), ("log-level", "true")]),
        (["--host"], [("host", "true")]),
    ],
)
def test_flags_are_read_by_pflags_rules(words, expected):
    assert daemon_config.read_flags(words) == expected


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["dockerd"], "/etc/docker/daemon.json"),
        (["dockerd", "--config-file", "/a", "--config-file=/b"], "/b"),
    ],
)
def test_the_file_that_dockerd_reads(words, path):
    assert daemon_config.config_file(daemon_config.flag_values(words)) == path


@given(st.lists(st.text()))
def test_no_command_line_raises(words):
    daemon_config.flag_values(words)
