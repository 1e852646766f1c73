// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"strings"

	"slipway.dev/slipway/bench/report"
)

// The size of the plot and of its margins, in pixels.
const (
	plotWidth, plotHeight                    = 720, 400
	plotLeft, plotRight, plotTop, plotBottom = 70, 175, 50, 50
)

// line is one side in the plot; its colour is legible on white and on black.
type line struct{ side, color string }

var lines = []line{{direct, "#8a8a8a"}, {ours, "#2f81f7"}, {nftables, "#d9822b"}, {iptables, "#c0527a"}}

// plot draws short connections over the number of Services.
func (r results) plot() string {
	shown := metrics[1]
	top := 0.0
	for _, s := range r.Sizes {
		for _, l := range lines {
			top = max(top, shown.median(s, l.side))
		}
	}
	a := axes{sizes: r.Sizes, top: roundUp(top)}
	var out strings.Builder
	fmt.Fprintf(&out, plotHead, plotWidth, plotHeight, plotLeft, "Connections a second through a ClusterIP, "+strings.TrimPrefix(shown.name, "short connections, "))
	a.draw(&out)
	var labels []float64
	for _, l := range lines {
		var points []string
		var x, y float64
		for _, s := range r.Sizes {
			if value := shown.median(s, l.side); value > 0 {
				x, y = a.x(s.Services), a.y(value)
				points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
				fmt.Fprintf(&out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", x, y, l.color)
			}
		}
		if len(points) == 0 {
			continue
		}
		fmt.Fprintf(&out, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", strings.Join(points, " "), l.color)
		labels = append(labels, apart(y, labels))
		fmt.Fprintf(&out, "<text x=\"%d\" y=\"%.1f\" fill=\"%s\">%s</text>\n", plotWidth-plotRight+14, labels[len(labels)-1]+4, l.color, l.side)
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// median is 0 for what was not measured.
func (m metric) median(s sizeResult, side string) float64 {
	if values := m.of(s, side); len(values) > 0 {
		return report.Median(values)
	}
	return 0
}

const plotHead = `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">
<style>
.ink { fill: #1f2328 } line { stroke: #1f2328; stroke-opacity: .2 }
@media (prefers-color-scheme: dark) { .ink { fill: #e6edf3 } line { stroke: #e6edf3 } }
</style>
<text class="ink" x="%d" y="26" font-size="15">%s</text>
`

// axes place values in the plot: Services on a logarithmic scale, connections
// from zero.
type axes struct {
	sizes []sizeResult
	top   float64
}

func (a axes) x(services int) float64 {
	least, most := float64(a.sizes[0].Services), float64(a.sizes[len(a.sizes)-1].Services)
	if least == most {
		return plotLeft
	}
	return plotLeft + math.Log(float64(services)/least)/math.Log(most/least)*(plotWidth-plotLeft-plotRight)
}

func (a axes) y(value float64) float64 {
	return plotHeight - plotBottom - value/a.top*(plotHeight-plotTop-plotBottom)
}

func (a axes) draw(out *strings.Builder) {
	const parts = 5
	for i := range parts + 1 {
		value := a.top * float64(i) / parts
		fmt.Fprintf(out, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n", plotLeft, plotWidth-plotRight, a.y(value), a.y(value))
		fmt.Fprintf(out, "<text class=\"ink\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.0f</text>\n", plotLeft-10, a.y(value)+4, value)
	}
	for _, s := range a.sizes {
		number, _, _ := strings.Cut(services(s.Services), " ")
		fmt.Fprintf(out, "<text class=\"ink\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", a.x(s.Services), plotHeight-plotBottom+22, number)
	}
	fmt.Fprintf(out, "<text class=\"ink\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">Services</text>\n", plotLeft+(plotWidth-plotLeft-plotRight)/2, plotHeight-8)
}

// roundUp returns the next value of which a fifth is easy to read.
func roundUp(value float64) float64 {
	step := math.Pow(10, math.Floor(math.Log10(max(value, 1))))
	for _, n := range []float64{1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10} {
		if value <= n*step {
			return n * step
		}
	}
	return value
}

// apart moves a label down until it is on none of the others.
func apart(y float64, taken []float64) float64 {
	const height = 17
	for _, other := range taken {
		if math.Abs(y-other) < height {
			return apart(other+height, taken)
		}
	}
	return y
}
