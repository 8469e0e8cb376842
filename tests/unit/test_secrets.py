# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No secret is shown: planted where one can stand, and looked for in all that comes out."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import typing as t

import pytest
import report_samples as samples
import yaml
from ansible_collections.homelab.containerd.plugins.module_utils._build import (
    buildctl,
    progress,
)
from ansible_collections.homelab.containerd.plugins.module_utils._facts import (
    containerd,
    docker,
    kubelet,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    paths,
    sanitize,
)
from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import NodeFacts
from ansible_collections.homelab.containerd.plugins.plugin_utils.plan.findings import describe
from ansible_collections.homelab.containerd.plugins.plugin_utils.report import model, page
from ansible_collections.homelab.containerd.plugins.plugin_utils.report import text as report_text
from support import ROOT, SETTINGS, read_recorded

#: Each planted secret begins with this.
MARK = "pLanted7"
TASKS = sorted(ROOT.glob("roles/*/tasks/*.yml"))


class Secrets:
    """A secret of its own for each place, so that a failure says which place it came from."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, middle: str = "") -> str:
        self.number += 1
        return "%s%02d%s%sq" % (MARK, self.number, middle, MARK)


def leaks(output: t.Any) -> list[str]:
    text = output if isinstance(output, str) else json.dumps(output)
    return sorted(set(re.findall(MARK + r"\d*", text)))


def daemon_json(secret: Secrets) -> dict[str, t.Any]:
    """As far as docker or its log drivers let a secret into it."""
    return {
        "log-driver": "splunk",
        "log-opts": {
            **{"splunk-token": secret(), "nr-license-key": secret(), "dd-apikey": secret()},
            **{"auth-header": secret(), "sumo-url": "https://c/receiver/" + secret()},
            **{"loki-url": "https://u:%s@loki/push" % secret(), "max-size": "10m", "n": secret()},
        },
        "proxies": {
            "http-proxy": "http://user:%s@proxy:3128" % secret("/"),
            "https-proxy": "user:%s@proxy:3128" % secret(),
            "no-proxy": ".lab",
        },
        "registry-mirrors": [
            "https://user:ab/%s@m.lab" % secret(),
            "user:%s@m.lab" % secret(),
            "https://m.lab/?token=" + secret(),
            "https://%s@m.lab" % secret(),
        ],
        "insecure-registries": ["user:%s@m.lab:5000" % secret(), "https://u:%s@i.lab" % secret()],
        "log-opt": ["splunk-token=" + secret()],
        "a-token": [secret(), {"x": secret()}],
        "runtimes": {"r": {"path": "/r", "runtimeArgs": ["--password", secret()]}},
    }


def config_toml(secret: Secrets) -> str:
    return """
