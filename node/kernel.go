// SPDX-License-Identifier: Apache-2.0

package node

// checkKernel probes the kernel for the BPF features of the data path.
func checkKernel() []Check {
	return nil
}
