package main

import (
	"fmt"

	"github.com/paylatch/paylatch/internal/buildinfo"
)

type versionCommand struct{}

// Run prints what `paylatch version` prints.
func (versionCommand) Run(s *session) error {
	_, err := fmt.Fprintln(s.stdout, buildinfo.Read())
	return err
}