version = 2
# password = "%s"
[plugins."io.containerd.grpc.v1.cri".registry.configs."m.lab".auth]
password = '%s'
"auth" = \"\"\"
%s\"\"\"
[plugins."io.containerd.grpc.v1.cri".registry.configs."n.lab"]
auth = { username = "u", password = "%s", identitytoken = "%s" }
[plugins."io.containerd.grpc.v1.cri".registry.configs."o.lab"]
auth.password = "%s"
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."m.lab"]
endpoint = ["https://user:%s@m.lab", 'https://user:ab/%s@m.lab', "https://m/?token=%s"]
[plugins."io.containerd.tracing.processor.v1.otlp"]
headers = { x-any = "%s" }
""" % tuple(secret() for _place in range(10))


@pytest.fixture
def facts(monkeypatch, tmp_path) -> NodeFacts:
    """runtime_info of a node that has a secret wherever one can stand, by the real collectors."""
    secret = Secrets()
    node = samples.facts("node1")
    (tmp_path / "daemon.json").write_text(json.dumps(daemon_json(secret)))
    (tmp_path / "config.toml").write_text(config_toml(secret))
    config = dict(
        yaml.safe_load(node["kubelet"]["config_text"]),
        staticPodURL="https://u:%s@m/" % secret(),
        staticPodURLHeader={"X-Any": [secret()], "Authorization": ["Basic " + secret()]},
    )
    (tmp_path / "kubelet.yaml").write_text(yaml.safe_dump(config))
    dockerd = ["dockerd", "--config-file", str(tmp_path / "daemon.json")]
    dockerd += ["--log-opt", "any-key=" + secret(), "--log-opt=other=" + secret()]
    dockerd += ["--http-proxy=http://u:%s@p:1" % secret(), "--https-proxy", "u:%s@p" % secret()]
    dockerd += ["--registry-mirror", "https://u:ab/%s@m" % secret()]
    header = "Authorization:" + secret()
    running = {
        "dockerd": dockerd,
        "kubelet": ["kubelet", "--manifest-url-header=" + header, "--manifest-url-header", header],
    }
    running["kubelet"] += ["--manifest-url=https://u:%s@m" % secret(), "--config=/nowhere"]
    running["kubelet"][-1] = "--config=" + str(tmp_path / "kubelet.yaml")
    (tmp_path / "flags.env").write_text(
        'KUBELET_KUBEADM_ARGS="--manifest-url-header=%s --manifest-url=https://u:%s@m"\n'
        % (header, secret())
    )
    environment = {"HTTP_PROXY": "http://u:%s@p" % secret(), "https_proxy": "u:%s@p" % secret()}
    monkeypatch.setattr(commands, "command_line", lambda name: (os.getpid(), running[name]))
    monkeypatch.setattr(docker, "environment", lambda _pid: environment)
    monkeypatch.setattr(paths, "CONTAINERD_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setattr(
        paths, "KUBEADM_FLAGS", (str(tmp_path / "flags.env"), "KUBELET_KUBEADM_ARGS")
    )
    node["docker"].update(docker.docker_facts(str(tmp_path / "no.sock")))
    node["docker"]["active"] = True
    node["kubelet"].update(kubelet.kubelet_facts("/nowhere"))
    node["containerd"].update(containerd.containerd_facts())
    assert secret.number > 40
    return t.cast("NodeFacts", node)


def test_facts_plan_and_report_of_a_node_full_of_secrets(facts):
    assert leaks(facts) == []
    # It was read, and is not missing because it was not found.
    assert "splunk-token" in json.dumps(facts["docker"])
    assert "manifest-url-header" in facts["kubelet"]["flags"]
    assert "identitytoken" in (facts["containerd"]["config_text"] or "")
    plan = samples.plan(facts)
    assert leaks(plan) == []
    assert leaks([describe(entry) for entry in plan["blockers"] + plan["warnings"]]) == []
    found = model.build([plan], samples.cluster([plan]), now=samples.NOW)
    assert leaks(found) == []
    assert leaks(page.page(found)) == []
    assert leaks(report_text.text(found)) == []
    assert leaks("\n".join(line for line, _colour in report_text.lines(found, True))) == []


def test_a_translation_of_docker_shows_none_and_keeps_the_proxies():
    """It reads the file itself where the proxies are needed: with their passwords."""
    from ansible_collections.homelab.containerd.plugins.filter import docker_config

    value = daemon_json(Secrets())
    found = docker_config.translate_daemon_json(json.dumps(value), ["--a-token=" + Secrets()()])
    assert found["environment"]["HTTP_PROXY"] == value["proxies"]["http-proxy"]
    assert leaks(found["settings"]) == []
    assert leaks(found["problems"]) == []


def test_no_key_of_ours_is_taken_for_a_secret():
    """The report blanks by names: what plan and facts call their keys must not be such a name."""
    from ansible_collections.homelab.containerd.plugins.plugin_utils import contracts

    types = [entry for entry in vars(contracts).values() if t.is_typeddict(entry)]
    names = {name for entry in types for name in entry.__annotations__}
    assert len(names) > 200
    assert {name for name in names if sanitize.is_secret(name)} == set()
    for recorded in ("runtime_info-dockershim.json", "runtime_info-containerd.json"):
        assert sanitize.blank(read_recorded(recorded)) == read_recorded(recorded)


def test_an_error_of_a_command_shows_neither_secrets_nor_escapes(tmp_path):
    secret = Secrets()
    script = "printf 'Authorization: Basic %s\\n\\033[2J--token=%s\\n' >&2; exit 3"
    (tmp_path / "script").write_text(script % (secret(), secret()))
    words = ["sh", str(tmp_path / "script"), "--password", secret()]
    with pytest.raises(commands.NodeError) as caught:
        commands.run([*words, "https://u:%s@m" % secret()])
    text = str(caught.value)
    assert leaks(text) == []
    assert "exit status 3" in text
    assert all(line.isprintable() for line in text.split("\n"))


def events(log: bytes, name: str) -> list[progress.Event]:
    started = {"started": "2026-01-01T00:00:00Z"}
    vertex = dict(started, digest="sha256:a", name=name)
    failed = dict(vertex, completed="2026-01-01T00:00:01Z", error="exit code: 1")
    return [
        {"vertexes": [vertex]},
        {"logs": [{"vertex": "sha256:a", "data": base64.b64encode(log[:20]).decode()}]},
        {"logs": [{"vertex": "sha256:a", "data": base64.b64encode(log[20:]).decode()}]},
        {"vertexes": [failed]},
    ]


def test_what_a_build_says_has_neither_its_secrets_nor_escapes():
    secret = Secrets()
    options = {
        "secrets": {"id": secret("\t\x1b ")},
        "build_args": {"NPM_TOKEN": secret(), "DEBUG": "1", "MONKEY": "1"},
        "cache_from": [],
        "cache_to": ["type=s3,region=x,secret_access_key=" + secret()],
        "context": "https://user:%s@git.lab/app.git" % secret(),
    }
    values = buildctl.secret_values(options)
    assert len(values) == 4
    log = "".join(
        "\x1b[2J\x1b]0;title\x07%s \u202e https://u:%s@m\n" % (value, secret()) for value in values
    )
    steps = progress.Steps(lambda text: buildctl.mask(text, values))
    said = []
    for event in events((log + values[0]).encode(), "[1/2] RUN a\x1b[31m " + " ".join(values)):
        said += steps.feed(event)
    step = steps.failed()
    assert step is not None and len(step["log"]) == 5
    for text in [*said, *step["log"], step["name"], *(s["name"] for s in steps.report())]:
        assert leaks(text) == []
        assert text.isprintable()


# --- real runs of ansible-playbook ----------------------------------------------------------------

KUBECTL = """#!/bin/sh
case "$*" in
  *exec*) cat answer; exit $(cat status) ;;
  *pods*) cat pods.json ;;
  *) cat nodes.json ;;
