# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Switch a node's kubelet between docker and containerd."""

from __future__ import annotations

import calendar
import json
import os
import time
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._containerd import client, config
from ansible_collections.homelab.containerd.plugins.module_utils._docker.api import (
    DockerAPI,
    DockerError,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host import (
    commands,
    originals,
    paths,
    progress,
)
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes import (
    node_api,
    node_health,
    pod_status,
    static_pods,
    versions,
)
from ansible_collections.homelab.containerd.plugins.module_utils._kubernetes.pods import (
    ContainerdPods,
    DockerPods,
)
from ansible_collections.homelab.containerd.plugins.module_utils._switch import reserve
from ansible_collections.homelab.containerd.plugins.module_utils._switch.journal import (
    Journal,
    SwitchFailed,
    explain,
)
from ansible_collections.homelab.containerd.plugins.module_utils._switch.kubelet_files import (
    flag_files,
    rollback_files,
    with_startup_flags,
)

if t.TYPE_CHECKING:
    from ansible_collections.homelab.containerd.plugins.plugin_utils.contracts import (
        Direction,
        Files,
        JournalState,
        Object,
    )

POLL_SECONDS = 0.5
#: How long etcd and the API server are kept back while other pods are slow to start.
KEEP_SECONDS = 10
#: systemd gives a unit 90 s to stop and 90 s to start; a busy machine may need all of it.
UNIT_SECONDS = 240
#: The least time that the way back has to get Ready, as there is nothing else to go back to.
BACK_SECONDS = 300
#: How long containerd may be away (systemd starts it again after 5 s) before the switch fails.
CONTAINERD_SECONDS = 30


class Switch:
    def __init__(
        self,
        host: Host,
        api: DockerAPI,
        journal: Journal,
        kubelet: versions.Version,
        params: t.Dict[str, t.Any],
    ) -> None:
        self.host, self.api, self.journal, self.kubelet = host, api, journal, kubelet
        self.params = params
        self.progress = progress.Progress(params["progress_file"])
        self.complaints: t.List[str] = []
        #: Containers and sandboxes that run besides those kept till last.
        self.others = 0
        #: After a failed switch, the containers that ran before it: the API shows them until it
        #: hears otherwise, and they were docker's as the new ones are.
        self.stopped: t.Set[str] = set()
        #: The API's copies of the static pods that are kept till last, by name.
        self.mirrors: t.Dict[str, Object] = {}
        #: The API, or the node itself where no API answered.
        self.ready_seen_by = "api"
        self.ready_seconds: t.Optional[float] = None
        self.api_away_seconds: t.Optional[float] = None
        self.node_api = node_api.NodeAPI(host, params["kubeconfig"], params["node_name"])
        self.docker = DockerPods(host, api, params["cni_bin_dirs"])
        self.containerd = ContainerdPods(host, params["cni_bin_dirs"])

    def say(self, text: str) -> None:
        clock = "%5.1f s  " % self.journal.elapsed() if self.journal.data else ""
        self.progress.say(clock + text)

    def step(self, name: str, text: str) -> None:
        self.journal.step(name)
        self.say(text)

    def begin_containerd(self, files_after: Files, waited_for: t.List[str]) -> None:
        """The journal's first word; nothing was changed until it is on the disk."""
        now = flag_files(self.host)
        for path, text in files_after.items():
            if text != now[path]:
                originals.keep(self.host, path)
        before = None
        if now == files_after or self.journal.unfinished:
            # A switch to docker that was interrupted early has left containerd's flags: they are
            # not what was before.
            before = self.journal.files_before
        try:
            reserve.keep(self.host)
        except OSError as exc:
            if not self.journal.unfinished:
                raise commands.NodeError(
                    "Nothing was changed, because there is no room that can be kept for the way "
                    "back. " + explain(exc)
                ) from exc
        self.journal.begin("containerd", files_after, before or now, waited_for)

    def stop_kubelet(self) -> None:
        """Stop it, and let the next one see all manifests.

        In this order: a kubelet that runs would start etcd and the API server a second time.
        """
        try:
            self.host.run(["systemctl", "stop", "kubelet"], timeout=UNIT_SECONDS)
        finally:
            static_pods.unmask_manifests(self.host)

    def keep_kubelet_running(self) -> None:
        """After a failure: on whatever flags there are, a kubelet that tries is better than none.

        One that runs is left alone: etcd and the API server may still be on docker beside it.
        """
        if self.host.run(["systemctl", "is-active", "kubelet"], check=False).returncode == 0:
            return
        static_pods.unmask_manifests(self.host)
        self.host.run(["systemctl", "reset-failed", "kubelet"], check=False)
        self.host.run(["systemctl", "start", "kubelet"], check=False, timeout=UNIT_SECONDS)

    def run_containerd(self) -> str:
        """Every step can be done again, so an unfinished switch is simply run once more."""
        self.step("stop kubelet", "stopping the kubelet (1 of 3)")
        self.stop_kubelet()
        hidden = self.keep_control_plane()
        self.step("stop pods", "stopping the pods (2 of 3)")
        grace = self.params["grace_seconds"]
        self.complaints += self.docker.stop(grace, self.say, static_pods.KEPT if hidden else ())
        self.step("start kubelet", "starting the kubelet on containerd (3 of 3)")
        started = self.start_kubelet(self.journal.current["files_after"])
        self.journal.step("wait for Ready")
        version = self.wait_ready("containerd://", started, self.params["ready_timeout"])
        self.ready_seconds = self.journal.elapsed()
        if hidden:
            version = self.switch_control_plane(hidden)
        self.finish("done")
        return version

    def finish(self, state: JournalState) -> None:
        # An interrupted run has left it, also where what was in it is gone.
        static_pods.remove_cgroup(self.host)
        self.journal.finish(state)
        if self.journal.complaint:
            self.complaints.append(self.journal.complaint)

    def keep_control_plane(self) -> t.Dict[str, str]:
        """Prepare etcd and the API server of this node to stay until the rest has moved.

        Returns their manifests, which are hidden then, or nothing where all switch at once.
        """
        listed = self.docker.containers()
        if not self.params["control_plane_last"] or not static_pods.can_be_last(self.host, listed):
            return {}
        try:
            for entry in static_pods.kept(listed):
                static_pods.move_out_of_kubepods(self.host, self.docker.pid(entry["Id"]))
            hidden = static_pods.mask_manifests(self.host)
        except (OSError, commands.NodeError) as exc:
            self.say("etcd and the API server cannot be switched last here: %s" % exc)
            return {}
        self.others = self.docker.running() - 2 * len(static_pods.KEPT)
        self.say("etcd and the API server stay on docker until the other pods run")
        return hidden

    def switch_control_plane(self, hidden: t.Dict[str, str]) -> str:
        self.journal.step("wait for pods")
        self.wait_tasks(self.others, KEEP_SECONDS)
        self.step("switch control plane", "etcd and the API server follow")
        away = self.host.monotonic()
        self.complaints += self.docker.stop(self.params["grace_seconds"], self.say)
        static_pods.restore_manifests(self.host, hidden)
        # Where there are several control planes another one's API answers all the time.
        self.wait_tasks(self.others + 2 * len(hidden), KEEP_SECONDS)
        while self.api_away():
            if self.host.monotonic() > away + self.params["ready_timeout"]:
                raise SwitchFailed(
                    "the API server did not start on containerd\n"
                    + self.host.journal_tail("kubelet")
                )
            self.host.sleep(0.1)
        self.api_away_seconds = round(self.host.monotonic() - away, 2)
        self.say("the API is back, it was away %.1f s" % self.api_away_seconds)
        self.restore_mirrors()
        # The kubelet is started again, so that it watches the manifests' own directory again.
        static_pods.unmask_manifests(self.host)
        self.host.run(["systemctl", "stop", "kubelet"], timeout=UNIT_SECONDS)
        started = self.start_kubelet(self.journal.current["files_after"])
        return self.wait_ready("containerd://", started, self.params["ready_timeout"])

    def restore_mirrors(self) -> None:
        """Create the mirror pods again that the kubelet deleted while it did not see the manifests.

        It would do so itself, but drops the pods' first status where there is none yet, and then
        says nothing of them for up to 10 s.
        """
        found, _complaint = self.node_api.pods()
        have = {pod_status.pod_name(pod) for pod in found["items"]} if found else set()
        missing = [pod for name, pod in sorted(self.mirrors.items()) if name not in have]
        path = static_pods.MASK + ".json"
        created = {"apiVersion": "v1", "kind": "List", "items": missing}
        if not missing:
            return
        try:
            # A pod's specification may hold passwords.
            self.host.write_text(path, json.dumps(created), mode=0o600)
            done = self.node_api.kubectl("create", "-f", path, seconds=30)
            if done.returncode:
                self.complaints.append(done.stderr.strip())
            os.unlink(self.host.path(path))
        except OSError as exc:
            self.complaints.append(explain(exc))  # the kubelet does it, only later

    def wait_tasks(self, count: int, seconds: float) -> None:
        """Wait until containerd runs so many containers and sandboxes, or no longer than that."""
        start = self.host.monotonic()
        while True:
            waited = self.host.monotonic() - start
            try:
                if self.containerd.running() >= count or waited > seconds:
                    return
            except commands.NodeError:
                # It was killed, say: a node that is Ready does not go back for that.
                if waited > CONTAINERD_SECONDS:
                    raise
            self.host.sleep(0.1)

    def api_away(self) -> bool:
        return self.node_api.kubectl("get", "--raw", "/readyz", seconds=2).returncode != 0

    def to_docker(
        self, waited_for: t.Optional[t.List[str]] = None, state: JournalState = "done"
    ) -> str:
        reserve.give_back(self.host)
        files_after = rollback_files(self.journal, flag_files(self.host), self.kubelet)
        resumed = self.journal.unfinished
        if resumed:
            # Before anything is written: no kubelet starts with masked manifests from here on.
            self.stop_kubelet()
        self.journal.begin("docker", files_after, waited_for=waited_for)
        self.step("stop kubelet", "stopping the kubelet (1 of 4)")
        if not resumed:
            self.stop_kubelet()
        self.step("stop pods", "stopping the pods (2 of 4)")
        self.complaints += self.containerd.stop(self.params["grace_seconds"], self.say)
        self.step("start docker", "making sure that docker answers (3 of 4)")
        self.revive_containerd()
        self.revive_docker()
        # Some may still be there, where the switch to containerd was interrupted early.
        try:
            self.complaints += self.docker.stop(self.params["grace_seconds"], self.say)
        except DockerError as exc:
            self.complaints.append(str(exc))  # the kubelet on docker deals with what is left
        self.step("start kubelet", "starting the kubelet on docker (4 of 4)")
        started = self.start_kubelet(self.journal.current["files_after"])
        self.journal.step("wait for Ready")
        seconds = self.params["ready_timeout"]
        if state == "rolled_back":
            seconds = max(seconds, BACK_SECONDS)
        version = self.wait_ready("docker://", started, seconds)
        self.ready_seconds = self.journal.elapsed()
        self.finish(state)
        return version

    def write_files(self, wanted: Files) -> None:
        for path, text in wanted.items():
            if text is not None and text != self.host.read_text(path):
                self.host.write_text(path, text)

    def start_kubelet(self, files: Files) -> float:
        """Start it on these flag files, and return when that was."""
        path = paths.KUBEADM_FLAGS[0]
        try:
            self.write_files(dict(files, **{path: with_startup_flags(files[path])}))
        except OSError:
            # A full disk: they only make it faster, and on the way back there may be nothing else.
            self.write_files(files)
        started = self.host.time()
        self.host.run(["systemctl", "reset-failed", "kubelet"], check=False)
        self.host.run(["systemctl", "start", "kubelet"], timeout=UNIT_SECONDS)
        try:
            self.write_files(files)
        except OSError as exc:
            self.complaints.append(explain(exc))
        return started

    def revive_containerd(self) -> None:
        """docker runs on containerd too: if ours does not start, its own configuration comes back.

        It is restarted in any case, so that its CRI forgets the pods that were just removed.
        """
        restart = ["systemctl", "restart", "containerd"]
        self.host.run(["systemctl", "reset-failed", "containerd"], check=False)
        if self.host.run(restart, check=False, timeout=UNIT_SECONDS).returncode == 0:
            return
        self.say("containerd does not start; putting its configuration back as it was before")
        if not originals.restore(self.host, paths.CONTAINERD_CONFIG) and self.host.exists(
            paths.CONTAINERD_CONFIG
        ):
            config = self.host.path(paths.CONTAINERD_CONFIG)
            os.rename(config, config + ".homelab-broken")
        self.host.run(["systemctl", "reset-failed", "containerd"], check=False)
        self.host.run(restart, check=False, timeout=UNIT_SECONDS)

    def revive_docker(self) -> None:
        self.host.run(["systemctl", "start", "docker"], check=False, timeout=UNIT_SECONDS)
        deadline = self.host.monotonic() + 60
        while True:
            try:
                self.api.get("/info")
                return
            except (DockerError, ValueError) as exc:
                if self.host.monotonic() > deadline:
                    raise SwitchFailed(
                        "docker does not answer: %s\n%s" % (exc, self.host.journal_tail("docker"))
                    ) from exc
            self.host.sleep(1)

    def wait_ready(self, prefix: str, started: float, seconds: float) -> str:
        """Wait for Ready as the API reports it, from a status that this kubelet sent.

        If no API server says a word in all that time, the node's own counts.
        """
        api_answered = False
        deadline = self.host.monotonic() + seconds
        reported = self.host.monotonic()
        while True:
            found, complaint = self.node_api.node()
            api_answered = api_answered or found is not None or node_api.answered(complaint)
            version, seen = self.node_status(found, prefix, started) if found else (None, complaint)
            if version:
                self.ready_seen_by = "api"
                self.say("Ready on %s" % version)
                return version
            if self.host.monotonic() > deadline:
                if not api_answered and self.ready_by_itself(prefix, seconds):
                    return prefix + "unknown"
                raise SwitchFailed(
                    "after %d s: %s\nkubelet's journal:\n%s\ncontainerd's journal:\n%s"
                    % (
                        seconds,
                        seen,
                        self.host.journal_tail("kubelet"),
                        self.host.journal_tail("containerd"),
                    )
                )
            if self.host.monotonic() - reported > 5:
                reported = self.host.monotonic()
                left = deadline - self.host.monotonic()
                self.say("waiting for Ready, %d s left: %s" % (left, seen))
            self.host.sleep(POLL_SECONDS)

    def ready_by_itself(self, prefix: str, seconds: float) -> bool:
        """Whether the node is Ready by its own word, where an API that is away cannot say it.

        It does not count where the API is away because of this node.
        """
        if static_pods.has_api_server(self.host) or self.node_api.is_behind_this_node():
            return False
        endpoint = "containerd" if prefix == "containerd://" else "dockershim"
        problem = node_health.problem(self.host, node_health.ENDPOINTS[endpoint])
        if problem:
            self.say("the API does not answer, and the node by itself is not Ready: " + problem)
            return False
        self.ready_seen_by = "node"
        text = "The API did not answer for %d s. The kubelet and the CRI say that the node is Ready"
        self.complaints.append(text % seconds)
        self.say(self.complaints[-1])
        return True

    def node_status(
        self, found: Object, prefix: str, started: float
    ) -> t.Tuple[t.Optional[str], str]:
        status = found["status"]
        version = status.get("nodeInfo", {}).get("containerRuntimeVersion", "")
        ready = pod_status.ready_condition(found)
        if ready is None:
            return None, "the node has no Ready condition"
        heartbeat = calendar.timegm(time.strptime(ready["lastHeartbeatTime"], "%Y-%m-%dT%H:%M:%SZ"))
        if not version.startswith(prefix):
            return None, "the API still reports %s" % version
        # The API keeps the last word of the old kubelet: only what came after the start counts.
        if ready["status"] != "True" or heartbeat < int(started):
            return None, "%s, not Ready: %s" % (version, ready.get("message", ""))
        return version, ""

    def wait_pods(
        self, runtime: str, waited_for: t.Optional[t.Container[str]]
    ) -> t.Dict[str, float]:
        """Wait until the pods that were ready before are so again (None: all of them)."""
        deadline = self.host.monotonic() + self.params["pods_timeout"]
        reported = 0.0
        seconds: t.Dict[str, float] = {}
        while True:
            found, complaint = self.node_api.pods()
            if found is not None:
                late = pod_status.pods_not_ready(found, runtime, self.stopped)
                names = {pod_status.pod_name(pod) for pod in found["items"]}
                late += [
                    {"name": name, "phase": "Pending", "reason": "not in the API yet"}
                    for name in sorted(set(self.mirrors) - names)
                ]
                late = [pod for pod in late if waited_for is None or pod["name"] in waited_for]
                now = self.journal.elapsed()
                if not [pod for pod in late if pod["phase"] != "Running"]:
                    seconds.setdefault("running_seconds", now)
                if not late:
                    self.say("all %d pods are ready" % len(found["items"]))
                    return dict(seconds, pods_ready_seconds=now)
                complaint = ", ".join("%(name)s (%(reason)s)" % pod for pod in late)
                text = "%d of %d pods are ready, waiting for %s" % (
                    len(found["items"]) - len(late),
                    len(found["items"]),
                    ", ".join(pod["name"] for pod in late[:4]) + (", …" if late[4:] else ""),
                )
                if self.host.monotonic() - reported > 3:
                    reported = self.host.monotonic()
                    self.say(text)
            if self.host.monotonic() > deadline:
                if found is None:
                    raise SwitchFailed(
                        "The node is Ready, but its pods could not be seen %d s later: %s. Nothing "
                        "goes back. Run this again once the API answers."
                        % (self.params["pods_timeout"], complaint)
                    )
                raise SwitchFailed(
                    "The node is Ready, but after %d s some of its pods are not: %s. Look at "
                    "kubectl describe pod; the playbook rollback goes back to docker."
                    % (self.params["pods_timeout"], complaint)
                )
            self.host.sleep(POLL_SECONDS)


def check_begin(switch: Switch, to: Direction) -> Object:
    """What has to hold before anything is stopped; better a failure than an outage.

    Returns the node's pods. NodeError if something does not hold: nothing was changed.
    """
    host = switch.host
    if to == "containerd":
        plugins = host.run(["ctr", "plugins", "list"]).stdout
        if not client.cri_ready(plugins):
            raise commands.NodeError(
                "containerd's CRI does not answer on this node, so nothing was changed. Run the "
                "role containerd first.\n%s" % host.journal_tail("containerd")
            )
        unread = config.newer_files(host)
        if unread:
            raise commands.NodeError(
                "containerd has not read its files as they are now, so pods would run with older "
                "settings; nothing was changed. Newer than its process: %s. Run the role "
                "containerd, or systemctl restart containerd." % ", ".join(unread)
            )
    else:
        if not switch.journal.files_before:
            raise commands.NodeError(
                "This node cannot go back to docker: %s does not say which flags its kubelet had "
                "there, so this collection did not switch it. Nothing was changed. Leave the node "
                "out (--limit)." % paths.JOURNAL
            )
        shown = host.run(["systemctl", "show", "docker.service", "-p", "LoadState"], check=False)
        if shown.stdout.strip() in ("LoadState=masked", "LoadState=not-found"):
            raise commands.NodeError(
                "docker.service is %s on this node, so it cannot go back to docker. Nothing was "
                "changed. Install docker, or run systemctl unmask docker.service docker.socket."
                % shown.stdout.strip().partition("=")[2]
            )
    pods, complaint = switch.node_api.look()
    if pods is None:
        raise commands.NodeError(
            "%s. The switch could not see whether the node is Ready. Nothing was changed. Look "
            "whether the client certificate has expired (kubeadm before 1.17 left one in "
            "kubelet.conf that nobody renews, kubernetes/kubeadm#1753), and run this again."
            % complaint
        )
    return t.cast("Object", pods)
