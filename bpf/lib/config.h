/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

/* What the running kernel has. The loader finds out by the programs of probe.c and
 * sets these before the verifier sees a program, which then skips the branches that
 * cannot be taken: a call in one of them need not exist in this kernel. Each object
 * uses some of them only.
 */
#define KERNEL_HAS const volatile bool __attribute__((unused))

KERNEL_HAS has_ct_lookup; /* bpf_skb_ct_lookup: 5.18, with connection tracking */
KERNEL_HAS has_kern_ctx; /* bpf_cast_to_kern_ctx: 6.2 */
KERNEL_HAS has_loop; /* bpf_loop: 5.17 */
KERNEL_HAS has_mptcp_sock; /* bpf_skc_to_mptcp_sock: 5.19 */
KERNEL_HAS has_set_retval; /* bpf_set_retval: 5.18 */
