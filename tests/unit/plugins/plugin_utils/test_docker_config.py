# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import tomllib

import pytest
from ansible_collections.homelab.containerd.plugins.filter.docker_config import (
    translate_daemon_json,
)
from ansible_collections.homelab.containerd.plugins.module_utils._docker.daemon_config import (
    BOOLEAN_FLAGS,
    SHORT_FLAGS,
    parse,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.sanitize import clean
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config import keys
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.registries import (
    hosts_toml,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.translation import (
    translate,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.docker_config.values import (
    kubernetes_quantity,
    parse_size,
)
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

OUTCOMES = {"translated", "not_needed", "no_equivalent", "unknown"}

#: The names in daemon.json of Docker 18.06, 20.10 and 28.5 (moby, daemon/config and registry).
NAMES = re.findall(
    r"\S+",
    """
allow-direct-routing allow-nondistributable-artifacts api-cors-header authorization-plugins bip
bip6 bridge builder cdi-spec-dirs cgroup-parent cluster-advertise cluster-store
cluster-store-opts containerd containerd-namespace containerd-plugin-namespace cpu-rt-period
cpu-rt-runtime cri-containerd data-root debug default-address-pools default-cgroupns-mode
default-gateway default-gateway-v6 default-init default-ipc-mode default-network-opts
default-runtime default-shm-size default-ulimits deprecated-key-path disable-legacy-registry dns
dns-opts dns-search exec-opts exec-root experimental features fixed-cidr fixed-cidr-v6 graph group
host-gateway-ip host-gateway-ips hosts icc init init-path insecure-registries ip ip-forward
ip-forward-no-drop ip-masq ip6tables iptables ipv6 labels live-restore log-driver log-format
log-level log-opts max-concurrent-downloads max-concurrent-uploads max-download-attempts
metrics-addr mtu network-control-plane-mtu network-diagnostic-port no-new-privileges
node-generic-resources oom-score-adjust pidfile proxies raw-logs registry-mirrors resolv-conf
rootless runtimes seccomp-profile selinux-enabled shutdown-timeout storage-driver storage-opts
swarm-default-advertise-addr swarm-raft-election-tick swarm-raft-heartbeat-tick tls tlscacert
tlscert tlskey tlsverify userland-proxy userland-proxy-path userns-remap
""",
)


def one(found, key):
    (setting,) = [entry for entry in found["settings"] if entry["key"] == key]
    return setting


def outcomes(found, key):
    return [entry["outcome"] for entry in found["settings"] if entry["key"] == key]


# --- the table --------------------------------------------------------------------------------


def test_every_key_of_docker_is_in_the_table():
    assert set(NAMES) - set(keys.KEYS) == set()


def test_every_flag_of_dockerd_20_10_is_in_the_table(recorded):
    text = recorded("docker-20.10.24/dockerd-help.txt")
    flags = dict(re.findall(r"(?m)^ {2,}(?:-., )?--([a-z0-9-]+)(?: ([a-z-]+))?", text))
    letters = re.findall(r"-([A-Za-z]), --([a-z0-9-]+)", text)
    assert len(flags) == 79 and len(letters) >= 8
    for name, kind in flags.items():
        row = keys.FLAGS[name]
        # Whether the next word is its value.
        assert (row.type == "bool") == (kind == ""), name
        repeated = kind in ("list", "map", "runtime", "ulimit", "pool-options")
        # 28 takes more than one.
        assert (row.type in ("list", "objects", "map")) == (repeated or name == "host-gateway-ip")
    for letter, name in letters:
        assert SHORT_FLAGS[letter] == name


def test_the_reader_of_flags_knows_the_booleans_of_the_table():
    assert {name for name, row in keys.FLAGS.items() if row.type == "bool"} == BOOLEAN_FLAGS
    assert set(SHORT_FLAGS.values()) <= set(keys.FLAGS)


@pytest.mark.parametrize("row", keys._TABLE, ids=lambda row: row.name)
def test_each_row_says_what_has_to_be_said(row):
    assert row.outcome in OUTCOMES - {"unknown"}
    assert row.text and not row.text.endswith(".")
    assert bool(row.to) == (row.outcome == "translated")
    assert not row.remedy or row.remedy.endswith(".")
    assert row.remedy or row.outcome != "no_equivalent"


def test_the_documentation_has_the_same_table():
    def cell(row):
        text = (row.to + ": " if row.to else "") + row.text + "."
        return (text + (" " + row.remedy if row.remedy else "")).replace("|", "\\|")

    letters = {name: letter for letter, name in SHORT_FLAGS.items()}
    rows = []
    for row in keys._TABLE:
        name = row.flag or row.name
        flag = ("-%s, " % letters[name] if name in letters else "") + "--" + name
        cells = (
            "" if row.only == "flag" else "`%s`" % row.name,
            "" if row.only == "file" else "`%s`" % flag,
            row.outcome.replace("_", " "),
            cell(row),
        )
        rows.append("| %s | %s | %s | %s |" % cells)
    text = (ROOT / "docs/daemon-json.md").read_text(encoding="utf-8")
    table = text.split("## The table")[1].split("|---|\n")[1].split("\n\n")[0]
    assert table.splitlines() == rows, "it has to be:\n" + "\n".join(rows)


# --- flags ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/usr/bin/dockerd", "-H", "fd://"], {"hosts": ["fd://"]}),
        (
            ["-Hfd://", "-H=unix:///x", "--host", "tcp://y"],
            {"hosts": ["fd://", "unix:///x", "tcp://y"]},
        ),
        (["-D", "--debug=false"], {"debug": False}),
        (["-Dl", "warn"], {"debug": True, "log-level": "warn"}),
        (["--debug", "--mtu", "1400"], {"debug": True, "mtu": 1400}),
        (
            ["--insecure-registry", "a:1", "--insecure-registry=b:2"],
            {"insecure-registries": ["a:1", "b:2"]},
        ),
        (
            ["--log-opt", "max-size=1m", "--log-opt=max-file=3"],
            {"log-opts": {"max-size": "1m", "max-file": "3"}},
        ),
        (["--add-runtime", "Foo=/x"], {"runtimes": {"foo": {"path": "/x"}}}),
        (["--feature", "cdi=false", "--feature", "x"], {"features": {"cdi": False, "x": True}}),
    ],
)
def test_flags_are_read_as_dockerd_reads_them(words, expected):
    found = translate({}, words)
    assert found["problems"] == []
    from_file = translate(expected)
    for entry in found["settings"]:
        assert entry["origin"] == "command line"
    as_in_the_file = [dict(entry, origin="") for entry in from_file["settings"]]
    assert [dict(entry, origin="") for entry in found["settings"]] == as_in_the_file
    assert {**found, "settings": 0} == {**from_file, "settings": 0}


def test_flags_that_nobody_knows():
    found = translate({}, ["dockerd", "--fancy", "x", "-Zy", "--really=1", "rest"])
    assert [(entry["key"], entry["value"]) for entry in found["settings"]] == [
        ("--fancy", "x"),
        ("-Z", "y"),
        ("--really", "1"),
        ("--rest", "true"),
    ]
    assert {entry["outcome"] for entry in found["settings"]} == {"unknown"}


@pytest.mark.parametrize(
    "flags",
    [
        {"log-level": "warn", "mtu": "1400"},
        "/usr/bin/dockerd\0--log-level=warn\0--mtu\x001400\0",
        ["--log-level=warn", "--mtu=1400"],
    ],
)
def test_flags_as_a_mapping_and_as_text(flags):
    found = translate_daemon_json({}, flags)
    assert [(one["key"], one["value"]) for one in found["settings"]] == [
        ("log-level", "warn"),
        ("mtu", 1400),
    ]


@given(st.one_of(st.text(), st.lists(st.text()), st.dictionaries(st.text(), st.text())))
def test_no_command_line_raises(words):
    translate_daemon_json({}, words)


def test_a_key_that_is_there_twice_is_a_problem():
    found = translate_daemon_json(
        '{"mtu": 1, "log-opts": {"max-size": "1m", "max-size": "2m"}, "mtu": 3}'
    )
    assert [problem["key"] for problem in found["problems"]] == ["max-size", "mtu"]


# --- registries -------------------------------------------------------------------------------


def test_insecure_registries_each_in_its_kind():
    found = translate(
        {
            "insecure-registries": [
                "nas.home:5000",
                "http://old.home/",
                "nas.home:5000",
                "10.0.0.0/8",
                "127.0.0.0/8",
                "::1/128",
                "ftp://x",
                "../../etc",
                "docker.io",
                "a\nb",
                "x:99999",
            ]
        }
    )
    assert found["registries"] == [
        {"host": "nas.home:5000", "insecure": True, "mirrors": []},
        {"host": "old.home", "insecure": True, "mirrors": []},
    ]
    assert found["unmatched"] == ["10.0.0.0/8"]
    assert (
        outcomes(found, "insecure-registries")
        == [
            "translated",
            "not_needed",
            "no_equivalent",
        ]
        + ["unknown"] * 5
    )
    assert len(found["problems"]) == 5
    assert "\n" not in json.dumps(found["problems"], ensure_ascii=False)


def test_mirrors_hold_for_docker_hub_alone():
    found = translate({"registry-mirrors": ["https://m.home/", "http://n:5000/hub", "m.home"]})
    assert found["registries"] == [
        {
            "host": "docker.io",
            "insecure": False,
            "mirrors": ["https://m.home", "http://n:5000/hub"],
        }
    ]
    assert outcomes(found, "registry-mirrors") == ["translated", "unknown"]


@pytest.mark.parametrize(
    ("networks", "mirror", "host"),
    [
        (["10.0.0.0/8"], "https://10.0.0.7:5000", "10.0.0.7:5000"),
        (["10.0.0.0/8"], "http://10.0.0.7/hub", "10.0.0.7"),
        (["10.0.0.0/8"], "https://192.168.0.7:5000", None),
        (["10.0.0.0/8"], "https://m.home:5000", None),
        ([], "https://127.0.0.1:5000", "127.0.0.1:5000"),
        ([], "https://localhost:5000", "localhost:5000"),
    ],
)
def test_a_mirror_in_an_insecure_network_is_not_verified(networks, mirror, host):
    """moby, registry/config.go: isSecureIndex, which newTLSConfig asks for mirrors too."""
    found = translate({"insecure-registries": networks, "registry-mirrors": [mirror]})
    insecure = [entry["host"] for entry in found["registries"] if entry["insecure"]]
    assert insecure == ([host] if host else [])
    for entry in found["registries"]:
        if entry["host"] == "docker.io" and mirror.startswith("https"):
            table = tomllib.loads(hosts_toml(entry, insecure))["host"][mirror]
            assert table.get("skip_verify", False) is bool(host)


def test_addresses_of_ipv6_have_no_equivalent():
    """go-toml v1 ends a table's name at the first "]", quoted or not (seen with 1.6.20)."""
    found = translate(
        {
            "insecure-registries": ["[fd00::7]:5000", "nas.home:5000"],
            "registry-mirrors": ["http://[fd00::7]:5000", "https://m.home"],
        }
    )
    for key in ("insecure-registries", "registry-mirrors"):
        assert outcomes(found, key) == ["translated", "no_equivalent"]
    assert "fd00" not in json.dumps(found["registries"]) and not found["problems"]


def test_a_mirrors_password_does_not_get_far():
    found = translate({"registry-mirrors": ["https://me:hush@m.home"]})
    assert found["registries"][0]["mirrors"] == ["https://m.home"]
    assert "hush" not in json.dumps(found)
    assert "password" in found["problems"][0]["text"]


def test_certificates():
    found = translate(
        {"insecure-registries": ["lax:5000"], "registry-mirrors": ["https://m:5000"]},
        certs_d={
            "strict:5000": ["ca.crt", "client.cert", "client.key"],
            "lax:5000": ["ca.crt"],
            "m:5000": ["ca.crt", "odd.cert"],
            "..": ["ca.crt"],
        },
    )
    assert one(found, "certs.d/strict:5000")["outcome"] == "translated"
    assert one(found, "certs.d/lax:5000")["outcome"] == "not_needed"
    assert one(found, "certs.d/..")["outcome"] == "unknown"
    assert [entry["key"] for entry in found["problems"]] == ["certs.d/..", "certs.d/m:5000"]
    by_host = {entry["host"]: entry for entry in found["buildkit"]["registries"]}
    assert by_host["strict:5000"]["tls_dir"] == "/etc/docker/certs.d/strict:5000"
    assert by_host["m:5000"]["tls_dir"]
    assert "tls_dir" not in by_host["lax:5000"] and "tls_dir" not in by_host["docker.io"]


# --- logs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "size", "quantity"),
    [
        ("10m", 10_000_000, "10M"),
        ("10MB", 10_000_000, "10M"),
        ("10MiB", 10_000_000, "10M"),
        ("1g", 10**9, "1G"),
        ("500k", 500_000, "500k"),
        ("1.5m", 1_500_000, "1500k"),
        ("1234", 1234, "1234"),
        ("20 M", 20_000_000, "20M"),
        ("-1", None, None),
        ("ten", None, None),
        ("", None, None),
        ("1e3", None, None),
    ],
)
def test_docker_counts_log_sizes_in_thousands(written, size, quantity):
    assert parse_size(written) == size
    if size:
        assert kubernetes_quantity(size) == quantity
        assert translate({"log-opts": {"max-size": written}})["kubelet"] == {
            "containerLogMaxSize": quantity,
            "containerLogMaxFiles": 2,
        }


