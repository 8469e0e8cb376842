# Copyright (c) 2026, the homelab.containerd authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two images that only the tests and benchmarks of builds need, made from Debian's packages.

`builders:1` stands for the images of every engine that builds inside a pod: buildkitd and
buildctl from the lab's own build, docker-buildx, buildah, docker (for docker-in-docker and as a
client) and rootlesskit. `builders:1-rootless` is the same with the environment of the image that
BuildKit publishes for its rootless mode. `node:1` is a Debian with Node.js and npm, as the base of
a Node.js application.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import images
from images import Image
from shell import Progress, apt_install, has_sys_resource, run, say
from stages import (
    LAB,
    REGISTRY,
    Plan,
    Stage,
    files,
    go,
    mmdebstrap,
    modern_go,
    source,
    words,
)

BUILDERS = f"{REGISTRY}/builders:1"
# As the stage "rootless" of BuildKit's Dockerfile has it.
ROOTLESS_ENVIRONMENT = words(
    "HOME=/home/user USER=user XDG_RUNTIME_DIR=/run/user/1000 TMPDIR=/home/user/.local/tmp"
    " BUILDKIT_HOST=unix:///run/user/1000/buildkit/buildkitd.sock"
)
# Debian's newuidmap is set-uid root, and root may write a map with CAP_SYS_ADMIN alone, which
# no unprivileged pod has. With the one capability that it needs it stays the user, who may.
ROOTLESS_USER = """\
chroot "$1" chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap
chroot "$1" setcap cap_setuid+ep /usr/bin/newuidmap
chroot "$1" setcap cap_setgid+ep /usr/bin/newgidmap
chroot "$1" useradd --create-home --uid 1000 user
"""
# mmdebstrap empties /run.
ROOTLESS_DIRECTORIES = words("run/user/1000 home/user/.local home/user/.local/tmp")
NODE = f"{REGISTRY}/node:1"
# slirp4netns and uidmap are for rootlesskit; buildah runs its steps with runc.
BUILDERS_PACKAGES = words(
    "buildah runc docker.io iptables rootlesskit slirp4netns uidmap libcap2-bin fuse-overlayfs git"
    " ca-certificates procps"
)
NODE_PACKAGES = words("nodejs npm ca-certificates")


