// Command vuln checks the dependencies for known vulnerabilities with govulncheck, after a control
// that it must find. Its arguments are the command that runs govulncheck.
//
// VULN_DB names the database to use instead of https://vuln.go.dev: a directory in the layout of
// https://go.dev/security/vuln/database#api, the vulndb.zip that is published there, or a URL.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Getenv("VULN_DB"), os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vuln:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, govulncheck []string, named string, out io.Writer) (err error) {
	if len(govulncheck) == 0 {
		return errors.New("the command of govulncheck is needed")
	}
	temporary, err := os.MkdirTemp("", "paylatch-vuln-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	db, err := open(named, temporary)
	if err != nil {
		return fmt.Errorf("VULN_DB=%s: %w", named, err)
	}
	if err := control(ctx, govulncheck); err != nil {
		return err
	}
	fmt.Fprintf(out, "govulncheck finds the control. Database: %s\n", db)
	return check(ctx, govulncheck, db.url, out, "./...")
}

// controlDir has a database with one entry, and controlID is that entry: a function that
// internal/api calls.
const (
	controlDir = "test/vuln/control"
	controlID  = "GO-0000-0001"
)

// control returns an error unless govulncheck finds what it must find. An empty result of the
// program proper would say nothing otherwise.
func control(ctx context.Context, govulncheck []string) error {
	dir, err := filepath.Abs(controlDir)
	if err != nil {
		return err
	}
	db, err := open(dir, "")
	if err != nil {
		return err
	}
	var out bytes.Buffer
	err = check(ctx, govulncheck, db.url, &out, "./internal/api")
	if err == nil || !bytes.Contains(out.Bytes(), []byte("Vulnerability #1: "+controlID)) {
		return fmt.Errorf("govulncheck does not find the control %s: %w\n%s", controlID, err, &out)
	}
	return nil
}

// check runs govulncheck, which fails if it finds something.
func check(ctx context.Context, govulncheck []string, db string, out io.Writer, packages string) error {
	args := slices.Clone(govulncheck)
	if db != "" {
		args = append(args, "-db", db)
	}
	cmd := exec.CommandContext(ctx, args[0], append(args[1:], packages)...)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}
