package main

import (
	"strings"
	"testing"
	"time"
)

// TestStages: each stage has a line, also where the output is no terminal. The download is a stage
// of its own, with a bar until it is complete.
func TestStages(t *testing.T) {
	var out strings.Builder
	s := &stages{out: &out}
	s.begin("starting PostgreSQL")
	if got := s.line(2 * time.Second); got != "2 s" {
		t.Errorf("before the download: got %q, want the time", got)
	}
	s.downloaded(2_000_000, 8_000_000)
	s.downloaded(4_000_000, 8_000_000)
	if got, want := s.line(time.Second), "[==========          ] 4.0 MB of 8.0 MB"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.downloaded(8_000_000, 8_000_000)
	if got := s.line(3 * time.Second); got != "3 s" {
		t.Errorf("after the download: got %q, want the time", got)
	}
	want := "starting PostgreSQL\n" +
		"downloading PostgreSQL, 8.0 MB; this happens once\n" +
		"unpacking PostgreSQL and creating its data\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
