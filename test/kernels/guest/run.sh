# SPDX-License-Identifier: Apache-2.0
#
# Prepares the host as this run asks for, runs its script, and leaves its
# status in the results.
# For what programs keep, such as kubectl, apart from the machine.
mkdir -p /lab/home
. /lab/payload/guest/network.sh

case $(sed -n 's/.*lab.cgroup=\([a-z0-9]*\).*/\1/p' /proc/cmdline) in
systemd) ;;
v1) . /lab/payload/guest/cgroup1.sh ;;
hybrid)
	. /lab/payload/guest/cgroup1.sh
	mkdir -p /sys/fs/cgroup/unified
	mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
	;;
*) mount -t cgroup2 cgroup2 /sys/fs/cgroup ;;
esac
grep -q ' /sys/fs/bpf ' /proc/mounts || mount -t bpf bpf /sys/fs/bpf
grep -q ' /sys/kernel/tracing ' /proc/mounts || mount -t tracefs tracefs /sys/kernel/tracing
grep -q ' /sys/kernel/security ' /proc/mounts || mount -t securityfs securityfs /sys/kernel/security
mount --make-rshared / 2>/dev/null

echo "lab: $(uname -r) is up after $(cut -d ' ' -f 1 /proc/uptime) s"
shell=sh
[ ! -x /bin/bash ] || shell=bash
$shell /lab/out/script
status=$?
echo "$status" >/lab/out/status
echo "lab: status $status after $(cut -d ' ' -f 1 /proc/uptime) s"
