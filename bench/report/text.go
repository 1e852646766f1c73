// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Print writes the rows as a table for a terminal.
func Print(w io.Writer, rows []Row) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "METRIC\tUNIT\tSLIPWAY\tPEER\t\tRATIO\tGOAL\tMET")
	for _, r := range rows {
		fmt.Fprintln(table, strings.Join([]string{
			r.Metric, r.Unit, number(r.Ours), peer(r), r.PeerName, ratio(r), dash(r.Goal), met(r),
		}, "\t"))
	}
	return table.Flush()
}

// Markdown is the part of a page that the results give: what they were
// measured on, a table for each peer, and where Slipway loses.
func Markdown(about About, rows []Row) string {
	var out strings.Builder
	out.WriteString(about.paragraph())
	for _, name := range peers(rows) {
		out.WriteString(table(name, rows))
	}
	out.WriteString(losses(rows))
	return out.String()
}

func (a About) paragraph() string {
	versions := make([]string, len(a.Versions))
	for i, v := range a.Versions {
		versions[i] = v.Name + " " + v.Version
	}
	text := fmt.Sprintf("Measured %s on %s, %s, %s, built with %s: %s. Medians of %d rounds, in brackets the least and the greatest value.\n",
		a.Date, a.Machine, a.Kernel, a.System, a.Go, strings.Join(versions, ", "), a.Rounds)
	if a.Note != "" {
		text = "**" + a.Note + "**\n\n" + text
	}
	return text
}

// peers lists the names of the peers in the order of the rows.
func peers(rows []Row) []string {
	var names []string
	for _, r := range rows {
		if !slices.Contains(names, r.PeerName) {
			names = append(names, r.PeerName)
		}
	}
	return names
}

func table(peerName string, rows []Row) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n| metric | unit | Slipway | %s | ratio | goal | met |\n|---|---|---|---|---|---|---|\n", dash(peerName))
	for _, r := range rows {
		if r.PeerName != peerName {
			continue
		}
		cells := []string{r.Metric, r.Unit, spread(number(r.Ours), r.OursRuns), spread(peer(r), r.PeerRuns), ratio(r), dash(r.Goal), met(r)}
		fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | "))
	}
	return out.String()
}

// losses names the rows in which the peer is better.
func losses(rows []Row) string {
	var lost []string
	for _, r := range rows {
		if r.Loses() {
			lost = append(lost, fmt.Sprintf("%s (%s against %s %s)", r.Metric, number(r.Ours), peer(r), r.Unit))
		}
	}
	if len(lost) == 0 {
		return ""
	}
	return "\nSlipway loses in: " + strings.Join(lost, "; ") + ".\n"
}

func spread(middle string, runs []float64) string {
	if len(runs) < 2 {
		return middle
	}
	return fmt.Sprintf("%s (%s–%s)", middle, number(slices.Min(runs)), number(slices.Max(runs)))
}

func peer(r Row) string {
	if r.Peer == nil {
		return "–"
	}
	return number(*r.Peer)
}

func ratio(r Row) string {
	if r.Ratio == nil {
		return "–"
	}
	return fmt.Sprintf("%.2f", *r.Ratio)
}

func met(r Row) string {
	switch {
	case r.Met == nil:
		return "–"
	case *r.Met:
		return "yes"
	default:
		return "**no**"
	}
}

func dash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// number shows three significant digits, and no exponent.
func number(value float64) string {
	if value == 0 || math.IsNaN(value) || math.IsInf(value, 0) {
		return strconv.FormatFloat(value, 'g', 3, 64)
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(value))))
	if digits <= 0 {
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	text := strconv.FormatFloat(value, 'f', digits, 64)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}
