#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What a guest without systemd does: mounts what every system mounts, gives
# the machine an uplink, runs the script of this run, and switches off.
export PATH=/lab/payload/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/lab/home TERM=dumb
if [ ! -e /proc/mounts ]; then
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs dev /dev
fi
# Devices whose modules the kernel loads when somebody opens them.
mkdir -p /dev/pts /dev/shm /dev/net
mknod /dev/loop-control c 10 237 2>/dev/null
mknod /dev/fuse c 10 229 2>/dev/null
mknod /dev/net/tun c 10 200 2>/dev/null
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
. /lab/payload/guest/run.sh
sync
poweroff -f
