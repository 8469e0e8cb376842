#!/usr/bin/env bash
# ansible-test sanity over what the collection ships, in a temporary tree: ansible-test wants to
# stand in ansible_collections/homelab/containerd, and lab, bench and molecule are no part of it.
#
#   tests/sanity.sh                     all tests
#   tests/sanity.sh --test validate-modules plugins/modules/carry_images.py
#
# It takes ansible-test from .venv (make setup) or from PATH. The environments that ansible-test
# makes for its tests stay in ~/.ansible/test, so that the next run is quicker.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -d "$root/.venv/bin" ] && PATH=$root/.venv/bin:$PATH
python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')

work=$(mktemp -d)
stand_in=()
trap 'rm -rf "$work" ${stand_in[@]+"${stand_in[@]}"}' EXIT

# ansible-test fetches pip's bootstrap script from a host of its own. Where that is out of reach, a
# script in its place installs the same pip from the package index. A script that is there already
# is left alone, and ours goes, with its wheel, when we are done.
need_pip() {
  local wanted cache bootstrap url wheel
  wanted=$(python3 -c '
import pathlib, re, ansible_test
path = pathlib.Path(list(ansible_test.__path__)[0], "_internal/python_requirements.py")
print(re.search(r"pip=.([\d.]+)", path.read_text()).group(1))')
  cache=$HOME/.ansible/test/cache
  bootstrap=$cache/get_pip_${wanted//./_}.py
  url=https://ci-files.testing.ansible.com/ansible-test/get-pip-$wanted.py
  [ ! -e "$bootstrap" ] || return 0
  ! python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$url" \
    2>/dev/null || return 0
  mkdir -p "$cache"
  wheel=$cache/pip-$wanted-py3-none-any.whl
  stand_in=("$bootstrap" "$wheel")
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$cache" "pip==$wanted"
  cat >"$bootstrap" <<PYTHON
"""Stands in for get-pip.py: installs pip $wanted from its wheel, which can run itself."""
import runpy, sys
wheel = "$wheel"
options = sys.argv[1:]
for name in ("setuptools", "wheel"):
    if "--no-" + name in options:
        options.remove("--no-" + name)
    else:
        options.append(name)
sys.path.insert(0, wheel)
sys.argv[1:] = ["install", "--upgrade", "--force-reinstall", wheel] + options
runpy.run_module("pip", run_name="__main__", alter_sys=True)
PYTHON
}

tree=$work/ansible_collections/homelab/containerd
mkdir -p "$tree"
cd "$root"
git ls-files -z --cached --others --exclude-standard |
  grep -zvE '^(\.ci|\.config|\.github|bench|lab|molecule)/' |
  while IFS= read -rd '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
  tar --null --files-from=- -cf - | tar -xf - -C "$tree"

need_pip
cd "$tree"
# Python versions that are not installed are skipped with a warning; here that is all but one.
ansible-test sanity --color no --python "$python" "$@"
