package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/paylatch/paylatch/migrations"
)

// nextMigration is what the next version's schema has in addition: an expand step, as every
// migration is. A column of the busiest table, since an old version with prepared statements must
// live with that too.
const nextMigration = `-- A migration of test/scale.
alter table payments add column scale_test smallint;

---- create above / drop below ----

alter table payments drop column scale_test;
`

// latest is the schema's version of this source tree.
func latest() (int64, error) {
	files, err := migrations.FS.ReadDir(".")
	return int64(len(files)), err
}

// buildNext builds the image of the next version: this source tree and one more migration.
func (t *test) buildNext(ctx context.Context) error {
	version, err := latest()
	if err != nil {
		return err
	}
	dockerfile, err := os.ReadFile("Dockerfile")
	if err != nil {
		return err
	}
	const after = "COPY migrations migrations\n"
	if strings.Count(string(dockerfile), after) != 1 {
		return fmt.Errorf("no line %q in Dockerfile", after)
	}
	migration := fmt.Sprintf("COPY <<'END' migrations/%03d_scale_test.sql\n%sEND\n", version+1, nextMigration)
	file, err := buildFile(nextImage, strings.Replace(string(dockerfile), after, after+migration, 1))
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(filepath.Dir(file)) }()
	_, err = t.command(ctx, "compose", "--project-name", t.project, "--file", file, "build")
	return err
}

// buildFile writes a compose file, in JSON, that builds one image from this source tree.
func buildFile(image, dockerfile string) (string, error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	type object map[string]any
	content, err := json.Marshal(object{"services": object{"program": object{
		"image": image,
		// A dollar sign would begin a variable.
		"build": object{"context": root, "dockerfile_inline": strings.ReplaceAll(dockerfile, "$", "$$")},
	}}})
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "paylatch-scale-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "compose.json")
	return file, os.WriteFile(file, content, 0o600)
}

// rollForward migrates the schema by the next version and replaces all replicas by it.
func (t *test) rollForward(ctx context.Context) error {
	version, err := latest()
	if err != nil {
		return err
	}
	if _, err := t.run(ctx, nextImage, "migrate", "up"); err != nil {
		return err
	}
	if err := t.schemaIs(ctx, version+1); err != nil {
		return err
	}
	t.proved("the next version migrated the schema from version %d to %d under load", version, version+1)
	return t.roll(ctx, nextImage)
}

// rollBack replaces all replicas by the current version. The schema stays as it is.
func (t *test) rollBack(ctx context.Context) error {
	version, err := latest()
	if err != nil {
		return err
	}
	// `docker compose up` runs setup before the replicas.
	out, err := t.run(ctx, currentImage, "setup", "--test-installation", "--tenant", "demo", "--development-key")
	if err != nil {
		return err
	}
	if want := "newer than"; !strings.Contains(out, want) {
		return fmt.Errorf("setup of the version before printed %q, want %q in it", out, want)
	}
	if err := t.roll(ctx, currentImage); err != nil {
		return err
	}
	t.proved("the version before the migration ran on schema version %d; its setup printed: %s", version+1, out)
	return t.schemaIs(ctx, version+1)
}

func (t *test) schemaIs(ctx context.Context, want int64) error {
	got, err := t.count(ctx, `select version from schema_version`)
	if err == nil && got != want {
		err = fmt.Errorf("the schema has version %d, want %d", got, want)
	}
	return err
}

// roll replaces all replicas by those of another image: one is stopped, and another one started in
// its place.
func (t *test) roll(ctx context.Context, image string) error {
	before, err := t.running(ctx)
	if err != nil {
		return err
	}
	for _, old := range before {
		if err := t.stopCleanly(ctx, old.name); err != nil {
			return err
		}
		// All that do not run are removed: Compose would start one of them again, with its old
		// image.
		if _, err := t.compose.compose(ctx, "rm", "--force", "paylatch"); err != nil {
			return err
		}
		_, err := t.composeWith(ctx, image, "up", "--detach", "--wait", "--no-deps", "--no-recreate",
			"--scale", fmt.Sprintf("paylatch=%d", len(before)), "paylatch")
		if err != nil {
			return err
		}
	}
	after, err := t.running(ctx)
	if err != nil {
		return err
	}
	id, err := t.imageID(ctx, image)
	if err != nil {
		return err
	}
	if err := replaced(before, after, id); err != nil {
		return err
	}
	t.proved("%d replicas were replaced one by one by image %s", len(after), image)
	return nil
}

// replaced checks that as many replicas run as before, that none of them ran before, and that all
// have the image.
func replaced(before, after []container, image string) error {
	var faults []error
	if len(before) == 0 || len(before) != len(after) {
		faults = append(faults, fmt.Errorf("%d replicas run, %d ran before", len(after), len(before)))
	}
	for _, c := range after {
		if slices.ContainsFunc(before, func(o container) bool { return o.id == c.id || o.image == c.image }) {
			faults = append(faults, fmt.Errorf("%s was not replaced", c.name))
		}
		if c.image != image {
			faults = append(faults, fmt.Errorf("%s has image %s, want %s", c.name, c.image, image))
		}
	}
	return errors.Join(faults...)
}
