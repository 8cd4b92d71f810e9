package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// data are PostgreSQL's files in the owner's home, and the password to them beside.
type data struct {
	home string
	bin  binaries
	log  io.Writer
}

func dataDir(home string) string { return filepath.Join(home, "postgres") }

func (d *data) dir() string { return dataDir(d.home) }

// unfinished is there while the data are being initialised, and nothing of a user is in them yet.
// Only with this proof are data ever removed.
func (d *data) unfinished() string { return filepath.Join(d.home, "postgres.unfinished") }

func (d *data) passwordFile() string { return filepath.Join(d.home, "postgres.password") }

// prepare makes sure that there are data of our version and that no process works on them. The
// owner's lock is held.
func (d *data) prepare(ctx context.Context) error {
	if err := d.stopStale(ctx); err != nil {
		return err
	}
	if exists(d.unfinished()) {
		if err := removeAll(d.dir()); err != nil {
			return err
		}
	}
	version, err := os.ReadFile(filepath.Join(d.dir(), "PG_VERSION"))
	switch has := strings.TrimSpace(string(version)); {
	case err == nil && has == d.bin.major:
		return nil
	case err == nil:
		return faultf(ErrOtherVersion, "the data in %s were written by PostgreSQL %s and this is %s: give "+
			"--postgres-bin a PostgreSQL %s, or use another directory",
			d.dir(), has, d.bin.version, has)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the data cannot be read by uid %d: %w", os.Geteuid(), err)
	}
	if entries, err := os.ReadDir(d.dir()); err == nil && len(entries) > 0 {
		return faultf(ErrOtherVersion, "%s is not empty and holds no data of PostgreSQL: use another directory",
			d.dir())
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.initialise()
}

func (d *data) initialise() error {
	if err := writeDurably(d.unfinished(), ""); err != nil {
		return d.explain(err)
	}
	password := randomHex()
	if err := writeDurably(d.passwordFile(), password+"\n"); err != nil {
		return d.explain(err)
	}
	// The library wants binaries in a directory named bin. Which directory those of --postgres-bin
	// are in is the user's affair; the programs find their own files by where they really are.
	above := filepath.Join(scratchDir(d.home), "dist")
	if err := errors.Join(os.MkdirAll(above, 0o700), os.Symlink(d.bin.dir, filepath.Join(above, "bin"))); err != nil {
		return d.explain(err)
	}
	err := library{
		version:  embeddedpostgres.PostgresVersion(d.bin.version),
		binaries: above,
		archive:  filepath.Join(scratchDir(d.home), "archive"), // unused: there are binaries
		data:     d.dir(),
		scratch:  scratchDir(d.home),
		password: password,
		log:      d.log,
	}.initialise()
	if err != nil {
		return d.explain(err)
	}
	// From here on the data are the user's.
	if err := errors.Join(os.Remove(d.unfinished()), syncDir(d.home)); err != nil {
		return d.explain(err)
	}
	return nil
}

func (d *data) explain(err error) error {
	text := lastRelevantLine(err.Error())
	if saysDiskFull(err.Error()) {
		return faultf(err, "PostgreSQL could not initialise its data (%s): free some disk space for %s and start again",
			text, d.home)
	}
	return faultf(err, "PostgreSQL could not initialise its data in %s (%s): its log says more; start again, or use "+
		"another directory", d.home, text)
}

// password is random for each directory: every user of the machine reaches loopback, and our role,
// a superuser, may run programs.
func (d *data) password() (string, error) {
	content, err := os.ReadFile(d.passwordFile())
	if err != nil {
		return "", fmt.Errorf("the password to the data is beside them and must stay there: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// stopStale stops a server left by an owner that was killed, and clears away a postmaster.pid whose
// number now is another process's, which is common in containers, where the same few numbers are
// used at each start. PostgreSQL would take that process for a server and refuse to start. A pid
// that no process has is left to PostgreSQL. Removing the file is safe under our lock: from version
// 12 on the server itself notices, by shared memory, what else may still work on its data.
func (d *data) stopStale(ctx context.Context) error {
	file := filepath.Join(d.dir(), "postmaster.pid")
	content, err := os.ReadFile(file)
	if err != nil {
		return nil // none, or unreadable data: the version is read next
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return nil
	}
	command, alive := commandOf(ctx, pid)
	switch {
	case !alive:
		return nil
	case !strings.Contains(command, d.dir()):
		return os.Remove(file)
	}
	var output []byte
	for _, mode := range []string{"fast", "immediate"} {
		stop := exec.CommandContext(ctx, filepath.Join(d.bin.dir, "pg_ctl"),
			"stop", "-D", d.dir(), "-m", mode, "-w", "-t", "30")
		output, err = stop.CombinedOutput()
		if err == nil {
			return nil
		}
		if _, alive := commandOf(ctx, pid); !alive {
			return nil // it ended between our look and pg_ctl's
		}
	}
	return faultf(ErrDirInUse, "an earlier PostgreSQL (process %d) still runs on %s and does not stop (%s): "+
		"end it and start again",
		pid, d.dir(), lastRelevantLine(string(output)))
}

// commandOf is a process's command line. A server's holds its data directory.
func commandOf(ctx context.Context, pid int) (command string, alive bool) {
	if exists("/proc/self/cmdline") {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return string(bytes.ReplaceAll(content, []byte{0}, []byte{' '})), err == nil && len(content) > 0
	}
	output, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return string(output), err == nil
}
