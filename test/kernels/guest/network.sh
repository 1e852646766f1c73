# SPDX-License-Identifier: Apache-2.0
#
# Gives the machine a name, a loopback device, and an uplink: the other end is
# a namespace "outside", which is the gateway and knows only the uplink's net.
hostname lab
if ip -V 2>&1 | grep -q iproute2; then
	ip link set lo up
	ip netns add outside
	ip link add eth0 type veth peer name eth0 netns outside
	ip addr add 192.0.2.10/24 dev eth0
	ip addr add 2001:db8::10/64 dev eth0 nodad
	ip link set eth0 up
	ip -n outside link set lo up
	ip -n outside addr add 192.0.2.1/24 dev eth0
	ip -n outside addr add 2001:db8::1/64 dev eth0 nodad
	ip -n outside link set eth0 up
	ip route add default via 192.0.2.1
	ip -6 route add default via 2001:db8::1
	# The kernel makes the link's own address usable a moment later.
	tries=100
	while ip -6 addr show dev eth0 | grep -q tentative && [ "$tries" -gt 0 ]; do
		tries=$((tries - 1))
		sleep 0.1
	done
else
	ip link set lo up
fi
