// Package harness holds what test programs share: containers, links that can be cut, paylatch as a
// process, and the consumers that read the topic as witnesses.
//
// All that a run makes in Docker has a name that begins with the run's, so that RemoveAll finds it.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Docker runs a docker command and returns what it printed on stdout.
func Docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// Start starts a stopped container again. It retries for 5 s, because Docker may free its ports
// late.
func Start(ctx context.Context, container string) (err error) {
	for range 20 {
		_, err = Docker(ctx, "start", container)
		if err == nil || ctx.Err() != nil {
			return err
		}
		Pause(ctx, 250*time.Millisecond)
	}
	return err
}

// removeTimeout bounds the removal of all that a run made.
const removeTimeout = time.Minute

// RemoveAll removes the containers, volumes and networks of a run. It has a bound of its own, so
// that it also works after an interrupt.
func RemoveAll(run string) error {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	var errs []error
	for _, kind := range []struct{ list, remove []string }{
		{[]string{"ps", "--all"}, []string{"rm", "--force", "--volumes"}},
		{[]string{"volume", "ls"}, []string{"volume", "rm", "--force"}},
		{[]string{"network", "ls"}, []string{"network", "rm"}},
	} {
		names, err := Docker(ctx, append(kind.list, "--quiet", "--filter", "name=^"+run+"(-|$)")...)
		if err == nil && names != "" {
			_, err = Docker(ctx, append(kind.remove, strings.Fields(names)...)...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
