// Command up starts docker-compose.secure.yml. It makes the certificates and passwords first,
// unless they are there, and gives each principal its rights in Kafka.
//
//	go run ./test/secure/up
//	go run ./test/secure/up -check
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

// dir has all secrets. It is not in the repository, and only its owner may enter it.
const dir = ".secure"

func main() {
	check := flag.Bool("check", false, "make payments, verify over each listener, and remove everything")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := start(ctx)
	if *check {
		if err == nil {
			err = examine(ctx)
		}
		// Also if it was interrupted.
		err = errors.Join(err, compose(context.WithoutCancel(ctx), os.Stdout, "down", "--volumes"), os.RemoveAll(dir))
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "secure:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context) error {
	if err := generate(dir); err != nil {
		return err
	}
	if os.Getenv("PAYLATCH_IMAGE") == "" {
		if err := compose(ctx, os.Stdout, "build", "setup"); err != nil {
			return err
		}
	}
	if err := compose(ctx, os.Stdout, "up", "--detach", "--wait", "postgres", "kafka", "issuer"); err != nil {
		return err
	}
	if err := grant(ctx, dir); err != nil {
		return fmt.Errorf("the rights of the principals: %w", err)
	}
	var printed bytes.Buffer
	if err := command(ctx, &printed, "setup"); err != nil {
		return err
	}
	if err := keepKey(printed.String()); err != nil {
		return err
	}
	if err := compose(ctx, os.Stdout, "up", "--detach", "--wait", "paylatch"); err != nil {
		return err
	}
	fmt.Printf(`The API is at https://127.0.0.1:8443. A client on this machine needs:

  export PAYLATCH_SERVER=https://127.0.0.1:8443
  export SSL_CERT_FILE=%[1]s/client/ca.pem PAYLATCH_API_KEY_FILE=%[1]s/client/api-key

`, dir)
	return nil
}

// examine makes payments and verifies them over each listener. As a control, a client that is not
// who it says must fail.
func examine(ctx context.Context) error {
	if err := command(ctx, os.Stdout, "client"); err != nil {
		return err
	}
	for _, verify := range []string{"verify", "verify-by-password", "verify-by-token"} {
		if err := command(ctx, os.Stdout, verify); err != nil {
			return err
		}
	}
	err := compose(ctx, os.Stdout, "run", "--rm", "-T", "-e", "PAYLATCH_KAFKA_OAUTH_CLIENT_ID=nobody",
		"verify-by-token")
	if err == nil {
		return errors.New("the control: a client that the token endpoint does not know has verified")
	}
	fmt.Println("The control has failed, as it must.")
	return nil
}

// command runs a service that ends.
func command(ctx context.Context, stdout io.Writer, name string) error {
	return compose(ctx, stdout, "run", "--rm", "-T", name)
}

// keepKey writes the key of the tenant to a file, unless setup found the tenant.
func keepKey(printed string) error {
	words := strings.Fields(printed)
	if len(words) == 0 || !strings.HasPrefix(words[len(words)-1], "pl_") {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "client", "api-key"), []byte(words[len(words)-1]+"\n"), 0o644)
}

// compose runs docker compose.
func compose(ctx context.Context, stdout io.Writer, args ...string) error {
	args = append([]string{"compose", "-f", "docker-compose.secure.yml"}, args...)
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdout, cmd.Stderr = stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("docker %s: %w", strings.Join(args, " "), errors.Join(err, ctx.Err()))
	}
	return nil
}