@given(st.integers(1, 10**15))
def test_a_quantity_is_exact(size):
    match = re.fullmatch(r"(\d+)([kMG]?)", kubernetes_quantity(size))
    assert match and int(match[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[match[2]] == size


@pytest.mark.parametrize(
    ("config", "kubelet"),
    [
        ({"log-opts": {"max-size": "10m", "max-file": "3"}}, ("10M", 3)),
        ({"log-opts": {"max-file": "3", "max-size": "10m"}}, ("10M", 3)),
        # The kubelet does not start with fewer than 2.
        ({"log-opts": {"max-size": "10m", "max-file": "1"}}, ("10M", 2)),
        # docker keeps one file, and the kubelet five where nothing is set.
        ({"log-opts": {"max-size": "100m"}}, ("100M", 2)),
        ({"log-driver": "json-file", "log-opts": {"max-size": "10m"}}, ("10M", 2)),
        ({"log-driver": "local", "log-opts": {"max-size": "10m"}}, ("10M", None)),
        ({"log-driver": "local", "log-opts": {"max-file": "7"}}, (None, 7)),
        # Without max-size, json-file never rotates.
        ({"log-opts": {"max-file": "3"}}, (None, None)),
        ({"log-driver": "syslog", "log-opts": {"max-size": "10m"}}, (None, None)),
        ({"log-driver": "journald", "log-opts": {"tag": "x"}}, (None, None)),
        ({"log-opts": {"max-size": "0"}}, (None, None)),
        ({"log-opts": {"max-size": "x", "max-file": "0"}}, (None, None)),
    ],
)
def test_log_limits(config, kubelet):
    found = translate(config)
    assert found["kubelet"].get("containerLogMaxSize") == kubelet[0]
    assert found["kubelet"].get("containerLogMaxFiles") == kubelet[1]
    for option in config["log-opts"]:
        assert outcomes(found, "log-opts." + option)


def test_other_log_drivers_have_no_equivalent():
    found = translate({"log-driver": "splunk", "log-opts": {"splunk-token": "hush", "tag": "x"}})
    assert one(found, "log-driver")["outcome"] == "no_equivalent"
    # One finding for one fact: the driver's.
    assert one(found, "log-opts.splunk-token")["outcome"] == "not_needed"
    assert one(found, "log-opts.splunk-token")["value"] == "***"
    assert one(translate({"log-driver": "json-file"}), "log-driver")["outcome"] == "not_needed"


def test_where_docker_kept_no_logs_they_appear():
    found = one(translate({"log-driver": "none"}), "log-driver")
    assert found["outcome"] == "no_equivalent" and "/var/log/pods" in found["text"]
    assert "agent" not in found["remedy"]


@pytest.mark.parametrize(
    ("mode", "outcome"), [("blocking", "not_needed"), ("non-blocking", "no_equivalent")]
)
def test_blocking_is_what_containerd_does(mode, outcome):
    assert outcomes(translate({"log-opts": {"mode": mode}}), "log-opts.mode") == [outcome]


def test_a_number_among_the_log_options_is_understood_and_a_problem():
    found = translate({"log-opts": {"max-size": "1m", "max-file": 3, "compress": True}})
    assert found["kubelet"]["containerLogMaxFiles"] == 3
    assert [entry["key"] for entry in found["problems"]] == [
        "log-opts.max-file",
        "log-opts.compress",
    ]


# --- runtimes ---------------------------------------------------------------------------------


def test_nvidia():
    found = translate(
        {
            "default-runtime": "nvidia",
            "runtimes": {
                "nvidia": {"path": "/usr/bin/nvidia-container-runtime", "runtimeArgs": []}
            },
        }
    )
    assert found["problems"] == []
    assert found["containerd"] == {
        "runtimes": {
            "nvidia": {
                "runtime_type": "io.containerd.runc.v2",
                "options": {"BinaryName": "/usr/bin/nvidia-container-runtime"},
            }
        },
        "default_runtime_name": "nvidia",
    }


@pytest.mark.parametrize(
    ("runtime", "outcome", "carried"),
    [
        ({"path": "/usr/bin/crun"}, "translated", {"BinaryName": "/usr/bin/crun"}),
        ({"runtimeType": "io.containerd.kata.v2"}, "translated", None),
        (
            {"runtimeType": "io.containerd.runsc.v1", "options": {"ConfigPath": "/x"}},
            "translated",
            {"ConfigPath": "/x"},
        ),
        (
            {"path": "runsc", "runtimeArgs": ["--debug", "--log=/x"]},
            "translated",
            {"BinaryName": "/usr/local/lib/homelab-containerd/runtimes/mine"},
        ),
        ({"path": "runsc", "runtimeArgs": ["$(reboot)"]}, "no_equivalent", None),
        ({"path": "runsc", "runtimeArgs": "--debug"}, "unknown", None),
        ({}, "unknown", None),
        ({"path": "x", "runtimeType": "y"}, "unknown", None),
        ({"path": "x", "options": {"a": 1}}, "unknown", None),
        ({"runtimeType": "y", "runtimeArgs": ["a"]}, "unknown", None),
        ({"runtimeType": "y", "options": {"a": None}}, "no_equivalent", None),
        ({"runtimeType": "y", "options": {'a"': 1}}, "no_equivalent", None),
        ({"path": "x\u001b[31m"}, "unknown", None),
        ({"path": 1}, "unknown", None),
        ("runsc", "unknown", None),
        (None, "unknown", None),
    ],
)
def test_runtimes(runtime, outcome, carried):
    found = translate({"runtimes": {"mine": runtime}, "default-runtime": "mine"})
    assert one(found, "runtimes.mine")["outcome"] == outcome
    assert bool(found["containerd"]) == (outcome == "translated")
    if outcome == "translated":
        assert found["containerd"]["runtimes"]["mine"].get("options") == carried
        assert found["containerd"]["default_runtime_name"] == "mine"
    else:
        # A default that is not there would stop every pod.
        assert one(found, "default-runtime")["outcome"] == "unknown"


def test_fields_of_a_runtime_in_another_case():
    """Go's encoding/json takes them; of two spellings, the last one."""
    runtime = {"path": "/old", "Path": "/usr/bin/runsc", "RUNTIMEARGS": ["--debug"], "Args": ["x"]}
    found = translate({"runtimes": {"gvisor": runtime}, "default-runtime": "gvisor"})
    assert outcomes(found, "runtimes.gvisor") == ["translated"]
    assert outcomes(found, "runtimes.gvisor.Args") == ["unknown"]
    assert list(found["scripts"].values()) == ["/usr/bin/runsc --debug"]
    assert found["containerd"]["default_runtime_name"] == "gvisor"


@pytest.mark.parametrize(
    "entry", ["native.cgroupdriver = systemd", " Native.CgroupDriver=systemd "]
)
def test_an_execution_option_with_spaces_and_capitals(entry):
    found = translate({"exec-opts": [entry]})
    assert one(found, "exec-opts.native.cgroupdriver")["outcome"] == "translated"
    assert one(found, "exec-opts.native.cgroupdriver")["value"] == "systemd"


def test_a_runtimes_arguments_need_a_script():
    found = translate(
        {
            "runtimes": {
                "runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--debug", "--platform=kvm"]},
                "../x y": {"path": "runsc", "runtimeArgs": ["--a"], "args": ["x"], "old": []},
            }
        }
    )
    paths = list(found["scripts"])
    assert paths[0] == "/usr/local/lib/homelab-containerd/runtimes/runsc"
    assert re.fullmatch(
        r"/usr/local/lib/homelab-containerd/runtimes/\.\.-x-y-[0-9a-f]{8}", paths[1]
    )
    assert found["scripts"][paths[0]] == "/usr/bin/runsc --debug --platform=kvm"
    runtimes = found["containerd"]["runtimes"]
    assert [runtime["options"]["BinaryName"] for runtime in runtimes.values()] == paths
    # dockerd ignores what it does not know of a runtime.
    assert one(found, "runtimes.../x y.args")["outcome"] == "unknown"
    assert outcomes(found, "runtimes.../x y.old") == []
    # The handler of a RuntimeClass is a DNS label.
    assert "RuntimeClass can" in one(found, "runtimes.../x y")["text"]
    assert "RuntimeClass can" not in one(found, "runtimes.runsc")["text"]


