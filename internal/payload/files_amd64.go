// SPDX-License-Identifier: Apache-2.0

package payload

import "embed"

//go:embed all:files/amd64
var files embed.FS
