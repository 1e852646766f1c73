// SPDX-License-Identifier: Apache-2.0

package bpf

// Headers of the C library are looked up for the architecture of the build
// machine; only types and constants that are the same everywhere are used.
//
//go:generate sh -c "go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cflags \"-O2 -g -Wall -Werror -I/usr/include/$(gcc -dumpmachine)\" sock sock.c"
//go:generate sh -c "go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cflags \"-O2 -g -Wall -Werror -I/usr/include/$(gcc -dumpmachine)\" pod pod.c"
//go:generate sh -c "go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cflags \"-O2 -g -Wall -Werror -I/usr/include/$(gcc -dumpmachine)\" -type frontend_key -type frontend -type backend uplink uplink.c"
//go:generate sh -c "go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cflags \"-O2 -g -Wall -Werror -I/usr/include/$(gcc -dumpmachine)\" wire wire.c"
//go:generate sh -c "go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cflags \"-O2 -g -Wall -Werror -I/usr/include/$(gcc -dumpmachine)\" stale stale.c"
//go:generate sh -c "go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cflags \"-O2 -g -Wall -Werror -I/usr/include/$(gcc -dumpmachine)\" -type table_counts count count.c"
//go:generate sh -c "go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cflags \"-O2 -g -Wall -Werror -I/usr/include/$(gcc -dumpmachine)\" probe probe.c"
