// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// write puts a text into a file and onto the disk.
func write(_ context.Context, args []string, _ io.Writer) error {
	if len(args) != 2 {
		return errors.New("expected: write FILE TEXT")
	}
	file, err := os.Create(args[0])
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, args[1])
	return errors.Join(err, file.Sync(), file.Close())
}

// read prints a file.
func read(_ context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("expected: read FILE")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return err
}

// fill writes into a directory until it is full, removes what it wrote, and
// prints how much that was and how large the file system is, in bytes.
func fill(_ context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("expected: fill DIRECTORY")
	}
	path := filepath.Join(args[0], "fill")
	defer os.Remove(path)
	written, err := writeUntilFull(path)
	if !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("after %d bytes: %w", written, err)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(args[0], &st); err != nil {
		return err
	}
	fmt.Fprintln(out, written, int64(st.Blocks)*st.Bsize)
	return nil
}

func writeUntilFull(path string) (int64, error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	block := make([]byte, 1<<20)
	var written int64
	for written < 1<<30 {
		n, err := file.Write(block)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, errors.New("the disk does not get full")
}
