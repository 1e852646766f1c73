// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

const results = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite name="Kubernetes e2e suite">
<testcase name="[ReportBeforeSuite]" status="passed" time="0.1"></testcase>
<testcase name="[It] [sig-apps] Job should run [Conformance]" status="passed" time="3.5"></testcase>
<testcase name="[It] [sig-apps] Job left out" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] [sig-network] DNS should a|b" status="failed" time="9"><failure message="first line&#xA;second" type="failed">more</failure></testcase>
<testcase name="[It] [sig-network] Proxy" status="timedout" time="9"><error message="" type="timedout">
 it took too long</error></testcase>
</testsuite></testsuites>`

func TestReport(t *testing.T) {
	specs, err := parse([]byte(results))
	if err != nil {
		t.Fatal(err)
	}
	page := render(specs, map[string]string{"DNS should": "no reason"}, "Here.")
	for _, line := range []string{
		"| sig-apps | 1 | 0 |", "| sig-network | 0 | 2 |", "33.3 % of 3 have passed.",
		`| [sig-network] DNS should a\|b | first line | no reason |`,
		"| [sig-network] Proxy | it took too long | not known yet |",
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("%q is missing in:\n%s", line, page)
		}
	}
	if strings.Contains(page, "left out") || strings.Contains(page, "ReportBeforeSuite") {
		t.Errorf("there is more than what has run:\n%s", page)
	}
}
