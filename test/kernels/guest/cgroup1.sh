# SPDX-License-Identifier: Apache-2.0
#
# Mounts every controller of cgroup v1 on its own, as older systems do.
mount -t tmpfs cgroup /sys/fs/cgroup
for controller in $(awk '!/^#/ { print $1 }' /proc/cgroups); do
	mkdir -p "/sys/fs/cgroup/$controller"
	mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" || rmdir "/sys/fs/cgroup/$controller"
done
