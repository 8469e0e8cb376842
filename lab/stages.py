# Copyright (c) 2026, the homelab.containerd authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds everything the cluster is made of, from package registries alone.

Each stage has a directory CACHE/lab/<name>-<key>. The key is a hash of what goes in: sources,
pinned modules, versions, and the code of the stage itself. A stage is built in a temporary
directory and renamed when complete, so what is there is whole, and an interrupted build goes on
where it was.
"""

from __future__ import annotations

import gzip
import hashlib
import inspect
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import images
from images import Image, Layer
from shell import (
    ARCH,
    HERE,
    LAB,
    Failure,
    Progress,
    apt_install,
    debian_mirror,
    ensure_engine,
    has_sys_resource,
    output,
    run,
    say,
)


def words(text: str) -> list[str]:
    return text.split()


KUBERNETES = "v1.23.17"  # the last minor with dockershim
BUILDKIT = "v0.34.2"
BUILDKIT_OLD = "v0.16.0"  # the last minor that bounds its cache with keepBytes
CONTAINERD = "2.4.2"
CONTAINERD_1_7 = "1.7.35"
COREDNS = "v1.8.6"  # coredns, etcd and pause: the tags that this kubeadm asks for
ETCD = "3.5.6-0"
PAUSE = "3.6"
SUITE = "bookworm"
MIRROR = os.environ.get("HOMELAB_CONTAINERD_DEBIAN") or debian_mirror(SUITE)
REGISTRY = "registry.lab:5000"
KUBE_BINARIES = {  # usual seconds, the first in the list compiles what all share
    "kubelet": 160,
    "kubeadm": 15,
    "kubectl": 15,
    "kube-proxy": 5,
    "kube-scheduler": 10,
    "kube-controller-manager": 40,
}
# The modules of Kubernetes with types that the API server describes (+k8s:openapi-gen).
OPENAPI_MODULES = words(
    "kubernetes api apimachinery apiextensions-apiserver apiserver client-go cloud-provider"
    " component-base controller-manager kube-aggregator kube-controller-manager kube-proxy"
    " kube-scheduler kubelet metrics pod-security-admission"
)
NODE_PACKAGES = words(
    "systemd systemd-sysv dbus docker.io containerd runc containernetworking-plugins"
    " docker-registry iproute2 iptables conntrack ebtables ethtool socat kmod mount procps"
    " curl ca-certificates python3 python3-apt apt-utils iputils-ping less psmisc"
)
# A machine that never saw docker, nor Kubernetes; the registry is for the services container.
BARE_PACKAGES = words(
    "systemd systemd-sysv dbus runc containernetworking-plugins docker-registry iproute2 iptables"
    " kmod mount procps curl ca-certificates openssl python3 python3-apt apt-utils iputils-ping"
    " less psmisc"
)
# The userland of the images: iptables for kube-proxy, etcd, busybox for the workloads.
USERLAND_PACKAGES = words("iptables conntrack kmod ipset etcd-server busybox-static libc6")


@dataclass
class Stage:
    name: str
    seconds: float
    make: Callable[[Path], None]
    inputs: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        content = "\0".join([self.name, ARCH, *self.inputs])
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def path(self) -> Path:
        return LAB / f"{self.name}-{self.key}"

    def ready(self) -> bool:
        return self.path.is_dir()

    def build(self) -> None:
        temporary = LAB / f".tmp-{self.name}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        self.make(temporary)
        temporary.rename(self.path)


class NodeImage(Stage):
    """The node's image is in the engine; the directory only says that it was put there."""

    @property
    def image(self) -> str:
        return f"homelab-containerd-{self.name}:{self.key}"

    def ready(self) -> bool:
        found = run("docker", "image", "inspect", self.image, check=False).returncode == 0
        return found and self.path.is_dir()

    def build(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        super().build()
        # Older ones go, except those that a cluster still runs on: docker refuses these.
        name = self.image.split(":")[0]
        for other in output("docker", "image", "ls", "--format", "{{.Tag}}", name).split():
            if other != self.key:
                run("docker", "image", "rm", f"{name}:{other}", check=False)


def source(*functions: Callable[..., object]) -> str:
    return "".join(inspect.getsource(function) for function in functions)


def files(*names: str) -> str:
    """The content of files below lab/, with their names and modes."""
    parts = []
    for name in names:
        root = HERE / name
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file():
                mode = "x" if os.access(path, os.X_OK) else "-"
                parts.append(f"{path.relative_to(HERE)} {mode}\n{path.read_text(encoding='utf-8')}")
    return "".join(parts)


# --- Go -------------------------------------------------------------------------------------


@cache
def modern_go() -> Path:
    """A Go that can follow the `go` line of a go.mod: older ones fetch that toolchain."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go"):
        if candidate and Path(candidate).exists():
            version = output(candidate, "version", env={**os.environ, "GOTOOLCHAIN": "local"})
            found = re.search(r"go(\d+)\.(\d+)", version)
            if found and (int(found[1]), int(found[2])) >= (1, 21):
                return Path(candidate).parent
    raise Failure(
        "BuildKit needs Go: install Go 1.21 or newer (1.26 is best; older ones fetch it through "
        "the module proxy) from https://go.dev/dl into /usr/local/go, or put `go` in PATH"
    )


def go(root: Path, module: str, *arguments: str, **extra: str) -> str:
    """Run one of the two Go's in a module below lab/go."""
    keep = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GOROOT", "GOOS", "GOARCH", "GOWORK", "GO111MODULE", "GOEXPERIMENT")
    }
    env = {
        **keep,
        "PATH": f"{root}:{os.environ.get('PATH', '')}",
        "GOFLAGS": "-mod=readonly -buildvcs=false -trimpath",
        "GOTOOLCHAIN": "auto",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
        **extra,
    }
    hint = "modules come through GOPROXY: see `go env GOPROXY`; run the build again, it goes on"
    return output(root / "go", *arguments, cwd=HERE / "go" / module, env=env, hint=hint)