@pytest.mark.parametrize("name", ["runc", "io.containerd.runc.v2"])
def test_runc_stays_the_default(name):
    found = translate({"default-runtime": name})
    assert found["containerd"] == {} and outcomes(found, "default-runtime") == ["not_needed"]


def test_a_shim_by_its_own_name():
    found = translate({"default-runtime": "io.containerd.kata.v2"})["containerd"]
    assert found["default_runtime_name"] in found["runtimes"]


def test_the_name_runc_is_dockers_own():
    found = translate({"runtimes": {"runc": {"path": "/x"}}})
    assert found["containerd"] == {} and found["problems"]


# --- proxies ----------------------------------------------------------------------------------


def test_proxies_from_everywhere():
    found = translate(
        {"proxies": {"http-proxy": "http://me:hush@p:3128", "no-proxy": "a,b"}},
        ["--https-proxy=http://q:3128"],
        environment={"HTTP_PROXY": "http://old:1", "http_proxy": "http://older:1", "NO_PROXY": ""},
    )
    assert found["environment"] == {
        "HTTP_PROXY": "http://me:hush@p:3128",
        "HTTPS_PROXY": "http://q:3128",
        "NO_PROXY": "a,b",
    }
    assert "hush" not in json.dumps(found["settings"])
    assert one(found, "proxies.http-proxy")["value"] == "http://***@p:3128"
    assert one(found, "https-proxy")["origin"] == "command line"
    assert one(found, "environment.NO_PROXY")["outcome"] == "not_needed"
    assert found["problems"] == []


