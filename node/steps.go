// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress is one thing that has happened while a node starts or stops. It
// is encoded as JSON between a process in the background and the one that
// the user sees.
type Progress struct {
	// Step is what was done.
	Step string `json:"step,omitempty"`
	// Took is how long that lasted.
	Took time.Duration `json:"took,omitempty"`
	// Note is text for the user that is no step.
	Note string `json:"note,omitempty"`
	// Error ends the start.
	Error string `json:"error,omitempty"`
	// Ready tells that the node serves; it is the last message.
	Ready bool `json:"ready,omitempty"`
}

// Steps shows progress. It is safe for concurrent use.
type Steps struct {
	mu   sync.Mutex
	show func(Progress)
}

// NewSteps returns Steps that call show, one call at a time.
func NewSteps(show func(Progress)) *Steps { return &Steps{show: show} }

// Show passes on a message.
func (s *Steps) Show(p Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.show(p)
}

// Do runs fn and shows the step when it has succeeded.
func (s *Steps) Do(step string, fn func() error) error {
	begin := time.Now()
	if err := fn(); err != nil {
		return err
	}
	s.Show(Progress{Step: step, Took: time.Since(begin)})
	return nil
}

// Note shows a line of text.
func (s *Steps) Note(format string, args ...any) {
	s.Show(Progress{Note: fmt.Sprintf(format, args...)})
}

// PrintTo returns a function that prints progress for a person.
func PrintTo(w io.Writer) func(Progress) {
	return func(p Progress) {
		switch {
		case p.Step != "":
			fmt.Fprintf(w, "  ok  %-52s %6.2fs\n", p.Step, p.Took.Seconds())
		case p.Note != "":
			fmt.Fprintln(w, p.Note)
		}
	}
}

// EncodeTo returns a function that writes progress for another process.
func EncodeTo(w io.Writer) func(Progress) {
	enc := json.NewEncoder(w)
	return func(p Progress) {
		// The reader may have gone away; the start goes on without it.
		_ = enc.Encode(p)
	}
}
