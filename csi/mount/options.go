// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ErrOption: a mount option cannot be used.
var ErrOption = errors.New("mount option not allowed")

// entry turns a line of the mount table into an Entry.
func entry(info *mountinfo.Info) Entry {
	return Entry{
		Path:     info.Mountpoint,
		Device:   unix.Mkdev(uint32(info.Major), uint32(info.Minor)),
		Root:     info.Root,
		FSType:   info.FSType,
		ReadOnly: has(info.Options, "ro"),
	}
}

func has(options, want string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if option == want {
			return true
		}
	}
	return false
}

// CheckOptions says whether Mount would understand the options.
func CheckOptions(options []string) error {
	_, _, err := parse(options)
	return err
}

// parse splits mount(8) options into flags and the data string for the file
// system. Options that would mount something else than the device, or undo
// the reservation of space, are refused.
func parse(options []string) (uintptr, string, error) {
	var flags uintptr
	var data []string
	for _, list := range options {
		for option := range strings.SplitSeq(list, ",") {
			switch set, clear, known := flagOf(option); {
			case option == "" || option == "defaults" || option == "rw":
			case option == "bind" || option == "rbind" || option == "remount" || option == "move" || option == "discard":
				return 0, "", fmt.Errorf("option %q: %w", option, ErrOption)
			case strings.ContainsRune(option, 0):
				return 0, "", fmt.Errorf("option %q: %w", option, ErrOption)
			case known:
				flags = flags&^clear | set
			default:
				data = append(data, option)
			}
		}
	}
	joined := strings.Join(data, ",")
	if len(joined) >= unix.Getpagesize() {
		return 0, "", fmt.Errorf("options of %d bytes: %w", len(joined), ErrOption)
	}
	return flags, joined, nil
}

// flagOf returns which flags an option sets and clears.
func flagOf(option string) (set, clear uintptr, known bool) {
	switch option {
	case "ro":
		return unix.MS_RDONLY, 0, true
	case "nosuid":
		return unix.MS_NOSUID, 0, true
	case "suid":
		return 0, unix.MS_NOSUID, true
	case "nodev":
		return unix.MS_NODEV, 0, true
	case "dev":
		return 0, unix.MS_NODEV, true
	case "noexec":
		return unix.MS_NOEXEC, 0, true
	case "exec":
		return 0, unix.MS_NOEXEC, true
	case "sync":
		return unix.MS_SYNCHRONOUS, 0, true
	case "async":
		return 0, unix.MS_SYNCHRONOUS, true
	case "dirsync":
		return unix.MS_DIRSYNC, 0, true
	case "noatime":
		return unix.MS_NOATIME, 0, true
	case "atime":
		return 0, unix.MS_NOATIME, true
	case "nodiratime":
		return unix.MS_NODIRATIME, 0, true
	case "diratime":
		return 0, unix.MS_NODIRATIME, true
	case "relatime":
		return unix.MS_RELATIME, 0, true
	case "strictatime":
		return unix.MS_STRICTATIME, 0, true
	case "lazytime":
		return unix.MS_LAZYTIME, 0, true
	}
	return 0, 0, false
}