def test_a_proxy_at_the_top_of_the_file_is_ignored_by_dockerd():
    found = translate({"http-proxy": "http://p:1", "insecure-registry": ["a:1"]})
    assert found["environment"] == {} and found["registries"] == []
    assert "proxies.http-proxy" in one(found, "http-proxy")["text"]
    assert "insecure-registries" in one(found, "insecure-registry")["text"]


@pytest.mark.parametrize("value", ["http://p\nEvil=1", "x\x1b[31m", 1, None, ["http://p"]])
def test_a_proxy_that_is_none(value):
    found = translate({"proxies": {"http-proxy": value}})
    assert found["environment"] == {} and found["problems"]


# --- the rest ---------------------------------------------------------------------------------


def test_what_containerd_is_told_besides():
    found = translate({"max-concurrent-downloads": 10, "selinux-enabled": True})
    assert found["containerd"] == {"max_concurrent_downloads": 10, "enable_selinux": True}
    assert translate({"max-concurrent-downloads": 0, "selinux-enabled": False})["containerd"] == {}


KEEP = {"defaultKeepStorage": "20GB"}
RULES = [
    {"keepStorage": "1GB", "filter": ["type=exec.cachemount"]},
    {"KeepStorage": "10GB", "filter": []},
    {"keepStorage": "50GB", "all": True},
]


