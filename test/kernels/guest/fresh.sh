# SPDX-License-Identifier: Apache-2.0
#
# Makes a host on which somebody has installed Go and cloned the repository.
share=trans=virtio,version=9p2000.L,msize=262144,ro,cache=loose
mkdir -p "$GOROOT" /lab/mirror /lab/clone /lab/gomod /lab/gocache /var/tmp/cache /var/tmp/work "$GOCACHE" "$(dirname "$CLONE")"
mount -t 9p -o $share goroot "$GOROOT"
for tag in mirror clone gomod gocache; do
	mount -t 9p -o $share $tag /lab/$tag
done
modprobe overlay
mount -t overlay -o lowerdir=/lab/gocache,upperdir=/var/tmp/cache,workdir=/var/tmp/work overlay "$GOCACHE"
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d
echo 'deb [trusted=yes] file:/lab/mirror ./' >/etc/apt/sources.list
export GOPROXY=file:///lab/gomod GOTOOLCHAIN=local GOFLAGS= PATH="$GOROOT/bin:$PATH"
git clone -q /lab/clone/bundle "$CLONE"
