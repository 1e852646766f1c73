// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/netip"
	"slices"

	"slipway.dev/slipway/bpf"
)

// sourceSets gives each list of source ranges that is in use a set in the data
// path. It is not safe for concurrent use.
type sourceSets struct {
	datapath Datapath
	ids      map[string]uint32
	used     map[uint32]*sourceSet
}

type sourceSet struct {
	ranges []netip.Prefix
	count  int
}

// newSourceSets adopts the sets that the data path has. They are not in use
// yet.
func newSourceSets(datapath Datapath) (*sourceSets, error) {
	known, err := datapath.Sources()
	if err != nil {
		return nil, err
	}
	s := &sourceSets{datapath: datapath, ids: map[string]uint32{}, used: map[uint32]*sourceSet{}}
	delete(known, bpf.ServiceRanges) // Not of frontends.
	for id, ranges := range known {
		s.used[id] = &sourceSet{ranges: ranges}
	}
	return s, nil
}

// use returns the id of the set with these ranges, and counts one use. It is 0
// for nil.
func (s *sourceSets) use(ranges []netip.Prefix) (uint32, error) {
	if ranges == nil {
		return 0, nil
	}
	key := fmt.Sprint(ranges)
	if id := s.ids[key]; id != 0 {
		s.used[id].count++
		return id, nil
	}
	id := uint32(1)
	for s.used[id] != nil {
		id++
	}
	s.used[id] = &sourceSet{ranges: ranges}
	if err := s.datapath.SetSources(id, ranges); err != nil {
		// Some of it may be there: sweep deletes it.
		return 0, fmt.Errorf("source ranges: %w", err)
	}
	s.used[id].count, s.ids[key] = 1, id
	return id, nil
}

// adopt counts one use of a set that the data path has. A set that is not known is
// empty.
func (s *sourceSets) adopt(id uint32) {
	if id == 0 {
		return
	}
	if s.used[id] == nil {
		s.used[id] = &sourceSet{ranges: []netip.Prefix{}}
	}
	u := s.used[id]
	u.count++
	slices.SortFunc(u.ranges, comparePrefixes)
	s.ids[fmt.Sprint(u.ranges)] = id
}

// has tells whether a set that is in use has these ranges, in order; 0 is nil.
func (s *sourceSets) has(id uint32, ranges []netip.Prefix) bool {
	if id == 0 {
		return ranges == nil
	}
	return ranges != nil && slices.Equal(s.used[id].ranges, ranges)
}

// release gives back one use. The set goes with its last one; when it cannot be
// deleted, its id is not given to another.
func (s *sourceSets) release(id uint32) {
	u := s.used[id]
	if u == nil {
		return
	}
	if u.count--; u.count > 0 {
		return
	}
	for key, known := range s.ids {
		if known == id {
			delete(s.ids, key)
		}
	}
	if s.datapath.DeleteSources(id, u.ranges) == nil {
		delete(s.used, id)
	}
}

// sweep deletes the sets that were adopted and that no frontend uses.
func (s *sourceSets) sweep() {
	for id, u := range s.used {
		if u.count == 0 && s.datapath.DeleteSources(id, u.ranges) == nil {
			delete(s.used, id)
		}
	}
}

// entries is how many ranges all sets have.
func (s *sourceSets) entries() int {
	n := 0
	for _, u := range s.used {
		n += len(u.ranges)
	}
	return n
}
