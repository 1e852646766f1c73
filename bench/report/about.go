// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// About is what rows were measured on.
type About struct {
	// Date is the day, YYYY-MM-DD.
	Date    string `json:"date"`
	Kernel  string `json:"kernel"`
	System  string `json:"system"`
	Machine string `json:"machine"`
	Go      string `json:"go"`
	// Versions are those of ours and of the peers, in the order of the page.
	Versions []Version `json:"versions"`
	// Rounds is how often each side was measured.
	Rounds int `json:"rounds"`
	// Note is what a reader must know about this run, empty mostly.
	Note string `json:"note,omitempty"`
}

// Version is that of one program.
type Version struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Here describes this machine, now.
func Here() About {
	return About{
		Date: time.Now().UTC().Format(time.DateOnly), Kernel: kernel(), System: system(),
		Machine: machine(), Go: runtime.Version(),
	}
}

func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown kernel"
	}
	return "Linux " + unix.ByteSliceToString(name.Release[:])
}

func system() string {
	data, _ := os.ReadFile("/etc/os-release")
	return strings.Trim(field(data, "PRETTY_NAME", "="), `"`)
}

func machine() string {
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	memory, _ := os.ReadFile("/proc/meminfo")
	var kilobytes float64
	fmt.Sscan(field(memory, "MemTotal", ":"), &kilobytes)
	return fmt.Sprintf("%d cores (%s), %.0f GB", runtime.NumCPU(), field(cpu, "model name", ":"), kilobytes*1024/1e9)
}

// field finds the first line "name <separator> value".
func field(data []byte, name, separator string) string {
	for line := range bytes.Lines(data) {
		key, value, found := strings.Cut(string(line), separator)
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
