# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What apt and dnf say they would do, recorded on a Debian 12 and with packages like Fedora's."""

from __future__ import annotations

import pytest
from ansible_collections.homelab.containerd.plugins.module_utils._host import packages
from ansible_collections.homelab.containerd.plugins.module_utils._host.host import Host
from support import RECORDED

APT = "apt-2.6.1"
#: Command line of the programs to what they print, and their exit status.
SAID = {
    "apt-get install containerd.io": ("install-containerd.io.txt", 0),
    "apt-get install containerd": ("install-containerd.txt", 0),
    "apt-get install containerd=1.6.20~ds1-1+deb12u2": ("install-older-containerd.txt", 0),
    "apt-get install systemd": ("upgrade-systemd.txt", 0),
    "apt-get install haproxy=2.6.1*": ("install-haproxy-2.6.1.txt", 0),
    "apt-get remove containerd runc": ("remove-containerd-runc.txt", 0),
    "apt-get remove docker.io": ("remove-docker.io.txt", 0),
    "apt-get remove --auto-remove docker.io": ("remove-docker.io-auto-remove.txt", 0),
    "apt-get remove docker.io containerd": ("remove-docker.io-containerd.txt", 0),
    "apt-get remove runc": ("remove-runc.txt", 0),
    "apt-get autoremove": ("autoremove.txt", 0),
    "apt-get install containerd.io-not-there": ("not-there.txt", 100),
}


@pytest.fixture
def debian(program, monkeypatch):
    """A Packages whose apt and dpkg say what was recorded; the words that apt was given."""
    cases = [
        '"%s") cat %s/%s/%s; exit %d;;' % (words.partition(" ")[2], RECORDED, APT, name, code)
        for words, (name, code) in SAID.items()
    ]
    script = (
        'words=$(echo "$*" | sed "s/--simulate --allow-downgrades //")\ncase $words in\n%s\n'
        '*) echo "not recorded: $words" >&2; exit 99;;\nesac' % "\n".join(cases)
    )
    program("apt-get", script)
    for name in ("dockerd", "containerd", "runc", "kubelet"):
        program(name, "exit 0")
    program("apt-mark", "cat %s/%s/showmanual.txt" % (RECORDED, APT))
    program(
        "dpkg-query",
        "case $1 in --search) name=$(basename $2); case $name in dockerd) name=docker.io;; "
        "kubelet) exit 1;; esac; echo $name: $2;; *) case $3 in docker.io|containerd|runc) "
        "printf installed;; esac;; esac",
    )
    monkeypatch.setattr(packages.shutil, "which", lambda name, path=None: "/usr/bin/" + name)
    return packages.Packages(Host())


def test_dockers_package_on_a_node_with_docker_io(debian):
    said = debian.install_problem(["containerd.io"], [])
    assert said == "installing containerd.io would remove containerd, docker.io, runc"


def test_a_package_that_apt_does_not_know_yet(debian):
    said = debian.install_problem(["containerd.io-not-there"], ["containerd", "runc", "podman"])
    assert said == "installing containerd.io-not-there would remove containerd, docker.io, runc"
    # apt itself says it when it is asked to install.
    assert debian.install_problem(["containerd.io-not-there"], ["podman"]) == ""


def test_the_package_that_is_there(debian):
    assert debian.install_problem(["containerd"], []) == ""


def test_an_older_version(debian):
    said = debian.install_problem(["containerd=1.6.20~ds1-1+deb12u2"], [])
    assert said.endswith("would downgrade containerd")


def test_an_upgrade_on_the_way(debian, monkeypatch):
    """As if dockerd were of a package that is upgraded too."""
    assert debian.install_problem(["systemd"], []) == ""
    monkeypatch.setattr(debian, "owners", lambda programs: {"dockerd": "systemd-sysv"})
    assert (
        debian.install_problem(["systemd"], []) == "installing systemd would restart systemd-sysv"
    )


def test_removing_docker_leaves_packages_that_autoremove_would_take(debian):
    assert debian.removal_problem(["docker.io", "docker-ce"]) == ""
    assert debian.left_unused(["docker.io", "docker-ce"]) == [
        *("containerd", "iptables", "libip6tc2", "libnetfilter-conntrack3", "libnfnetlink0"),
        *("libnftnl11", "runc", "tini"),
    ]


def test_what_the_node_needs_is_not_removed(debian):
    assert debian.removal_problem(["docker.io", "containerd"]) == (
        "removing docker.io containerd would remove containerd, which the node needs"
    )
    assert "containerd, runc, which the node needs" in debian.removal_problem(["runc"])