@pytest.mark.parametrize(
    ("gc", "limit", "expected"),
    [
        (KEEP, 20 << 30, ["translated"]),
        ({"enabled": True, **KEEP}, 20 << 30, ["not_needed", "translated"]),
        ({"enabled": False, **KEEP}, None, ["no_equivalent", "not_needed"]),
        ({**KEEP, "policy": RULES}, 10 << 30, ["not_needed", "translated"]),
        ({"policy": RULES[:1], **KEEP}, None, ["no_equivalent", "not_needed"]),
        ({"policy": ["x", {"keepStorage": 1e99}]}, None, ["no_equivalent"]),
        ({"defaultKeepStorage": "much"}, None, ["unknown"]),
        ({"DefaultKeepStorage": 7}, None, ["no_equivalent"]),
    ],
)
def test_the_limit_of_dockers_build_cache(gc, limit, expected):
    found = translate({"builder": {"gc": gc}})
    assert found["buildkit"].get("gc") == (limit and {"max_used_space": str(limit)})
    assert [entry["outcome"] for entry in found["settings"]] == expected


def test_a_key_in_both_places():
    found = translate({"debug": True, "runtimes": {}}, ["-D", "--add-runtime=a=/a"])
    assert [entry["key"] for entry in found["problems"]] == ["debug"]
    assert [entry["origin"] for entry in found["settings"] if entry["key"] == "debug"] == [
        "/etc/docker/daemon.json",
        "command line",
    ]
    found = translate({"proxies": {"http-proxy": "http://a"}}, ["--http-proxy=http://b"])
    assert [entry["key"] for entry in found["problems"]] == ["http-proxy"]