def layer_of(
    rootfs: Path,
    added: dict[str, tuple[bytes, int]],
    links: dict[str, str] | None = None,
    homes: Iterable[str] = (),
) -> bytes:
    """A root file system as one layer, with files put in or in place of others, and homes (user
    1000's directories)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as new:
        with tarfile.open(rootfs) as old:
            for entry in old:
                name = entry.name.lstrip("./")
                if entry.isdev() or name == "usr/sbin/policy-rc.d":
                    continue
                if name in added:
                    continue
                new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
        for name, (content, mode) in added.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, images.EPOCH
            new.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mtime = tarfile.SYMTYPE, target, images.EPOCH
            new.addfile(entry)
        for name in homes:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, images.EPOCH
            entry.uid = entry.gid = 1000
            new.addfile(entry)
    return buffer.getvalue()


def from_rootfs(rootfs: Path, name: str) -> bytes:
    with tarfile.open(rootfs) as tar:
        file = tar.extractfile(f"./{name}")
        assert file is not None, name
        return file.read()


def make_buildx(target: Path) -> None:
    package = "github.com/docker/buildx/cmd/buildx"
    place = str(target / "docker-buildx")
    go(modern_go(), "buildx", "build", "-ldflags", "-s -w", "-o", place, package)


def make_builders(target: Path, plan: Plan, buildx: Path, wrapped: bool) -> None:
    rootfs = target / "rootfs.tar"
    user = f"--customize-hook={ROOTLESS_USER}"
    mmdebstrap(rootfs, "minbase", BUILDERS_PACKAGES, "--format=tar", user)
    added = {
        f"usr/local/bin/{name}": ((plan.buildkit.path / name).read_bytes(), 0o755)
        for name in ("buildkitd", "buildctl")
    }
    added["usr/local/bin/docker-buildx"] = ((buildx / "docker-buildx").read_bytes(), 0o755)
    # A pod that builds has no registry configuration of its own; the lab's speaks plain http.
    added["etc/containers/policy.json"] = (
        json.dumps({"default": [{"type": "insecureAcceptAnything"}]}).encode(),
        0o644,
    )
    added["etc/subuid"] = added["etc/subgid"] = (b"user:100000:65536\n", 0o644)
    links = {}
    if wrapped:
        # What the node's boot does with its runc (lab/node/usr/local/lib/lab/boot).
        added["usr/sbin/runc.real"] = (from_rootfs(rootfs, "usr/sbin/runc"), 0o755)
        wrapper = plan.binaries["runc-wrapper"].path / "runc-wrapper"
        added["usr/sbin/runc"] = (wrapper.read_bytes(), 0o755)
    # buildkitd looks for buildkit-runc, then runc; the project's image has the first.
    links["usr/local/bin/buildkit-runc"] = "/usr/sbin/runc"
    layer = layer_of(rootfs, added, links, ROOTLESS_DIRECTORIES)
    rootfs.unlink()
    made = [
        Image(BUILDERS, [layer], ["/bin/bash"]),
        Image(f"{BUILDERS}-rootless", [layer], ["/bin/bash"], environment=ROOTLESS_ENVIRONMENT),
    ]
    images.write_archive(target / "images.tar", made)


def make_node(target: Path) -> None:
    rootfs = target / "rootfs.tar"
    mmdebstrap(rootfs, "minbase", NODE_PACKAGES, "--format=tar")
    layer = layer_of(rootfs, {})
    rootfs.unlink()
    images.write_archive(target / "images.tar", [Image(NODE, [layer], ["/bin/bash"])])


def stages(plan: Plan, what: str) -> list[Stage]:
    """What has to be built, in this order; the last one makes the image."""
    suite = source(mmdebstrap, layer_of, images.write_archive)
    if what == "node":
        return [Stage("image-node", 60, make_node, [suite, *NODE_PACKAGES, source(make_node)])]
    wrapped = not has_sys_resource()
    buildx = Stage("buildx", 130, make_buildx, [files("go/buildx"), source(go, make_buildx)])
    image = Stage(
        "image-builders",
        60,
        lambda target: make_builders(target, plan, buildx.path, wrapped),
        [
            suite,
            *BUILDERS_PACKAGES,
            *ROOTLESS_ENVIRONMENT,
            ROOTLESS_USER,
            *ROOTLESS_DIRECTORIES,
            plan.buildkit.key,
            plan.binaries["runc-wrapper"].key,
            buildx.key,
            str(wrapped),
            source(make_builders),
        ],
    )
    return [buildx, image]


def build(plan: Plan, what: str) -> Path:
    """The archive with the image, built if it is not there yet."""
    wanted = stages(plan, what)
    missing = [stage for stage in wanted if not stage.ready()]
    if missing:
        LAB.mkdir(parents=True, exist_ok=True)
        apt_install("mmdebstrap", "debian-archive-keyring")
        progress = Progress(f"image {what}", [(stage.name, stage.seconds) for stage in missing])
        for stage in missing:
            with progress.step(stage.name):
                stage.build()
        progress.done(f"in {wanted[-1].path}")
    return wanted[-1].path / "images.tar"


def load(archive: Path, node: str) -> None:
    """Put it on a node: into docker where the kubelet is on docker, else into containerd."""
    where = "! grep -q container-runtime=remote /var/lib/kubelet/kubeadm-flags.env"
    on_docker = run("docker", "exec", node, "sh", "-c", where, check=False).returncode == 0
    command = ["docker", "load", "-q"] if on_docker else ["ctr", "-n", "k8s.io", "images", "import"]
    with open(archive, "rb") as stream:
        run("docker", "exec", "-i", node, *command, *([] if on_docker else ["-"]), stdin=stream)
    say(f"{archive.parent.name} is in {'docker' if on_docker else 'containerd'} on {node}")
