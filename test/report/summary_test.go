// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSummary(t *testing.T) {
	for _, test := range []struct {
		name   string
		events string
		err    error
		want   string
	}{
		{
			name: "passed, and subtests counted in their parent's stead",
			events: `{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"pass","Package":"a","Test":"TestOne"}
{"Action":"run","Package":"a","Test":"TestTwo"}
{"Action":"run","Package":"a","Test":"TestTwo/x"}
{"Action":"run","Package":"a","Test":"TestTwo/y"}
{"Action":"pass","Package":"a","Test":"TestTwo/x"}
{"Action":"pass","Package":"a","Test":"TestTwo/y","Elapsed":6}
{"Action":"pass","Package":"a","Test":"TestTwo"}
{"Action":"pass","Package":"a","Elapsed":6.5}`,
			want: `ok    a TestTwo/y (6.0 s)
ok    a: 3 passed, 0 failed, 0 skipped (6.5 s)

root tests: 0 ran, 0 skipped
3 passed, 0 failed, 0 skipped
`,
		},
		{
			name: "a subtest failed",
			events: `{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"=== RUN   TestOne\n"}
{"Action":"run","Package":"a","Test":"TestOne/x"}
{"Action":"output","Package":"a","Test":"TestOne/x","Output":"    a_test.go:3: wrong\n"}
{"Action":"fail","Package":"a","Test":"TestOne/x"}
{"Action":"fail","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Output":"FAIL\n"}
{"Action":"fail","Package":"a"}`,
			err: errors.New("exit status 1"),
			want: `FAIL  a TestOne/x
          a_test.go:3: wrong
FAIL  a: 0 passed, 1 failed, 0 skipped (0.0 s)

failed:
      a TestOne/x

root tests: 0 ran, 0 skipped
0 passed, 1 failed, 0 skipped
`,
		},
		{
			name: "several runs",
			events: `{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"run","Package":"a","Test":"TestOne/x"}
{"Action":"fail","Package":"a","Test":"TestOne/x"}
{"Action":"fail","Package":"a","Test":"TestOne"}
{"Action":"run","Package":"a","Test":"TestTwo"}
{"Action":"skip","Package":"a","Test":"TestTwo"}
{"Action":"fail","Package":"a"}
{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"run","Package":"a","Test":"TestOne/x"}
{"Action":"fail","Package":"a","Test":"TestOne/x"}
{"Action":"fail","Package":"a","Test":"TestOne"}
{"Action":"run","Package":"a","Test":"TestTwo"}
{"Action":"skip","Package":"a","Test":"TestTwo"}
{"Action":"fail","Package":"a"}`,
			err: errors.New("exit status 1"),
			want: `FAIL  a TestOne/x
skip  a TestTwo: no reason given
FAIL  a: 0 passed, 1 failed, 1 skipped (0.0 s)
FAIL  a TestOne/x
FAIL  a: 0 passed, 1 failed, 1 skipped (0.0 s)

failed:
      a TestOne/x, 2 times

root tests: 0 ran, 0 skipped
0 passed, 2 failed, 2 skipped
`,
		},
		{
			name: "root tests",
			events: `{"Action":"run","Package":"a","Test":"TestRootOne"}
{"Action":"pass","Package":"a","Test":"TestRootOne"}
{"Action":"run","Package":"a","Test":"TestRootTwo"}
{"Action":"output","Package":"a","Test":"TestRootTwo","Output":"    a_test.go:3: needs root\n"}
{"Action":"skip","Package":"a","Test":"TestRootTwo"}
{"Action":"pass","Package":"a"}
{"Action":"run","Package":"x/test/e2e","Test":"TestUp"}
{"Action":"pass","Package":"x/test/e2e","Test":"TestUp"}
{"Action":"pass","Package":"x/test/e2e"}`,
			want: `skip  a TestRootTwo: needs root
ok    a: 1 passed, 0 failed, 1 skipped (0.0 s)
ok    x/test/e2e: 1 passed, 0 failed, 0 skipped (0.0 s)

root tests: 2 ran, 1 skipped
2 passed, 0 failed, 1 skipped
`,
		},
		{
			name: "a package that does not build",
			events: `{"ImportPath":"a [a.test]","Action":"build-output","Output":"# a\n"}
{"ImportPath":"a [a.test]","Action":"build-output","Output":"a.go:1: no\n"}
{"ImportPath":"a [a.test]","Action":"build-fail"}
{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Output":"FAIL\ta [build failed]\n"}
{"Action":"fail","Package":"a","FailedBuild":"a [a.test]"}`,
			err: errors.New("exit status 1"),
			want: `FAIL  a
      # a
      a.go:1: no
      FAIL	a [build failed]
FAIL  a: 0 passed, 1 failed, 0 skipped (0.0 s)

failed:
      a

root tests: 0 ran, 0 skipped
0 passed, 1 failed, 0 skipped
`,
		},
		{
			name: "a package without tests",
			events: `{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Output":"?   \ta\t[no test files]\n"}
{"Action":"skip","Package":"a"}`,
			want: `
root tests: 0 ran, 0 skipped
0 passed, 0 failed, 0 skipped
`,
		},
		{
			name:   "a package that never ended",
			events: `{"Action":"run","Package":"a","Test":"TestOne"}`,
			err:    errors.New("signal: killed"),
			want: `FAIL  a did not end

failed:
      a did not end

root tests: 0 ran, 0 skipped
0 passed, 1 failed, 0 skipped
`,
		},
		{
			name:   "go test could not run",
			events: `go: no such package`,
			err:    errors.New("exit status 1"),
			want: `go: no such package
FAIL  go test: exit status 1

failed:
      go test: exit status 1

root tests: 0 ran, 0 skipped
0 passed, 1 failed, 0 skipped
`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			seen := newSummary(&out)
			for line := range strings.SplitSeq(test.events, "\n") {
				seen.line([]byte(line + "\n"))
			}
			seen.ended(test.err)
			seen.close()
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}
