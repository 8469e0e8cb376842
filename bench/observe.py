# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the API says while a node is switched, asked five times a second from inside the node.

It knows nothing of how the node is switched, and so measures every way by the same rules. The
clock starts where systemd has the kubelet leave "active" for the first time. From then on only
what the kubelet said on containerd counts, not what the API remembers of it:

- Ready: the node's runtime begins with containerd://, its condition Ready is True, and that
  condition's heartbeat is not older than the kubelet's first start after the stop;
- running: as many pods as before, every container of them running, with an ID that begins with
  containerd:// (workloads: of the pods outside kube-system);
- ready: the same, and every pod's condition Ready is True.

At the end it also says since when the node has been Ready without a break that the API showed, and
the longest time between two answers of the API.

Prints JSON lines; ends when all of it is reached, at the deadline, or when its input is closed.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from calendar import timegm
from typing import Any

PERIOD = 0.2
EVENTS = ("node_ready", "workloads_running", "pods_running", "pods_ready")
CONFIG = "/etc/kubernetes/admin.conf"
RUNTIME = "containerd://"


class Api:
    """One connection that is kept while it lasts; a new one costs the node a TLS handshake."""

    def __init__(self) -> None:
        with open(CONFIG, encoding="utf-8") as stream:
            found = dict(re.findall(r"^\s*-?\s*([a-z-]+): (\S+)$", stream.read(), re.MULTILINE))
        self.server = found["server"].removeprefix("https://")
        authority = base64.b64decode(found["certificate-authority-data"]).decode()
        self.context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:  # the ssl module reads it from a file alone
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(found[part]))
            pair.flush()
            self.context.load_cert_chain(pair.name)
        self.connection: http.client.HTTPSConnection | None = None

    def get(self, path: str) -> Any:
        """The answer, or None where there is none."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(
                    self.server, context=self.context, timeout=2
                )
            self.connection.request("GET", path)
            answer = self.connection.getresponse()
            text = answer.read()
            return json.loads(text) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            return None


def kubelet() -> dict[str, str]:
    """The kubelet's unit as systemd sees it; times are microseconds of the monotonic clock."""
    names = "MainPID,NRestarts,ActiveExitTimestampMonotonic,ExecMainStartTimestampMonotonic"
    shown = subprocess.run(
        ["systemctl", "show", "kubelet", "-p", names], capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in shown.stdout.splitlines())


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [c for c in status.get("conditions", []) if c["type"] == kind]
    return found[-1] if found else {}


def node_ready(node: dict[str, Any], started: float) -> bool:
    status = node["status"]
    ready = condition(status, "Ready")
    if ready.get("status") != "True" or not ready.get("lastHeartbeatTime"):
        return False
    beat = timegm(time.strptime(ready["lastHeartbeatTime"], "%Y-%m-%dT%H:%M:%SZ"))
    version: str = status["nodeInfo"]["containerRuntimeVersion"]
    return version.startswith(RUNTIME) and beat >= int(started)


def living(pods: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        pod
        for pod in pods["items"]
        if pod["status"].get("phase") not in ("Succeeded", "Failed")
        and not pod["metadata"].get("deletionTimestamp")
    ]


def workloads(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [pod for pod in pods if pod["metadata"]["namespace"] != "kube-system"]


def running(pod: dict[str, Any]) -> bool:
    found = pod["status"].get("containerStatuses", [])
    return len(found) == len(pod["spec"]["containers"]) and all(
        "running" in one.get("state", {}) and one.get("containerID", "").startswith(RUNTIME)
        for one in found
    )


def ready(pod: dict[str, Any]) -> bool:
    return running(pod) and condition(pod["status"], "Ready").get("status") == "True"


def tell(event: str, **more: Any) -> None:
    print(json.dumps({"event": event, **more}), flush=True)


def watch(node: str, deadline: float) -> None:
    api = Api()
    node_path = f"/api/v1/nodes/{node}"
    pods_path = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}"
    process = f"/proc/{kubelet()['MainPID']}"
    before = living(api.get(pods_path) or {"items": []})
    expected = len(before), len(workloads(before))
    if not all(expected):
        sys.exit("the API does not answer, or the node has no pods")
    tell("watching", pods=expected[0])
    while os.path.exists(process):
        if time.monotonic() > deadline:
            return
        time.sleep(PERIOD / 4)
    stopped = int(kubelet()["ActiveExitTimestampMonotonic"]) / 1e6
    tell("stopped")

    started = 0.0  # on the wall clock, because heartbeats are
    seen: set[str] = set()
    late = ""
    away, answered = 0.0, time.monotonic()
    steady = 0.0
    while len(seen) < len(EVENTS) and time.monotonic() < deadline:
        if not started:
            began = int(kubelet()["ExecMainStartTimestampMonotonic"]) / 1e6
            if began > stopped:
                started = time.time() - time.monotonic() + began
                tell("started", seconds=round(began - stopped, 2))
        found, pods = api.get(node_path), api.get(pods_path)
        now = time.monotonic()
        if found and pods:
            away, answered = max(away, now - answered), now
            if started:
                mine = living(pods)
                home = workloads(mine)
                complete = len(mine) >= expected[0]
                checks = {
                    "node_ready": node_ready(found, started),
                    "workloads_running": len(home) >= expected[1] and all(map(running, home)),
                    "pods_running": complete and all(map(running, mine)),
                    "pods_ready": complete and all(map(ready, mine)),
                }
                steady = (steady or now - stopped) if checks["node_ready"] else 0.0
                for event, reached in checks.items():
                    if reached and event not in seen:
                        seen.add(event)
                        tell(event, seconds=round(now - stopped, 2))
                waiting = [pod["metadata"]["name"] for pod in mine if not ready(pod)]
                if " ".join(waiting) != late:
                    late = " ".join(waiting)
                    tell("waiting", seconds=round(now - stopped, 2), pods=waiting)
        time.sleep(PERIOD)
    tell(
        "end",
        node_steady=round(steady, 2),
        api_away=round(away, 2),
        restarts=int(kubelet()["NRestarts"]),
    )


def end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_input, daemon=True).start()
    watch(sys.argv[1], time.monotonic() + float(sys.argv[2]))
