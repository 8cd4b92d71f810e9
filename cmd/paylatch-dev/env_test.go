package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestLock: one demo has a directory. `env` prints what it wrote; without a demo it says so, also
// after one that was killed and has left its addresses.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	if _, err := running(dir); err == nil || !strings.Contains(err.Error(), "no demo is running") {
		t.Errorf("no demo was ever there: got %v", err)
	}
	first, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := running(dir); err == nil || !strings.Contains(err.Error(), "is starting") {
		t.Errorf("the demo starts: got %v", err)
	}
	want := addresses{API: "http://127.0.0.1:1", Postgres: "postgres://u:p@h/d?sslmode=disable"}
	if err := first.write(want); err != nil {
		t.Fatal(err)
	}
	got, err := running(dir)
	got.PID = 0
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := lock(dir); err == nil || !strings.Contains(err.Error(), want.API) {
		t.Errorf("a second demo: got %v, want an error that names the first one", err)
	}
	if err := first.lock.Close(); err != nil { // As kill -9 does.
		t.Fatal(err)
	}
	if _, err := running(dir); err == nil || !strings.Contains(err.Error(), "no demo is running") {
		t.Errorf("the demo was killed: got %v", err)
	}
	second, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.close(); err != nil {
		t.Error(err)
	}
}

// TestPrintExports: a shell reads each value as it is.
func TestPrintExports(t *testing.T) {
	var exports strings.Builder
	a := addresses{API: "http://h", Kafka: "h:1", Postgres: "postgres://u:p@h/d?a=b&c=$HOME", Key: "it's"}
	if err := printExports(&exports, a); err != nil {
		t.Fatal(err)
	}
	const print = `printf '%s|' "$PAYLATCH_DATABASE_URL" "$PAYLATCH_KAFKA_BROKERS" ` +
		`"$PAYLATCH_SERVER" "$PAYLATCH_API_KEY"`
	out, err := exec.CommandContext(t.Context(), "/bin/sh", "-ec", exports.String()+print).Output()
	if want := a.Postgres + "|h:1|http://h|it's|"; err != nil || string(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}