esac
"""
PLAY = """
- hosts: node1
  gather_facts: false
  handlers:
    - name: Restart containerd
      ansible.builtin.debug:
        msg: restarted
  tasks:
    - block:
        - ansible.builtin.include_tasks: "{{ root }}/roles/switch_runtime/tasks/look.yml"
        - ansible.builtin.include_tasks: "{{ root }}/roles/switch_runtime/tasks/kubelet_config.yml"
        - ansible.builtin.include_tasks: "{{ root }}/roles/containerd/tasks/config.yml"
        - ansible.builtin.include_tasks: "{{ root }}/roles/containerd/tasks/registries.yml"
        - ansible.builtin.include_role:
            name: homelab.containerd._common
            tasks_from: service_environment
            rolespec_validate: false
          vars:
            __common_environment: "{{ proxies }}"
        - ansible.builtin.include_tasks: "{{ root }}/roles/switch_runtime/tasks/snapshot.yml"
      module_defaults:
        homelab.containerd.node_runtime_info:
          docker_socket: "{{ playbook_dir }}/no.sock"
        homelab.containerd.keep_original:
          directory: "{{ playbook_dir }}/kept"
    - homelab.containerd.show_report:
        plans: []
        outcomes: []
        api: "{{ __switch_runtime_pods.stdout | from_json }}"
        directory: "{{ playbook_dir }}/report"