@pytest.mark.parametrize(
    ("host", "value"),
    [
        ("tcp://10.0.0.7:2376", "tcp://10.0.0.7:2376"),
        # opts/hosts.go: no scheme is tcp, and no address every one of the machine's.
        ("0.0.0.0:2375", "tcp://0.0.0.0:2375"),
        (":2375", "tcp://:2375"),
        (" 10.0.0.7 ", "tcp://10.0.0.7"),
    ],
)
def test_docker_on_tcp(host, value):
    for found in (translate({"hosts": ["fd://", host]}), translate({}, ["-Hfd://", "-H", host])):
        assert outcomes(found, "hosts") == ["not_needed", "no_equivalent"]
        assert found["settings"][1]["value"] == value


@pytest.mark.parametrize(
    ("config", "outcome"),
    [
        ({"storage-driver": "overlay2"}, "not_needed"),
        ({"storage-driver": "zfs"}, "no_equivalent"),
        ({"hosts": ["fd://", "unix:///x"]}, "not_needed"),
        ({"hosts": [""]}, "not_needed"),
        ({"hosts": ["http://x:1"]}, "unknown"),
        ({"init": False}, "not_needed"),
        ({"init": True}, "no_equivalent"),
        ({"default-shm-size": "64M"}, "not_needed"),
        # dockershim set it for every pod (docker_sandbox.go, defaultShmSize).
        ({"default-shm-size": "1g"}, "not_needed"),
        # dockershim left RuntimeDefault to docker (helpers_linux.go, getSeccompDockerOpts).
        ({"seccomp-profile": "/etc/docker/seccomp.json"}, "no_equivalent"),
        ({"seccomp-profile": "unconfined"}, "no_equivalent"),
        ({"seccomp-profile": "builtin"}, "not_needed"),
        ({"data-root": "/data"}, "not_needed"),
        ({"live-restore": True}, "not_needed"),
        ({"userns-remap": "default"}, "no_equivalent"),
        ({"userns-remap": ""}, "not_needed"),
        ({"mtu": None}, "not_needed"),
        ({"mtu": "1400"}, "unknown"),
        ({"debug": "true"}, "unknown"),
        ({"debug": 1}, "unknown"),
        ({"mtu": True}, "unknown"),
        ({"mtu": 1400.5}, "unknown"),
        ({"insecure-registries": "a:5000"}, "unknown"),
        ({"insecure-registries": ["a:5000", 1]}, "unknown"),
        ({"Debug": True}, "unknown"),
        ({"no-such-key": {"debug": True}}, "unknown"),
    ],
)
def test_single_keys(config, outcome):
    found = translate(config)
    (key,) = config
    assert set(outcomes(found, key)) == {outcome}
    known = key in keys.KEYS
    assert bool(found["problems"]) == (outcome == "unknown" and known)


