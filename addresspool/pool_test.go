// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

func TestParseRange(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.10-192.0.2.20":  "192.0.2.10-192.0.2.20",
		"192.0.2.10 - 192.0.2.9": `"192.0.2.10 - 192.0.2.9": ends before it begins`,
		"192.0.2.0/28":           "192.0.2.0-192.0.2.15",
		"192.0.2.1/28":           `"192.0.2.1/28": has bits of a host, expected 192.0.2.0/28`,
		"192.0.2.7":              "192.0.2.7-192.0.2.7",
		"2001:db8::/126":         "2001:db8::-2001:db8::3",
		"2001:db8::1-192.0.2.1":  "expected a range like",
		"fe80::1%eth0":           "expected a range like",
		"::ffff:192.0.2.1":       "expected a range like",
		"":                       "expected a range like",
		"all":                    "expected a range like",
	} {
		r, err := ParseRange(text)
		switch {
		case err != nil && !strings.Contains(err.Error(), want):
			t.Errorf("%q: error %v, expected %s", text, err, want)
		case err == nil && r.String() != want:
			t.Errorf("%q is %s, expected %s", text, r, want)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"192.0.2.0/28", "192.0.2.10-192.0.2.20", "2001:db8::7", "::/0", "0.0.0.0/0", "-", "1.2.3.4-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRange(text)
		if err != nil {
			return
		}
		if !r.Contains(r.First) || !r.Contains(r.Last) || r.First.Is4() != r.Last.Is4() {
			t.Errorf("%q is %v", text, r)
		}
		again, err := ParseRange(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %v, and that is %v, %v", text, r, again, err)
		}
	})
}

func TestReadPool(t *testing.T) {
	pool, err := Read(&unstructured.Unstructured{Object: object{
		"metadata": object{"name": "lan"},
		"spec": object{
			"addresses": []any{"192.0.2.0/30", "nonsense"}, "autoAssign": false,
			"serviceSelector": object{"matchLabels": object{"zone": "a"}},
		},
	}})
	if err == nil || !strings.Contains(err.Error(), `spec.addresses[1] "nonsense"`) {
		t.Errorf("error %v", err)
	}
	if pool.Name != "lan" || len(pool.Ranges) != 1 || pool.AutoAssign || pool.Selector.Matches(labels.Set{}) || !pool.Selector.Matches(labels.Set{"zone": "a"}) {
		t.Errorf("pool %+v", pool)
	}
}

// The definition must not have fields that the API server prunes or refuses
// when it is applied: it is read back as what users write.
func TestDefinition(t *testing.T) {
	d := Definition()
	if d.GetName() != "addresspools.slipway.dev" {
		t.Errorf("name %s", d.GetName())
	}
	if _, ok, err := unstructured.NestedSlice(d.Object, "spec", "versions"); !ok || err != nil {
		t.Errorf("versions: %v, %v", ok, err)
	}
	// Deep copies panic on types that JSON does not have.
	_ = d.DeepCopy()
}

func mustRange(text string) Range {
	r, err := ParseRange(text)
	if err != nil {
		panic(err)
	}
	return r
}

func pool(name string, ranges ...string) Pool {
	p := Pool{Name: name, AutoAssign: true, Selector: labels.Everything()}
	for _, r := range ranges {
		p.Ranges = append(p.Ranges, mustRange(r))
	}
	return p
}
