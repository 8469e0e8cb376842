#!/bin/sh
# Ansible managed
# Before each start of containerd, on cgroup v1: put the processes of containers back into their own cgroup of
# the devices hierarchy. systemd moves some up into the slice's, because it does not manage devices for every
# scope. A containerd that starts asks each shim for its processes, runc looks for them in that cgroup, and a
# container that seems to have none is taken for a leaked one: containerd forgets it, and its processes live on
# without anybody who could stop them (shim_load.go, "cleaning leaked shim process").
# The new cgroup inherits the rules of the slice's, which are those that these processes have now.
set -u
devices=/sys/fs/cgroup/devices
systemd=/sys/fs/cgroup/systemd
# cgroup v2 has one hierarchy, which systemd manages as a whole.
[ -d $devices ] && [ -d $systemd ] || exit 0
find $systemd -type d -regextype posix-extended -regex '.*-[0-9a-f]{64}\.scope' | while read -r scope; do
  path=${scope#"$systemd"}
  # Containers may have cgroups of their own below.
  find "$scope" -name cgroup.procs -exec cat {} + | while read -r pid; do
    # It may end meanwhile; then there is nothing to hold.
    now=$(sed -n 's/^[0-9]*:devices://p' "/proc/$pid/cgroup" 2>/dev/null)
    case $now in
      '' | "$path" | "$path"/*) continue ;;
    esac
    mkdir -p "$devices$path"
    echo "$pid" 2>/dev/null >"$devices$path/cgroup.procs" && echo "process $pid: back into $path"
  done
done
