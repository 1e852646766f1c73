// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	exampleAbout = About{
		Date: "2026-01-02", Kernel: "Linux 6.6", System: "Debian", Machine: "2 cores (x), 8 GB", Go: "go1.26",
		Versions: []Version{{"Slipway", "v1"}, {"them", "v2"}}, Rounds: 3,
	}
	exampleRows = []Row{
		Series{Metric: "start", Unit: "s", Better: Less, PeerName: "them", Ours: []float64{2, 1, 3}, Peer: []float64{4, 4, 5}, Goals: []Goal{AtMost(2)}}.Row(),
		Series{Metric: "rate", Unit: "1/s", Better: More, PeerName: "others", Ours: []float64{1234}, Peer: []float64{2468.2}, Goals: []Goal{AtLeast(2000)}}.Row(),
		Series{Metric: "size", Unit: "MB", Better: Less, PeerName: "them", Ours: []float64{7}}.Row(),
	}
)

const exampleMarkdown = `Measured 2026-01-02 on 2 cores (x), 8 GB, Linux 6.6, Debian, built with go1.26: Slipway v1, them v2. Medians of 3 rounds, in brackets the least and the greatest value.

| metric | unit | Slipway | them | ratio | goal | met |
|---|---|---|---|---|---|---|
| start | s | 2 (1–3) | 4 (4–5) | 0.50 | ≤ 2 | yes |
| size | MB | 7 | – | – | – | – |

| metric | unit | Slipway | others | ratio | goal | met |
|---|---|---|---|---|---|---|
| rate | 1/s | 1234 | 2468 | 0.50 | ≥ 2000 | **no** |

Slipway loses in: rate (1234 against 2468 1/s).
`

func TestMarkdown(t *testing.T) {
	if diff := cmp.Diff(exampleMarkdown, Markdown(exampleAbout, exampleRows)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMarkdownNote(t *testing.T) {
	about := exampleAbout
	about.Note = "The machine had other load."
	if got := Markdown(about, exampleRows); !strings.HasPrefix(got, "**The machine had other load.**\n\nMeasured ") {
		t.Errorf("the note is not first:\n%s", got)
	}
}

func TestPage(t *testing.T) {
	got, err := Page("# Title\n\n<!-- results -->\n\nEnd.\n", exampleAbout, exampleRows)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("# Title\n\n"+exampleMarkdown+"\nEnd.\n", got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := Page("# Title\n", exampleAbout, exampleRows); err == nil {
		t.Error("a text without a place for results is taken")
	}
}

func TestPrint(t *testing.T) {
	var out strings.Builder
	if err := Print(&out, exampleRows[:1]); err != nil {
		t.Fatal(err)
	}
	const want = "METRIC  UNIT  SLIPWAY  PEER        RATIO  GOAL  MET\nstart   s     2        4     them  0.50   ≤ 2   yes\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0", 1: "1", 1.5: "1.5", 0.0204: "0.0204", 0.02: "0.02", 12.345: "12.3", 99.96: "100", 250: "250", 12345.6: "12346", -0.123456: "-0.123",
	} {
		if got := number(value); got != want {
			t.Errorf("number(%v) = %q, want %q", value, got, want)
		}
	}
}
