#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The first process of a guest: loads the modules that lead to the disks and
# shares, mounts them, and starts the system that is on the disk. A guest
# without a system of its own (lab.root=none) goes on with busybox.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs dev /dev
for module in /modules/*; do
	$bb insmod "$module" 2>/dev/null
done

# option NAME: its value on the kernel's command line.
option() {
	for word in $($bb cat /proc/cmdline); do
		case $word in
		"$1="*) echo "${word#*=}" ;;
		esac
	done
}

# disk NAME: waits for a disk.
disk() {
	tries=100
	until [ -b "/dev/$1" ]; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || { echo "lab: there is no disk $1"; $bb poweroff -f; }
		$bb usleep 50000
	done
}

new=/new
payload=vdb
if [ "$(option lab.root)" = none ]; then
	payload=vda
	new=
	$bb --install -s /bin
	# The kernel asks for modules by this name.
	$bb mkdir -p /sbin
	$bb ln -sf $bb /sbin/modprobe
else
	disk vda
	$bb mount -t ext4 /dev/vda /new
fi
$bb mkdir -p $new/lab/payload $new/lab/out "$new/lib/modules/$($bb uname -r)"
disk $payload
$bb mount -t ext4 -o ro /dev/$payload $new/lab/payload
share=trans=virtio,version=9p2000.L,msize=262144
$bb mount -t 9p -o $share,ro,cache=loose modules "$new/lib/modules/$($bb uname -r)"
$bb mount -t 9p -o $share,cache=none out $new/lab/out
start="/bin/sh /lab/payload/guest/start.sh"
[ -n "$new" ] || exec $start
[ "$(option lab.cgroup)" != systemd ] || start=/sbin/init
$bb umount /dev /sys /proc
exec $bb switch_root /new $start
