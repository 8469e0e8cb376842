#!/usr/bin/env python3
# Copyright (c) 2026, the homelab.containerd authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway Kubernetes cluster on dockershim, inside containers on this machine."""

from __future__ import annotations

import argparse
import signal
import sys

import builders
import cluster
import stages
from shell import Failure, lock


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.py", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser("build", help="build what clusters are made of (cached, resumes)")
    verb.add_argument(
        "what",
        nargs="?",
        choices=["containerd", "containerd-versions", "buildkit-old", "machine"],
        help="a part that is only for a test",
    )
    verb = verbs.add_parser("up", help="bring up a cluster and wait until all its pods are ready")
    verb.add_argument("--cluster", required=True)
    verb.add_argument("--label", default="demo", help="demo, molecule or bench; see down")
    verb.add_argument("--workers", type=int, default=0, help="nodes besides the control plane")
    verb = verbs.add_parser("machine", help="bring up a machine without docker and Kubernetes")
    verb.add_argument("--cluster", required=True)
    verb.add_argument("--label", default="demo")
    verb = verbs.add_parser("workloads", help="put the four example workloads on it")
    verb.add_argument("--cluster", required=True)
    verb = verbs.add_parser("image", help="put an image for tests of builds on each of its nodes")
    verb.add_argument("what", choices=["builders", "node"])
    verb.add_argument("--cluster", required=True)
    verb = verbs.add_parser("restart", help="restart its nodes, as a reboot would")
    verb.add_argument("--cluster", required=True)
    verb = verbs.add_parser("down", help="remove a cluster, or all with a label")
    which = verb.add_mutually_exclusive_group(required=True)
    which.add_argument("--cluster", default="")
    which.add_argument("--label", default="")
    arguments = parser.parse_args()
    # A job that is ended from outside stops what it started, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments.verb == "build":
            with lock("build"):
                stages.build(arguments.what or "")
        elif arguments.verb == "up":
            with lock("build"):
                plan = stages.build()
            with lock(f"cluster-{arguments.cluster}"):
                cluster.Cluster(arguments.cluster).up(plan, arguments.label, arguments.workers)
        elif arguments.verb == "machine":
            with lock("build"):
                plan = stages.build("machine")
            with lock(f"cluster-{arguments.cluster}"):
                cluster.Cluster(arguments.cluster).machine(plan, arguments.label)
        elif arguments.verb == "workloads":
            cluster.Cluster(arguments.cluster).workloads()
        elif arguments.verb == "image":
            with lock("build"):
                archive = builders.build(stages.build(), arguments.what)
            for node in cluster.Cluster(arguments.cluster).nodes():
                builders.load(archive, node)
        elif arguments.verb == "restart":
            cluster.Cluster(arguments.cluster).restart()
        elif arguments.cluster:
            cluster.Cluster(arguments.cluster).down()
        else:
            cluster.down_label(arguments.label)
    except Failure as failure:
        print(f"lab.py: {failure}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("lab.py: interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