"""


def run_play(directory: pathlib.Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    secret = Secrets()
    pods = read_recorded("kubernetes-1.23.17/pods.json")
    for pod in pods["items"]:
        for container in pod["spec"]["containers"]:
            container["env"] = [{"name": "ANY", "value": secret()}]
    nodes = read_recorded("kubernetes-1.23.17/nodes.json")
    nodes["items"].append(
        {"kind": "ConfigMap", "metadata": {"name": "cloud"}, "data": {"x": secret()}}
    )
    name = next(entry for entry in nodes["items"] if entry["kind"] == "Node")["metadata"]["name"]
    toml = config_toml(secret)
    probe = {"namespace": "default", "pod": pods["items"][0]["metadata"]["name"]}
    here = str(directory)
    written = {
        "kubectl": KUBECTL.replace("cat ", "cat %s/" % here),
        "answer": secret(),
        "status": str(status),
        "pods.json": json.dumps(pods),
        "nodes.json": json.dumps(nodes),
        "config.toml": toml,
        "hosts.toml": '[host."https://m".header]\nx-any = ["%s"]\n' % secret(),
        "kubelet.yaml": "kind: KubeletConfiguration\nstaticPodURLHeader:\n  X-Any:\n  - %s\n"
        % secret(),
        "play.yml": PLAY,
        "environment": "HTTP_PROXY=http://u:%s@p\n" % secret(),
    }
    for file, text in written.items():
        (directory / file).write_text(text)
    (directory / "kubectl").chmod(0o755)
    dump = directory / "containerd"
    dump.write_text("#!/bin/sh\nexit 0\n")
    dump.chmod(0o755)
    variables = {
        "root": str(ROOT),
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "proxies": {"HTTP_PROXY": "http://u:%s@p" % secret()},
        "switch_runtime_kubectl_host": "node1",
        "switch_runtime_to": "containerd",
        "switch_runtime_probes": [dict(probe, command=["cat", "/data"])],
        "switch_runtime_kubelet_config": {"containerLogMaxFiles": 3},
        "__switch_runtime_kubectl": [here + "/kubectl"],
        "__switch_runtime_info": {
            "kubelet": {"config_path": here + "/kubelet.yaml", "flags": {}},
            "kubernetes": {"node_name": name},
        },
        "__switch_runtime_node": next(e for e in nodes["items"] if e["kind"] == "Node"),
        "__common_state_dir": here + "/state",
        "__common_before": here + "/state/before.json",
        "__common_environment_file": here + "/environment",
        "__common_environment_unit": "containerd.service",
        "__common_environment_handler": "Restart containerd",
        "__common_environment_drop_in": here + "/drop-in/x.conf",
        "__containerd_config_path": here + "/config.toml",
        "__containerd_config_original": here + "/original/config.toml",
        "__containerd_now": {"config_text": "", "binary": here + "/containerd"},
        "__containerd_config_settings": SETTINGS,
        "__containerd_config_text": "{{ lookup('file', '%s/config.toml') }}" % here,
        "__containerd_config_wanted": "{{ __containerd_config_text ~ '# new' }}",
        "containerd_certs_dir": here,
        "__containerd_registry_changes": {
            "files": [{"path": here + "/hosts.toml", "text": "server = 'https://m'\n"}],
            "links": [],
        },
    }
    (directory / "variables.json").write_text(json.dumps(variables))
    shutil.copytree(directory, directory / "before")
    words = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "play.yml"]
    return subprocess.run(
        [*words, "-i", "node1,", "-vvv", "--diff", "-e", "@variables.json"],
        cwd=directory,
        env={
            "PATH": os.environ["PATH"],
            "HOME": here,
            "LANG": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the tasks write files as root")


@needs_root
def test_a_real_run_at_vvv_and_diff_shows_none(tmp_path):
    done = run_play(tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert leaks(done.stdout + done.stderr) == []
    # Each of the files was really written.
    assert "containerLogMaxFiles" in (tmp_path / "kubelet.yaml").read_text()
    assert MARK in (tmp_path / "kubelet.yaml").read_text()
    assert (tmp_path / "config.toml").read_text().endswith("# new")
    assert "server" in (tmp_path / "hosts.toml").read_text()
    assert MARK in (tmp_path / "environment").read_text()
    before_json = tmp_path / "state/before.json"
    assert before_json.stat().st_mode & 0o777 == 0o600
    assert leaks(before_json.read_text()) == []
    # Whatever of the owner's was changed is kept as it was.
    before = {path.name: path.read_bytes() for path in (tmp_path / "before").iterdir()}
    changed = [name for name, old in before.items() if (tmp_path / name).read_bytes() != old]
    assert sorted(changed) == ["config.toml", "environment", "hosts.toml", "kubelet.yaml"]
    for name in changed:
        kept = tmp_path / "kept" / str(tmp_path)[1:] / name
        assert kept.read_bytes() == before[name]
        assert kept.stat().st_mode == (tmp_path / "before" / name).stat().st_mode
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700
    for report in (tmp_path / "report").iterdir():
        assert leaks(report.read_text()) == []


@needs_root
def test_a_probe_that_fails_is_named_and_its_answer_is_not_shown(tmp_path):
    done = run_play(tmp_path, status=3)
    assert done.returncode != 0
    assert leaks(done.stdout + done.stderr) == []
    assert "failed with exit status 3" in done.stdout


# --- every task -----------------------------------------------------------------------------------


def flat(tasks: list[dict[str, t.Any]]) -> t.Iterator[dict[str, t.Any]]:
    for task in tasks:
        yield task
        for part in ("block", "rescue", "always"):
            yield from flat(task.get(part) or [])


def tasks_of(path: pathlib.Path) -> list[dict[str, t.Any]]:
    return list(flat(yaml.safe_load(path.read_text()) or []))


def secret_names() -> set[str]:
    """Options that are secrets, and what tasks that show nothing register or set."""
    names = {"build_secrets", "buildkit_environment", "containerd_environment"}
    names |= {"__containerd_config_text", "__containerd_dockerd_proc"}
    for path in TASKS:
        for task in tasks_of(path):
            if task.get("no_log") is True and "register" in task:
                names.add(task["register"])
    return names


#: They show nothing of their arguments, or only a sentence of ours.
QUIET = ("assert", "fail", "include_tasks", "import_tasks", "include_role", "import_role", "meta")


def shows(task: dict[str, t.Any], secret: set[str]) -> set[str]:
    """The secrets that a task would show at -vvv --diff."""
    modules = {key.rsplit(".", 1)[-1]: key for key in task if "." in key}
    if task.get("no_log") or "block" in task or set(modules) & set(QUIET):
        return set()
    module = next(iter(modules), "")
    arguments = json.dumps([task[key] for key in modules.values()] + [task.get("loop")])
    used = {name for name in secret if re.search(r"\b%s\b" % re.escape(name), arguments)}
    if module in ("copy", "template") and "diff" in task:
        return set()  # the arguments do not have the content
    if module in ("build", "show_report", "check_options", "find"):
        return set()  # by action plugins that take care of it, which other tests see
    return used


@pytest.mark.parametrize("path", TASKS, ids=lambda path: "%s-%s" % (path.parts[-3], path.stem))
def test_every_task_that_handles_a_secret_shows_nothing(path):
    names = secret_names()
    assert {"__switch_runtime_pods", "__report_api", "__containerd_config_old"} <= names
    for task in tasks_of(path):
        assert shows(task, names) == set(), task.get("name")


#: Options that are the URL of a mirror, and may have a password.
URLS = re.compile(
    r"\b(containerd_url|containerd_cni_url|containerd_docker_repository|buildkit_url"
    r"|buildkit_provenance_url|__common_download_url)\b"
    r"(?! \| (homelab.containerd.shown|basename|length))"
)


def test_no_task_shows_the_password_of_a_mirror():
    for path in TASKS:
        for task in tasks_of(path):
            said = [
                str((task.get("ansible.builtin." + key) or {}).get(word, ""))
                for key, word in (("fail", "msg"), ("assert", "fail_msg"))
            ]
            expressions = " ".join(re.findall(r"\{\{(.*?)\}\}", " ".join(said), re.DOTALL))
            assert not URLS.search(re.sub(r"'[^']*'", "", expressions)), task["name"]
            modules = [
                key
                for key in task
                if key.rsplit(".", 1)[-1] in ("get_url", "deb822_repository", "yum_repository")
            ]
            if modules and URLS.search(json.dumps(task[modules[0]])):
                assert "homelab.containerd.shown" in str(task.get("no_log")), task["name"]


#: Tasks that read what everybody may see.
PUBLIC = ("Read the provenance",)


@pytest.mark.parametrize("path", TASKS, ids=lambda path: "%s-%s" % (path.parts[-3], path.stem))
def test_every_task_that_reads_whole_objects_or_files_shows_nothing(path):
    """Pods, Secrets and ConfigMaps from the API, and files by slurp."""
    for task in tasks_of(path):
        command = json.dumps(task.get("ansible.builtin.command") or "")
        whole = re.search(r"\bget\b.*(pods|configmaps|secret).*\bjson\b", command)
        if (whole or "ansible.builtin.slurp" in task) and task["name"] not in PUBLIC:
            assert task.get("no_log"), task["name"]
