# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what the tests did is a proof: what is missing from it, in sentences.

A run that tested nothing has no failed test either. So a test counts if it passed, or if it was
skipped for a reason that is listed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Of a host in one of the groups; builds only where BuildKit is wanted.
GROUPS = ("kube_control_plane", "kube_node")
CLUSTER = frozenset({"runtime", "workloads", "cri"})
BUILDS = frozenset({"builds"})
KINDS = CLUSTER | BUILDS

#: The only reasons to skip a test. Each says that there is nothing to test, none that it was not
#: possible to test it.
SKIPS = tuple(
    re.compile(pattern)
    for pattern in (
        r".+ has no kubelet, and is neither in kube_control_plane nor in kube_node",
        r".+ was not migrated: it has no \S+",
        r"verify_buildkit is false",
        r"verify_registry_image is not set",
        r"verify_probes named nothing to compare when this node was migrated",
        r"buildkitd does not listen on TCP",
        r"the node has no kubeadm annotation: newer kubeadm keeps the socket elsewhere",
        r"docker does not run on this node",
        r"docker was retired on this node",
        r"docker ran no user-managed containers",
        r"docker had no images of its own",
    )
)


@dataclass(frozen=True)
class Test:
    """What one test said of one host."""

    host: str
    kind: str
    name: str
    outcome: str
    reason: str = ""

    @property
    def failed(self) -> bool:
        return self.outcome in ("failed", "error")


def expected_kinds(groups: Iterable[str], buildkit: bool) -> frozenset[str]:
    """The kinds of tests that a host has to pass."""
    cluster = CLUSTER if set(groups) & set(GROUPS) else frozenset()
    return cluster | (BUILDS if buildkit else frozenset())


def problems(
    tests: Sequence[Test], hosts: Mapping[str, frozenset[str]], not_run: Iterable[str]
) -> list[tuple[str, str]]:
    """Host and sentence for each thing that keeps the tests from being a proof.

    hosts: the hosts that were to be tested, each with the kinds that it has to pass. not_run: the
    tests that were left out. A test that failed needs no sentence: it has its own.
    """
    found = [("", f"{name} was not run") for name in sorted(set(not_run))]
    if not hosts:
        found.append(("", "no host was to be tested"))
    every = {(test.kind, test.name) for test in tests}
    for kind in sorted(KINDS - {kind for kind, _name in every}):
        found.append(("", f"there is no test of the kind {kind}"))
    for host, kinds in sorted(hosts.items()):
        ours = [test for test in tests if test.host == host]
        if not ours:
            found.append((host, "it was not tested"))
            continue
        for _kind, name in sorted(every - {(test.kind, test.name) for test in ours}):
            found.append((host, f"{name} was not run"))
        for test in ours:
            if test.outcome == "skipped":
                if not any(reason.fullmatch(test.reason) for reason in SKIPS):
                    found.append((host, f"{test.name} was skipped: {test.reason}"))
            elif test.outcome != "passed" and not test.failed:
                found.append((host, f"{test.name} proves nothing: {test.outcome}"))
        passed = {test.kind for test in ours if test.outcome == "passed"}
        tried = {test.kind for test in ours if test.failed}
        for kind in sorted(kinds - passed - tried):
            found.append((host, f"no test of the kind {kind} passed"))
        if not passed and not tried:
            found.append((host, "no test passed"))
    for host in sorted({test.host for test in tests} - set(hosts)):
        found.append((host, "it was tested, and was not to be"))
    return found