def version_flags() -> str:
    major, minor = KUBERNETES[1:].split(".")[:2]
    flags = ["-s -w"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        flags += [
            f"-X {package}.gitVersion={KUBERNETES}",
            f"-X {package}.gitMajor={major} -X {package}.gitMinor={minor}",
            f"-X {package}.gitTreeState=clean",
        ]
    return " ".join(flags)


def mmdebstrap(target: Path, variant: str, packages: list[str], *options: str) -> None:
    run(
        "mmdebstrap",
        f"--variant={variant}",
        f"--include={','.join(packages)}",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        *options,
        SUITE,
        target,
        f"deb {MIRROR} {SUITE} main",
        f"deb {MIRROR} {SUITE}-updates main",
        hint=f"is {MIRROR} in reach? HOMELAB_CONTAINERD_DEBIAN names another mirror",
    )


def make_old_go(target: Path) -> None:
    # Newer Go breaks this Kubernetes' dependencies, and only this suite has 1.19: unpacked here,
    # the host may be of any suite.
    root = target / "root"
    mmdebstrap(root, "extract", ["golang-1.19-go", "golang-1.19-src"], "--format=directory")
    for extra in ("etc", "var"):
        shutil.rmtree(root / extra, ignore_errors=True)


def make_kube(target: Path, old_go: Path, binary: str) -> None:
    go(
        old_go,
        "kubernetes",
        *("build", "-ldflags", version_flags(), "-o", str(target / binary)),
        f"k8s.io/kubernetes/cmd/{binary}",
    )


def make_openapi(target: Path, old_go: Path) -> None:
    """The one generated file that the published module lacks."""
    packages = []
    for module in OPENAPI_MODULES:
        path = f"k8s.io/{module}"
        go(old_go, "kubernetes", "mod", "download", path)
        root = Path(go(old_go, "kubernetes", "list", "-m", "-f", "{{.Dir}}", path))
        for file in root.rglob("*.go"):
            parts = file.relative_to(root).parts
            if file.name.endswith("_test.go") or "testdata" in parts or "test" in parts:
                continue
            if re.search(r"^// \+k8s:openapi-gen=true", file.read_text("utf-8"), re.MULTILINE):
                packages.append("/".join([path, *parts[:-1]]))
    header = target / "header"
    header.touch()
    generator = target / "openapi-gen"
    go(old_go, "kubernetes", "build", "-o", str(generator), "k8s.io/kube-openapi/cmd/openapi-gen")
    run(
        generator,
        *("-i", ",".join(sorted(set(packages)))),
        *("-p", "k8s.io/kubernetes/pkg/generated/openapi", "-O", "zz_generated.openapi"),
        *("-h", header, "-r", target / "violations", "--output-base", target / "generated"),
        cwd=HERE / "go" / "kubernetes",
        env={
            **os.environ,
            "PATH": f"{old_go}:{os.environ.get('PATH', '')}",
            "GOFLAGS": "-mod=readonly",
        },
    )
    made = target / "generated/k8s.io/kubernetes/pkg/generated/openapi/zz_generated.openapi.go"
    made.rename(target / made.name)
    shutil.rmtree(target / "generated")
    generator.unlink()


def make_apiserver(target: Path, old_go: Path, openapi: Path) -> None:
    root = go(old_go, "kubernetes", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
    place = f"{root}/pkg/generated/openapi/zz_generated.openapi.go"
    overlay = target / "overlay.json"
    overlay.write_text('{"Replace": {"%s": "%s"}}' % (place, openapi / Path(place).name))
    go(
        old_go,
        "kubernetes",
        *("build", "-overlay", str(overlay), "-ldflags", version_flags()),
        *("-o", str(target / "kube-apiserver"), "k8s.io/kubernetes/cmd/kube-apiserver"),
        GODEBUG="goindex=0",  # Go's index of modules does not look at overlays
    )


def make_go_main(target: Path, root: Path, module: str) -> None:
    go(root, module, "build", "-ldflags", "-s -w", "-o", str(target / module), ".")


def make_buildkit(target: Path, module: str, version: str) -> None:
    package = "github.com/moby/buildkit"
    flags = f"-s -w -X {package}/version.Version={version} -X {package}/version.Package={package}"
    for binary in ("buildkitd", "buildctl"):
        go(
            modern_go(),
            module,
            *("build", "-tags", "osusergo,netgo", "-ldflags", flags),
            *("-o", str(target / binary), f"{package}/cmd/{binary}"),
        )


def make_containerd(target: Path, module: str, package: str, version: str) -> None:
    """A release tarball of a newer containerd, for the tests that install one."""
    flags = f"-s -w -X {package}/version.Version=v{version}"
    content = {}
    for binary in ("containerd", "ctr", "containerd-shim-runc-v2"):
        go(
            modern_go(),
            module,
            *("build", "-tags", "osusergo,netgo,static_build,no_btrfs", "-ldflags", flags),
            *("-o", str(target / binary), f"{package}/cmd/{binary}"),
        )
        content[f"bin/{binary}"] = (target / binary).read_bytes()
        (target / binary).unlink()
    write_tarball(target / f"containerd-{version}-linux-{ARCH}.tar.gz", content)


# --- packages and images --------------------------------------------------------------------


def make_rootfs(target: Path) -> None:
    # apt stays usable inside: roles install packages there.
    mmdebstrap(target / "rootfs.tar", "minbase", NODE_PACKAGES, "--format=tar")


def make_bare_rootfs(target: Path) -> None:
    mmdebstrap(target / "rootfs.tar", "minbase", BARE_PACKAGES, "--format=tar")


def make_userland(target: Path) -> None:
    mmdebstrap(target / "userland.tar", "extract", USERLAND_PACKAGES, "--format=tar")


def from_tar(archive: Path, *names: str) -> bytes:
    with tarfile.open(archive) as tar:
        for name in names:
            for candidate in (f"./{name}", name):
                try:
                    file = tar.extractfile(candidate)
                except KeyError:
                    continue
                if file is not None:
                    return file.read()
    raise Failure(f"{archive} has none of {', '.join(names)}")


def write_tarball(path: Path, content: dict[str, bytes]) -> None:
    """A release tarball with its checksum beside it; the same content gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", *sorted(content)):
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime = 0o755, images.EPOCH
            if name == "bin":
                entry.type = tarfile.DIRTYPE
            entry.size = len(content.get(name, b""))
            tar.addfile(entry, io.BytesIO(content.get(name, b"")))
    packed = gzip.compress(buffer.getvalue(), 6, mtime=images.EPOCH)
    path.write_bytes(packed)
    checksum = hashlib.sha256(packed).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{checksum}  {path.name}\n")


def make_mirror(target: Path, buildkit: Path, rootfs: Path, runc: Path, version: str) -> None:
    """BuildKit as its project ships it; the CNI plugins in it are Debian's, and so is runc, or
    the wrapper in front of the node's own where that is needed (see runc-wrapper).
    """
    content = {f"bin/{name}": (buildkit / name).read_bytes() for name in ("buildkitd", "buildctl")}
    content["bin/buildkit-runc"] = (
        from_tar(rootfs / "rootfs.tar", "usr/sbin/runc")
        if has_sys_resource()
        else (runc / "runc-wrapper").read_bytes()
    )
    for plugin in ("bridge", "firewall", "host-local", "loopback"):
        content[f"bin/buildkit-cni-{plugin}"] = from_tar(
            rootfs / "rootfs.tar", f"usr/lib/cni/{plugin}"
        )
    name = f"buildkit-{version}.linux-{ARCH}"
    tarball = target / f"{name}.tar.gz"
    write_tarball(tarball, content)
    # As the release has it: an in-toto statement whose subjects are the release's files.
    subject = {
        "name": tarball.name,
        "digest": {"sha256": hashlib.sha256(tarball.read_bytes()).hexdigest()},
    }
    statement = {
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "subject": [subject],
        "predicate": {"builder": {"id": ""}, "buildType": "https://mobyproject.org/buildkit@v1"},
    }
    target.joinpath(f"{name}.provenance.json").write_text(json.dumps(statement) + "\n")


def make_kube_images(target: Path, binaries: dict[str, Path], userland: Path) -> None:
    """The images that kubeadm asks for, named as it asks for them."""

    def program(name: str) -> bytes:
        layer = Layer()
        layer.file(f"usr/local/bin/{name}", (binaries[name] / name).read_bytes(), 0o755)
        return layer.finish()

    skip = ("usr/share/", "var/lib/", "var/cache/", "etc/init.d/", "etc/default/", "usr/bin/etcd",
            "usr/lib/systemd", "lib/systemd", "lib/modprobe.d", "bin/busybox")  # fmt: skip
    base = images.filtered(userland / "userland.tar", lambda entry: not entry.name.startswith(skip))
    # Packages are only unpacked here: what their scripts would have linked.
    links = Layer()
    for name in ("iptables", "iptables-save", "iptables-restore"):
        for family in (name, name.replace("ip", "ip6", 1)):
            links.link(f"usr/sbin/{family}", "/usr/sbin/xtables-nft-multi")
    etcd = Layer()
    etcd.file("usr/local/bin/etcd", from_tar(userland / "userland.tar", "usr/bin/etcd"), 0o755)
    dns = Layer()
    dns.file("coredns", (binaries["coredns"] / "coredns").read_bytes(), 0o755)
    pause = Layer()
    pause.file("pause", (binaries["pause"] / "pause").read_bytes(), 0o755)

    made = [
        Image(f"registry.k8s.io/{name}:{KUBERNETES}", [program(name)], [name])
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ]
    made += [
        Image(
            f"registry.k8s.io/kube-proxy:{KUBERNETES}",
            [base, links.finish(), program("kube-proxy")],
            ["kube-proxy"],
        ),
        Image(f"registry.k8s.io/etcd:{ETCD}", [base, etcd.finish()], ["etcd"]),
        Image(f"registry.k8s.io/coredns/coredns:{COREDNS}", [dns.finish()], ["/coredns"]),
        Image(f"registry.k8s.io/pause:{PAUSE}", [pause.finish()], ["/pause"]),
    ]
    for image in made[-2:]:  # these two are started without a command by their manifests
        image.entrypoint = image.command
    images.write_archive(target / "images.tar", made)


def make_lab_images(target: Path, userland: Path) -> None:
    """What the registry serves: a busybox to build from, a web server, and one to be pulled.

    web:1 shares no layer with the other two. So it is no base for a build on a migrated node until
    the blobs of its own layers are restored, like most images that docker pulled.
    """
    busybox = from_tar(userland / "userland.tar", "bin/busybox", "usr/bin/busybox")
    program = target / "busybox"
    program.write_bytes(busybox)
    program.chmod(0o755)
    applets = output(program, "--list").split()
    program.unlink()

    def system(name: str) -> bytes:
        layer = Layer()
        layer.file("etc/os-release", f"ID={name}\n".encode())
        layer.file("bin/busybox", busybox, 0o755)
        for applet in applets:
            if applet != "busybox":
                layer.link(f"bin/{applet}", "busybox")
        layer.directory("tmp", 0o1777)
        for directory in ("root", "proc", "sys", "dev", "usr/bin"):
            layer.directory(directory)
        layer.file(
            "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
        )
        layer.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
        # A shell as process 1 ignores SIGTERM unless it has a trap; `wait` lets the trap run.
        layer.file(
            "bin/serve",
            b"#!/bin/sh\n# serve DIRECTORY [PORT]: http until SIGTERM\n"
            b'trap "exit 0" TERM INT\nhttpd -f -p "${2:-8080}" -h "$1" &\nwait\n',
            0o755,
        )
        return layer.finish()

    def page(text: str) -> bytes:
        extra = Layer()
        extra.file("www/index.html", text.encode())
        return extra.finish()

    base = system("base")
    images.write_archive(
        target / "images.tar",
        [
            Image(f"{REGISTRY}/base:1", [base], ["/bin/sh"]),
            Image(
                f"{REGISTRY}/web:1",
                [system("web"), page("from the registry\n")],
                ["/bin/serve", "/www"],
                [8080],
            ),
            Image(
                f"{REGISTRY}/probe:1",
                [base, page("pulled by the runtime\n")],
                ["/bin/serve", "/www"],
                [8080],
            ),
        ],
    )


def make_node(target: Path, rootfs: Path, binaries: dict[str, Path], image: str) -> None:
    """Debian's docker node plus Kubernetes, as one image in this host's engine."""
    layer = Layer()
    for name in ("kubelet", "kubeadm", "kubectl"):
        layer.file(f"usr/bin/{name}", (binaries[name] / name).read_bytes(), 0o755)
    for path in sorted((HERE / "node").rglob("*")):
        if path.is_file():
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            layer.file(str(path.relative_to(HERE / "node")), path.read_bytes(), mode)
    layer.link("opt/cni/bin", "/usr/lib/cni")
    for unit in ("containerd", "docker", "kubelet", "lab-routes"):
        wants = f"etc/systemd/system/multi-user.target.wants/{unit}.service"
        layer.link(wants, f"/lib/systemd/system/{unit}.service")
    import_machine(target, rootfs, layer, binaries["runc-wrapper"], image)


def make_machine(target: Path, rootfs: Path, runc: Path, image: str) -> None:
    """A Debian machine that never saw docker, containerd or Kubernetes."""
    layer = Layer()
    for name in ("boot", "services"):
        path = HERE / "node/usr/local/lib/lab" / name
        layer.file(f"usr/local/lib/lab/{name}", path.read_bytes(), 0o755)
    registry = HERE / "node/etc/docker/registry/lab.yml"
    layer.file("etc/docker/registry/lab.yml", registry.read_bytes(), 0o644)
    import_machine(target, rootfs, layer, runc, image)


def import_machine(target: Path, rootfs: Path, layer: Layer, runc: Path, image: str) -> None:
    """A root file system with a layer over it, as an image that boots systemd."""
    wrapper = (runc / "runc-wrapper").read_bytes()
    layer.file("usr/local/lib/lab/runc-wrapper", wrapper, 0o755)
    # What makes no sense in a container, or would act on the host's hardware.
    masked = words(
        """systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket
        systemd-udev-trigger.service systemd-modules-load.service systemd-logind.service
        getty.target console-getty.service getty-static.service apt-daily.timer
        apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
        fstrim.timer systemd-resolved.service systemd-timesyncd.service docker-registry.service
        sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount
        dev-hugepages.mount dev-mqueue.mount systemd-remount-fs.service systemd-firstboot.service
        proc-sys-fs-binfmt_misc.automount systemd-binfmt.service"""
    )
    for unit in masked:
        layer.link(f"etc/systemd/system/{unit}", "/dev/null")
    replaced = {"etc/hostname", "etc/machine-id", "etc/docker/daemon.json", "usr/sbin/policy-rc.d"}
    known: set[str] = set()
    added = layer.finish()
    with tarfile.open(fileobj=io.BytesIO(added)) as tar:
        replaced |= {entry.name for entry in tar if not entry.isdir()}
    with subprocess.Popen(
        ["docker", "import", "-c", 'ENTRYPOINT ["/usr/local/lib/lab/boot"]', "-", image],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        with tarfile.open(fileobj=process.stdin, mode="w|", format=tarfile.PAX_FORMAT) as new:
            with tarfile.open(rootfs / "rootfs.tar", mode="r|") as old:
                for entry in old:
                    name = entry.name.lstrip("./")
                    known.add(name)
                    if name not in replaced and not entry.isdev():
                        new.addfile(entry, old.extractfile(entry) if entry.isreg() else None)
            with tarfile.open(fileobj=io.BytesIO(added)) as more:
                for entry in more:
                    if not entry.isdir() or entry.name not in known:
                        new.addfile(entry, more.extractfile(entry) if entry.isreg() else None)
        process.stdin.close()
        said = process.stdout.read().decode("utf-8", "replace")
    if process.returncode != 0:
        raise Failure(f"docker import failed: {said.strip()}")
    (target / "image").write_text(image + "\n", encoding="utf-8")


# --- all of it ------------------------------------------------------------------------------


class Plan:
    """Every stage, in the order of building."""

    def __init__(self) -> None:
        go_code = source(go, version_flags)
        suite = f"{SUITE} {source(mmdebstrap)}"
        self.old_go = Stage("go1.19", 25, make_old_go, [suite, source(make_old_go)])
        old_go = self.old_go.path / "root/usr/lib/go-1.19/bin"
        pinned = files("go/kubernetes/go.mod", "go/kubernetes/go.sum")
        self.binaries: dict[str, Stage] = {}

        def add(name: str, seconds: float, make: Callable[[Path], None], *inputs: str) -> Stage:
            self.binaries[name] = Stage(name, seconds, make, [go_code, *inputs])
            return self.binaries[name]

        for binary, seconds in KUBE_BINARIES.items():
            add(
                binary,
                seconds,
                lambda target, binary=binary: make_kube(target, old_go, binary),  # type: ignore[misc]
                *(pinned, KUBERNETES, self.old_go.key, source(make_kube)),
            )
        self.openapi = Stage(
            "openapi",
            20,
            lambda target: make_openapi(target, old_go),
            [go_code, pinned, self.old_go.key, source(make_openapi), *OPENAPI_MODULES],
        )
        add(
            "kube-apiserver",
            60,
            lambda target: make_apiserver(target, old_go, self.openapi.path),
            *(pinned, KUBERNETES, self.openapi.key, source(make_apiserver)),
        )
        for name, seconds in {"coredns": 20, "runc-wrapper": 2, "pause": 2}.items():
            add(
                name,
                seconds,
                lambda target, name=name: make_go_main(target, old_go, name),  # type: ignore[misc]
                *(files(f"go/{name}"), self.old_go.key, source(make_go_main)),
            )
        self.buildkit = Stage(
            "buildkit",
            170,
            lambda target: make_buildkit(target, "buildkit", BUILDKIT),
            [go_code, files("go/buildkit"), BUILDKIT, source(make_buildkit)],
        )
        self.buildkit_old = Stage(
            "buildkit-old",
            70,
            lambda target: make_buildkit(target, "buildkit-old", BUILDKIT_OLD),
            [go_code, files("go/buildkit-old"), BUILDKIT_OLD, source(make_buildkit)],
        )
        self.containerds = {
            version: Stage(
                module,
                110,
                lambda target, module=module, package=package, version=version: make_containerd(  # type: ignore[misc]
                    target, module, package, version
                ),
                [go_code, files(f"go/{module}"), version, source(make_containerd, write_tarball)],
            )
            for module, package, version in (
                ("containerd-1.7", "github.com/containerd/containerd", CONTAINERD_1_7),
                ("containerd", "github.com/containerd/containerd/v2", CONTAINERD),
            )
        }
        self.containerd = self.containerds[CONTAINERD]
        self.rootfs = Stage("rootfs", 55, make_rootfs, [suite, *NODE_PACKAGES, source(make_rootfs)])
        self.userland = Stage(
            "userland", 15, make_userland, [suite, *USERLAND_PACKAGES, source(make_userland)]
        )
        pack = source(images.Image, images.Layer, images.write_archive, from_tar)
        runc = self.binaries["runc-wrapper"]
        mirror = [self.rootfs.key, runc.key, str(has_sys_resource())]
        mirror += [source(make_mirror, write_tarball, from_tar)]
        self.mirror = Stage(
            "mirror",
            15,
            lambda target: make_mirror(
                target, self.buildkit.path, self.rootfs.path, runc.path, BUILDKIT
            ),
            [self.buildkit.key, *mirror],
        )
        self.mirror_old = Stage(
            "mirror-old",
            15,
            lambda target: make_mirror(
                target, self.buildkit_old.path, self.rootfs.path, runc.path, BUILDKIT_OLD
            ),
            [self.buildkit_old.key, *mirror],
        )
        paths = {name: stage.path for name, stage in self.binaries.items()}
        keys = [stage.key for stage in self.binaries.values()]
        self.kube_images = Stage(
            "kube-images",
            10,
            lambda target: make_kube_images(target, paths, self.userland.path),
            [pack, self.userland.key, *keys, source(make_kube_images, images.filtered)],
        )
        self.lab_images = Stage(
            "lab-images",
            3,
            lambda target: make_lab_images(target, self.userland.path),
            [pack, self.userland.key, source(make_lab_images)],
        )
        self.node = NodeImage(
            "node",
            25,
            lambda target: make_node(target, self.rootfs.path, paths, self.node.image),
            [
                self.rootfs.key,
                *(
                    self.binaries[name].key
                    for name in ("kubelet", "kubeadm", "kubectl", "runc-wrapper")
                ),
                files("node"),
                source(images.Layer, make_node, import_machine),
            ],
        )
        self.bare_rootfs = Stage(
            "bare-rootfs", 40, make_bare_rootfs, [suite, *BARE_PACKAGES, source(make_bare_rootfs)]
        )
        self.machine = NodeImage(
            "machine",
            10,
            lambda target: make_machine(
                target, self.bare_rootfs.path, runc.path, self.machine.image
            ),
            [
                self.bare_rootfs.key,
                runc.key,
                files("node"),
                source(images.Layer, make_machine, import_machine),
            ],
        )

    def stages(self) -> list[Stage]:
        return [
            self.old_go,
            *(stage for name, stage in self.binaries.items() if name in KUBE_BINARIES),
            self.openapi,
            *(stage for name, stage in self.binaries.items() if name not in KUBE_BINARIES),
            self.buildkit,
            self.rootfs,
            self.userland,
            self.mirror,
            self.kube_images,
            self.lab_images,
            self.node,
        ]

    def parts(self) -> dict[str, list[Stage]]:
        """What is only for a test, and what that needs of the rest."""
        runc = self.binaries["runc-wrapper"]
        return {
            "containerd": [self.containerd],
            "containerd-versions": [*self.containerds.values()],
            "buildkit-old": [self.old_go, runc, self.buildkit_old, self.rootfs, self.mirror_old],
            "machine": [
                *(self.old_go, runc, self.buildkit, self.rootfs, self.userland, self.mirror),
                *(self.lab_images, self.bare_rootfs, self.machine),
            ],
        }


def build(only: str = "") -> Plan:
    """Build what is not there yet; `only` names a part that is for a test alone."""
    plan = Plan()
    wanted = plan.parts()[only] if only else plan.stages()
    LAB.mkdir(parents=True, exist_ok=True)
    if any(isinstance(stage, NodeImage) for stage in wanted):
        ensure_engine()
    missing = [stage for stage in wanted if not stage.ready()]
    if not missing:
        say(f"build: nothing to do, all {len(wanted)} stages are in {LAB}")
        return plan
    modern = (plan.buildkit, plan.buildkit_old, *plan.containerds.values())
    if any(stage in missing for stage in modern):
        modern_go()  # say so now, not after ten minutes
    debian = (plan.old_go, plan.rootfs, plan.bare_rootfs, plan.userland)
    if any(stage in missing for stage in debian):
        apt_install("mmdebstrap", "debian-archive-keyring")
    free = shutil.disk_usage(LAB).free / 1e9
    if free < 12:
        say(f"build: only {free:.0f} GB free under {LAB}; a whole build takes about 10")
    progress = Progress("build", [(stage.name, stage.seconds) for stage in missing])
    for stage in missing:
        with progress.step(stage.name):
            stage.build()
    progress.done(f"{len(missing)} stages built in {LAB}")
    return plan
