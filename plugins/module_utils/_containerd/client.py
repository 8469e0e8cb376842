# Copyright: homelab.containerd contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""containerd's own client, ctr, in the kubelet's namespace."""

from __future__ import annotations

import re
import subprocess
import tempfile
import typing as t

from ansible_collections.homelab.containerd.plugins.module_utils._host import commands

NAMESPACE = "k8s.io"


def cri_ready(plugins: str) -> bool:
    """Whether CRI works, out of what "ctr plugins list" prints."""
    return bool(re.search(r"^io\.containerd\.grpc\.v1\s+cri\s.*\bok\b", plugins, re.MULTILINE))


def is_gone(failure: commands.NodeError) -> bool:
    """Whether ctr failed because there is no such thing, and not because nobody answered."""
    return str(failure).rstrip().endswith(": not found")


def ctr(*words: str, timeout: float = 60) -> str:
    """Run containerd's own client in the kubelet's namespace and return what it prints."""
    return commands.run(("ctr", "-n", NAMESPACE) + words, timeout=timeout).stdout


def ctr_feed(arguments: t.Sequence[str], chunks: t.Iterable[bytes]) -> None:
    """Give ctr its standard input as it comes; NodeError with what ctr says."""
    words = ["ctr", "-n", NAMESPACE] + list(arguments)
    with tempfile.TemporaryFile() as output:
        sink = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=output, stderr=output)
        stdin = t.cast("t.IO[bytes]", sink.stdin)
        try:
            for chunk in chunks:
                stdin.write(chunk)
            stdin.close()
        except BrokenPipeError:
            pass  # ctr ended; what it printed says why
        except BaseException:
            sink.kill()
            sink.wait()
            raise
        if sink.wait() != 0:
            output.seek(0)
            printed = output.read().decode("utf-8", "replace").strip()[-2000:]
            raise commands.NodeError("%s: %s" % (" ".join(words), printed))


def ctr_import(chunks: t.Iterable[bytes], *options: str) -> None:
    """Feed an image archive to ``ctr images import`` as it comes."""
    ctr_feed(["images", "import"] + list(options) + ["-"], chunks)


def containerd_images() -> t.Dict[str, t.Dict[str, t.Any]]:
    """Image references in the kubelet's namespace: {"digest": of the manifest, "labels": [...]}."""
    references = {}
    for line in ctr("images", "list").splitlines()[1:]:
        words = line.split()
        if len(words) >= 3:
            references[words[0]] = {"digest": words[2], "labels": words[-1].split(",")}
    return references


def content() -> t.Set[str]:
    """The digests of the content that containerd has in the kubelet's namespace."""
    return set(ctr("content", "list", "--quiet").split())


def snapshots(kind: str) -> t.List[t.List[str]]:
    """Rows of containerd's snapshots: name, parent if it has one, and kind."""
    rows = [line.split() for line in ctr("snapshots", "list").splitlines()[1:]]
    return [words for words in rows if words and words[-1] == kind]
