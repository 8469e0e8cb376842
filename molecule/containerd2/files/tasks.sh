#!/bin/sh
# docker's tasks as containerd knows them, and each container's processes: whether containerd knows their task, and
# whether they are in the container's own cgroup of the devices hierarchy.
containerd --version | sed 's/.* v\{0,1\}\([0-9]\)[.].*/version \1/'
tasks=$(ctr -n moby tasks list 2>/dev/null | awk '$3 == "RUNNING" { print "task", $1, $2 }' | sort)
echo "$tasks"
[ -d /sys/fs/cgroup/devices ] || { echo "cgroup v2"; exit 0; }
find /sys/fs/cgroup/systemd -type d -name 'docker-*.scope' | while read -r scope; do
  path=${scope#/sys/fs/cgroup/systemd}
  id=$(basename "$path" .scope)
  find "$scope" -name cgroup.procs -exec cat {} + | while read -r pid; do
    case $tasks in *"${id#docker-}"*) ;; *) echo "lost $id $pid" ;; esac
    devices=$(sed -n 's/^[0-9]*:devices://p' "/proc/$pid/cgroup")
    case $devices in '' | "$path"*) ;; *) echo "process $pid of $id moved" ;; esac
  done
done