def test_a_misspelt_key_is_named():
    assert (
        "insecure-registries"
        in one(translate({"insecure-registres": []}), "insecure-registres")["text"]
    )


def test_default_ulimits_are_named_one_by_one():
    value = {"nofile": {"Name": "nofile", "Hard": 65536, "Soft": 65536}}
    assert one(translate({"default-ulimits": value}), "default-ulimits.nofile")["value"]


def test_hostile_names_are_shown_harmless():
    found = translate({"\x1b[2Jdebug": "\x1b]0;x\x07", "a\u202eb": {"\x9b": ["\x00"]}})
    text = json.dumps(found, ensure_ascii=False)
    assert text == clean(text)
    assert "\\x1b[2Jdebug" in [entry["key"] for entry in found["settings"]]


# --- whatever comes in ------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(
        ["10m", "a:5000", "http://m", "10.0.0.0/8", "json-file", "fd://", "runc", "20GB", "x=y"]
    ),
)
subkeys = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["max-size", "max-file", "gc", "defaultKeepStorage", "nvidia", "path", "runtimeType",
         "options", "http-proxy", "buildkit", "nofile"]
    ),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(subkeys, inner, max_size=4)
    ),
    max_leaves=12,
)
configs = st.dictionaries(
    st.one_of(st.sampled_from(sorted(keys.KEYS) + sorted(keys.FLAGS)), st.text()),
    values,
    max_size=6,
)