def test_the_runtime_is_marked_even_if_nothing_is_removed(debian):
    assert debian.left_unused([]) == ["containerd", "runc"]


def test_a_longer_version_than_the_one_that_is_asked_for(debian):
    """For apt "2.6.1*" is 2.6.12 too."""
    said = debian.install_problem(["haproxy=2.6.1*"], [])
    assert said == "installing haproxy=2.6.1* would install haproxy 2.6.12-1+deb12u4"
    assert debian.install_problem(["containerd"], []) == ""


# --- dnf ------------------------------------------------------------------------------------------

DNF = "dnf-4.14.0"
DNF_SAID = {
    "install containerd.io": "install-containerd.io.txt",
    "install containerd": "install-containerd.txt",
    "install containerd-1.6.20": "downgrade-containerd.txt",
    "install needs-new": "install-needs-new.txt",
    "install not-there": "not-there.txt",
    "remove containerd": "remove-containerd.txt",
    "remove moby-engine": "remove-moby-engine.txt",
}
#: What it prints to standard error, by what is in the table.
DNF_ENDS = (
    "if grep -q Transaction $file; then echo Operation aborted. >&2; exit 1; fi\n"
    "if grep -q No.match $file; then echo Error: Unable to find a match >&2; exit 1; fi"
)


@pytest.fixture
def fedora(program, monkeypatch):
    """A Packages whose dnf and rpm say what was recorded, with moby-engine on containerd."""
    cases = [
        '"%s") file=%s/%s/%s;;' % (words, RECORDED, DNF, DNF_SAID[words]) for words in DNF_SAID
    ]
    program(
        "dnf",
        "case $1 in repoquery) cat %s/%s/userinstalled.txt; exit 0;; esac\n"
        'words=${*#--assumeno}\ncase ${words# } in\n%s\n*) echo "not recorded: $*" >&2; exit 99;;\n'
        "esac\ncat $file\n%s" % (RECORDED, DNF, "\n".join(cases), DNF_ENDS),
    )
    for name in ("dockerd", "containerd", "runc"):
        program(name, "exit 0")
    program(
        "rpm",
        "case $* in *--file*dockerd) printf moby-engine;; *--file*kubelet) exit 1;; "
        "*--file*) basename $4 | tr -d '\\n';; *containerd|*runc|*moby-engine) ;; *) exit 1;; esac",
    )

    def which(name, path=None):
        return None if name == "apt-get" else "/usr/bin/" + name

    monkeypatch.setattr(packages.shutil, "which", which)
    return packages.Packages(Host())


def test_a_package_that_replaces_others(fedora):
    said = fedora.install_problem(["containerd.io"], [])
    assert said == "installing containerd.io would remove containerd, runc"


def test_dnf_and_a_package_that_it_does_not_know_yet(fedora):
    said = fedora.install_problem(["not-there"], ["containerd", "podman"])
    assert said == (
        "installing not-there would remove containerd, "
        "docker-rootless-extras-of-this-distribution, moby-engine"
    )
    assert fedora.install_problem(["not-there"], ["podman"]) == ""


def test_dnf_and_what_an_installation_changes(fedora):
    assert fedora.install_problem(["containerd"], []) == ""
    assert fedora.install_problem(["containerd-1.6.20"], []).endswith("would downgrade containerd")
    assert fedora.install_problem(["needs-new"], []) == (
        "installing needs-new would restart moby-engine"
    )


def test_dnf_and_what_the_node_needs(fedora):
    assert fedora.removal_problem(["moby-engine"]) == ""
    assert fedora.removal_problem(["containerd"]).endswith(
        "would remove containerd, which the node needs"
    )


def test_what_dnf_would_remove_as_unused(fedora):
    """containerd was installed for another package; moby-engine, by hand, is removed itself."""
    assert fedora.left_unused(["moby-engine"]) == ["containerd", "runc", "tini"]


@pytest.mark.parametrize("width", [20, 200])
def test_a_name_of_dnfs_table_may_have_a_line_of_its_own(recorded, width):
    """As dnf does where a name is longer than its column."""
    lines = recorded(DNF + "/remove-containerd.txt").splitlines()
    wrapped = [
        line.replace("  ", "\n" + " " * width, 1) if line.startswith(" docker") else line
        for line in lines
    ]
    assert packages.read_dnf("\n".join(wrapped)) == packages.read_dnf("\n".join(lines))
