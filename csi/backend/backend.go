// SPDX-License-Identifier: Apache-2.0

// Package backend is the boundary between the CSI services and what really
// stores volumes. It owns the words both sides use: volume ids and handles,
// what a volume is, which errors mean what. It stores nothing itself.
//
// Every method of a Backend is idempotent and safe to call again after a
// crash at any point. Callers serialise calls for one volume; a Backend only
// has to protect what volumes share.
package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors a Backend returns; the services translate them into gRPC codes.
var (
	// ErrNotFound: there is no volume with this id.
	ErrNotFound = errors.New("volume not found")
	// ErrExists: there is a volume with this name, and it is not what was asked for.
	ErrExists = errors.New("volume exists with other properties")
	// ErrInUse: the volume is attached and cannot be deleted.
	ErrInUse = errors.New("volume in use")
	// ErrNoSpace: the pool cannot hold the volume; see NoSpaceError for numbers.
	ErrNoSpace = errors.New("not enough space")
	// ErrSize: no size the backend can make is inside the limits asked for.
	ErrSize = errors.New("size out of range")
	// ErrUnsupported: the backend cannot do what was asked for on this node.
	ErrUnsupported = errors.New("not supported")
)

// NoSpaceError says how much was needed and how much there was, in bytes.
// It is an ErrNoSpace.
type NoSpaceError struct {
	Pool      string
	Needed    int64
	Available int64
}

func (e *NoSpaceError) Error() string {
	return fmt.Sprintf("not enough space in %s: %d bytes needed, %d bytes available", e.Pool, e.Needed, e.Available)
}

// Is makes errors.Is(err, ErrNoSpace) true.
func (e *NoSpaceError) Is(target error) bool { return target == ErrNoSpace }

// Spec is what a volume shall be.
type Spec struct {
	ID ID
	// Name is the name the volume was asked for with; ID derives from it.
	Name string
	// Bytes is the size of the block device. The backend may round it up to
	// what it can allocate; LimitBytes, when not 0, is where that ends.
	Bytes      int64
	LimitBytes int64
	FSType     string
}

// Volume is what a volume is.
type Volume struct {
	ID      ID
	Name    string
	Bytes   int64
	FSType  string
	Created time.Time
}

// Satisfies says whether the volume is what the spec asks for.
func (v Volume) Satisfies(s Spec) bool {
	return v.ID == s.ID && v.Name == s.Name && v.FSType == s.FSType &&
		v.Bytes >= s.Bytes && (s.LimitBytes == 0 || v.Bytes <= s.LimitBytes)
}

// Capacity of a pool in bytes. Available is what a new volume can still get:
// free space less the reserve of the node. Allocated is the sum of the
// volumes, of which there are so many.
type Capacity struct {
	Total     int64
	Available int64
	Allocated int64
	Volumes   int64
}

// Capabilities are what the backend really can do on this node, now.
type Capabilities struct {
	// FSTypes are the file systems it can make.
	FSTypes []string
}

// Device is a block device that holds a volume. It stays attached until
// Close and, after that, for as long as it is mounted.
type Device struct {
	io.Closer
	// Path of the device node.
	Path string
	// Number is major and minor as in unix.Mkdev.
	Number uint64
	// Fresh is true when nobody had the volume attached before, so nobody
	// has it mounted.
	Fresh bool
}

// Pool makes, finds and removes volumes.
type Pool interface {
	Create(ctx context.Context, spec Spec) (Volume, error)
	Delete(ctx context.Context, id ID) error
	Get(id ID) (Volume, error)
	List() ([]Volume, error)
	Capacity() (Capacity, error)
	Capabilities() Capabilities
}

// Attacher makes a volume a block device of this node.
type Attacher interface {
	// Attach returns the device that has the volume, the same one when
	// there is one already: a volume never has two.
	Attach(ctx context.Context, id ID) (Device, error)
	// Attached returns the numbers of the devices that have the volume.
	// It also works for a volume that is gone.
	Attached(id ID) ([]uint64, error)
}

// Backend stores volumes and makes them devices.
type Backend interface {
	Pool
	Attacher
	// Recover removes what a crash left half made or half deleted. It is
	// called once, before any other method.
	Recover(ctx context.Context) error
	// Maintain restores what the backend promises about its volumes, such
	// as reserved space. It is called from time to time.
	Maintain(ctx context.Context) error
}