@given(configs)
def test_whatever_comes_in_every_key_comes_out(config):
    found = translate(config)
    keys = [entry["key"] for entry in found["settings"]]
    for key in config:
        name = clean(re.sub("[\ud800-\udfff]", "\ufffd", key))
        assert any(entry == name or entry.startswith(name + ".") for entry in keys), key
    for entry in found["settings"]:
        assert set(entry) == {"key", "value", "origin", "outcome", "to", "text", "remedy"}
        assert entry["outcome"] in OUTCOMES and entry["text"]
        assert bool(entry["to"]) == (entry["outcome"] == "translated")
    text = json.dumps(found, ensure_ascii=False, allow_nan=False)
    text.encode()
    if not found["containerd"].get("runtimes") and not found["environment"]:
        assert text == clean(text)


@given(configs)
def test_as_text_it_is_the_same(config):
    text = json.dumps(config)
    found = translate_daemon_json(text)
    if "NaN" not in text and "Infinity" not in text:
        assert found["settings"] == translate(parse(text)[0])["settings"]


@pytest.mark.parametrize("value", [None, 1, [], "", "x", b"x", True])
def test_what_is_no_configuration_at_all(value):
    found = translate_daemon_json(value)
    assert found["settings"] == []
    assert bool(found["problems"]) == (value != "")
