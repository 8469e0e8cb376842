# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real containerds take what daemon.json is translated to, merged into what was there before.

`containerd config dump` reads a configuration and prints what it understood, so a key that it
does not know is missing there. What does not go together, CRI says only when it is loaded.
"""

from __future__ import annotations

import itertools
import re
import tomllib
import typing as t

import pytest
from ansible_collections.homelab.containerd.plugins.filter.containerd_config import (
    containerd_config,
)
from ansible_collections.homelab.containerd.plugins.filter.docker_config import (
    translate_daemon_json,
)
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import versions
from ansible_collections.homelab.containerd.plugins.plugin_utils.containerd_config import (
    Settings,
    merge_settings,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.registries import (
    hosts_toml,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.result import (
    Registry,
)
from containerds import BOOTED, INVALID, ask, ask_hosts, versions_of
from support import SETTINGS, read_recorded

NVIDIA = {"path": "/usr/bin/nvidia-container-runtime", "runtimeArgs": []}
EVERYTHING = {
    "default-runtime": "nvidia",
    "runtimes": {"nvidia": NVIDIA, "runsc": {"path": "runsc", "runtimeArgs": ["--debug"]}},
    "max-concurrent-downloads": 10,
    "selinux-enabled": True,
    "exec-opts": ["native.cgroupdriver=systemd"],
    "log-opts": {"max-size": "10m", "max-file": "3"},
    "insecure-registries": ["nas.home:5000", "10.0.0.0/8"],
}

#: What people have in daemon.json, as far as any of it goes into config.toml.
DAEMON_JSON: dict[str, dict[str, t.Any]] = {
    "nothing": {},
    "everything": EVERYTHING,
    "nvidia": {"runtimes": {"nvidia": NVIDIA}, "default-runtime": "nvidia"},
    "nvidia-beside-runc": {"runtimes": {"nvidia": NVIDIA}},
    "crun": {"runtimes": {"crun": {"path": "/usr/bin/crun"}}, "default-runtime": "crun"},
    "kata": {
        "runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}},
        "default-runtime": "kata",
    },
    "kata-by-path": {
        "runtimes": {"kata": {"runtimeType": "/opt/kata/bin/containerd-shim-kata-v2"}}
    },
    "kata-by-name": {"default-runtime": "io.containerd.kata.v2"},
    "gvisor": {
        "runtimes": {
            "runsc": {
                "runtimeType": "io.containerd.runsc.v1",
                "options": {
                    "TypeUrl": "io.containerd.runsc.v1.options",
                    "ConfigPath": "/etc/containerd/runsc.toml",
                },
            }
        }
    },
    "gvisor-with-arguments": {
        "runtimes": {
            "runsc-kvm --host-uds=open": {
                "path": "/usr/bin/runsc",
                "runtimeArgs": ["--platform=kvm", "--host-uds=open"],
            }
        },
        "default-runtime": "runsc-kvm --host-uds=open",
    },
    "odd-names": {"runtimes": {"ünï.code": {"path": 'x"y\\z'}, "a b'c": {"path": "ü"}}},
    "runc-options": {
        "runtimes": {
            "slow": {
                "runtimeType": "io.containerd.runc.v2",
                "options": {"BinaryName": "/usr/bin/runc", "NoPivotRoot": True, "IoUid": 1},
            }
        }
    },
    "downloads": {"max-concurrent-downloads": 1},
    "selinux": {"selinux-enabled": True},
}

OWNERS = {
    "nothing": "",
    "dockers-package": 'disabled_plugins = ["cri"]\n',
    "owner-2": """\
version = 2
root = "/data/containerd"
imports = []
[plugins."io.containerd.grpc.v1.cri"]
  max_container_log_line_size = 32768
  systemd_cgroup = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "crun"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
        BinaryName = "/usr/bin/crun"
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
    endpoint = ["https://mirror.home", "https://registry-1.docker.io"]
  [plugins."io.containerd.grpc.v1.cri".registry.configs."mirror.home".tls]
    insecure_skip_verify = true
  [plugins."io.containerd.grpc.v1.cri".registry.configs."nas.home".auth]
    username = "me"
    password = "hush"
[metrics]
  address = "127.0.0.1:1338"
""",
    "owner-1": """\
root = "/data/containerd"
oom_score = -999
disabled_plugins = ["zfs", "cri"]
[plugins]
  [plugins.cgroups]
    no_prometheus = true
  [plugins.cri]
    max_container_log_line_size = 32768
    systemd_cgroup = true
    [plugins.cri.containerd]
      snapshotter = "native"
      [plugins.cri.containerd.default_runtime]
        runtime_type = "io.containerd.runtime.v1.linux"
        runtime_engine = "/usr/bin/crun"
    [plugins.cri.registry.mirrors."docker.io"]
      endpoint = ["https://mirror.home"]
""",
    **{
        "default-%s" % version: read_recorded("containerd-%s/config-default.toml" % version)
        for version in ("1.4.13", "1.6.20", "1.7.24")
    },
}
#: For containerd 2 alone.
OWNERS_OF_2 = {
    "default-2.4.2": read_recorded("containerd-2.4.2/config-default.toml"),
    "owner-3": """\
