// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"sync/atomic"
)

// maxFile is how many bytes a file may have.
const maxFile = 1 << 20

// fileName is what a file may be called.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Parse(pageSource))

type application struct {
	pod  string
	data *os.Root
	// served counts pages and writes.
	served atomic.Uint64
	// ending makes the readiness probe fail while requests are still served.
	ending atomic.Bool
	log    *slog.Logger
}

func (a *application) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.showPage)
	mux.HandleFunc("GET /whoami", a.whoami)
	mux.HandleFunc("GET /healthz", a.healthy)
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("GET /files/{name}", a.readFile)
	mux.HandleFunc("PUT /files/{name}", a.writeFile)
	mux.HandleFunc("POST /write", a.writeNote)
	return mux
}

func (a *application) showPage(w http.ResponseWriter, _ *http.Request) {
	files, err := a.list()
	if err != nil {
		a.failed(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	err = page.Execute(w, map[string]any{"Pod": a.pod, "Served": a.served.Add(1), "Files": files})
	if err != nil {
		a.log.Warn("could not send the page", "error", err)
	}
}

func (a *application) whoami(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, a.pod)
}

func (a *application) healthy(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "ok")
}

func (a *application) ready(w http.ResponseWriter, _ *http.Request) {
	if a.ending.Load() {
		http.Error(w, "ending", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (a *application) readFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !fileName.MatchString(name) {
		http.NotFound(w, r)
		return
	}
	content, err := a.data.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		a.failed(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(content)
}

func (a *application) writeFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !fileName.MatchString(name) {
		http.Error(w, "a file name has letters, digits, dots, dashes and underscores", http.StatusBadRequest)
		return
	}
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFile))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := a.save(name, content); err != nil {
		a.failed(w, err)
		return
	}
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintln(w, a.pod)
}

// writeNote is what the page's form sends.
func (a *application) writeNote(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFile)
	name := r.FormValue("name")
	if !fileName.MatchString(name) {
		http.Error(w, "a file name has letters, digits, dots, dashes and underscores", http.StatusBadRequest)
		return
	}
	if err := a.save(name, []byte(r.FormValue("text"))); err != nil {
		a.failed(w, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// save replaces a file; replicas share the directory, so the temporary name
// has the pod's in it.
func (a *application) save(name string, content []byte) error {
	tmp := fmt.Sprintf(".%s.%s.%d", name, a.pod, a.served.Add(1))
	file, err := a.data.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = a.data.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, a.data.Remove(tmp))
	}
	return nil
}

// list gives the names of the files, sorted. What is not a file of ours, such
// as lost+found, is left out.
func (a *application) list() ([]string, error) {
	entries, err := fs.ReadDir(a.data.FS(), ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.Type().IsRegular() && fileName.MatchString(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func (a *application) failed(w http.ResponseWriter, err error) {
	a.log.Error("request failed", "error", err)
	http.Error(w, err.Error(), http.StatusInternalServerError)
}