version = 3
[plugins.'io.containerd.cri.v1.runtime']
  max_container_log_line_size = 32768
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "crun"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun]
      runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.images'.registry.mirrors."docker.io"]
  endpoint = ["https://mirror.home"]
""",
}


class Case(t.NamedTuple):
    daemon_json: dict[str, t.Any]
    existing: str


def cases(containerd: str) -> dict[str, Case]:
    found = {"json-" + name: Case(value, "") for name, value in DAEMON_JSON.items()}
    owners = dict(OWNERS, **(OWNERS_OF_2 if containerd.startswith("2") else {}))
    for name, text in owners.items():
        found["toml-" + name] = Case(EVERYTHING, text)
    if containerd.startswith("2"):
        for name, version in itertools.product(DAEMON_JSON, (2, 3)):
            found["json-%s-in-%d" % (name, version)] = Case(
                DAEMON_JSON[name], "version = %d\n" % version
            )
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    versions = versions_of(metafunc.config)
    if "name" in metafunc.fixturenames:
        pairs = [(version, name) for version in versions for name in cases(version)]
        metafunc.parametrize(("containerd", "name"), pairs, scope="session")
    else:
        metafunc.parametrize("containerd", versions, scope="session")


def settings(containerd: str, case: Case) -> Settings:
    version = versions.parse_version(containerd)
    assert version
    translated = translate_daemon_json(case.daemon_json)
    assert translated["problems"] == []
    ours = dict(SETTINGS, config_version=versions.config_version(version))
    return t.cast(Settings, {**ours, **translated["containerd"]})


@pytest.fixture(scope="session")
def answers(containerd, tmp_path_factory):
    texts = {
        name: containerd_config(case.existing, dict(settings(containerd, case)))
        for name, case in cases(containerd).items()
    }
    return ask(containerd, tmp_path_factory.mktemp("containerd"), texts)


def leaves(value: t.Any, path: tuple[str, ...] = ()) -> t.Iterator[tuple[tuple[str, ...], t.Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def test_containerd_understands_all_of_it(answers, containerd, name):
    case = cases(containerd)[name]
    said = dict(leaves(tomllib.loads(answers.dump(name))))
    # It prints its own version of the file, whatever it read.
    wanted: dict[str, t.Any] = {}
    merge_settings(wanted, settings(containerd, case))
    crun = "crun" in case.existing
    for path, value in leaves(wanted):
        if "cni" in path or path == ("version",):
            continue  # bin_dir and bin_dirs: a file of an older version is migrated
        if path[-1] == "default_runtime_name" and crun:
            value = "default" if name.endswith("owner-1") else "crun"
        assert said.get(path) == value, path


def test_containerd_starts_with_it(answers, containerd, name):
    log = answers.log(name)
    assert BOOTED in log, log
    assert INVALID not in log, [line for line in log.splitlines() if INVALID in line]
    ours: dict[str, t.Any] = {}
    merge_settings(ours, settings(containerd, cases(containerd)[name]))
    unknown = {key.split()[-1] for key in re.findall(r'nknown key.* key="([^"]+)"', log)}
    assert not unknown & {path[-1] for path, _value in leaves(ours)}


def test_a_configuration_that_cri_refuses_is_noticed(containerd, tmp_path):
    """Or the tests above could not fail."""
    text = containerd_config("", dict(settings(containerd, Case(DAEMON_JSON["nvidia"], ""))))
    broken = text.replace('default_runtime_name = "nvidia"', 'default_runtime_name = "none"')
    assert broken != text
    log = ask(containerd, tmp_path, {"broken": broken}).log("broken")
    assert INVALID in log


#: Registries as daemon.json, certs.d and an older config.toml have them.
REGISTRIES: dict[str, Registry] = {
    "insecure": {"host": "nas.home:5000", "insecure": True},
    "mirrors": {
        "host": "docker.io",
        "mirrors": ["https://mirror.home", "http://10.0.0.7:5000/hub"],
        "tls": {"mirror.home": {"skip_verify": True}},
    },
    "plain": {"host": "nas.home:5000"},
    "default": {"host": "_default", "mirrors": ["http://mirror.home"]},
}


def test_containerd_reads_each_hosts_toml(containerd, tmp_path):
    texts = {name: (entry["host"], hosts_toml(entry)) for name, entry in REGISTRIES.items()}
    broken = texts["insecure"][1].replace('5000"]', '5000"')
    answers = ask_hosts(containerd, tmp_path, {**texts, "broken": ("nas.home:5000", broken)})
    for name in texts:
        said = answers.pull(name)
        # It got as far as the network, which is not there.
        assert "failed to do request" in said, (name, said)
        assert "hosts.toml" not in said, (name, said)
    assert "//mirror.home/" in answers.pull("mirrors")
    # Or this could not fail.
    assert "hosts.toml" in answers.pull("broken")
