package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// binaries are PostgreSQL's programs and their version, whole ("18.3.0", "15.18") and major, as
// PG_VERSION in data has it.
type binaries struct {
	dir     string
	version string
	major   string
}

// oldestMajor is the oldest PostgreSQL this project supports (design: 15).
const oldestMajor = 15

var (
	versionPattern = regexp.MustCompile(`\(PostgreSQL\) (([0-9]+)[0-9A-Za-z.]*)`)
	majorPattern   = regexp.MustCompile(`^[0-9]+`)
)

// givenBinaries checks the directory of --postgres-bin.
func givenBinaries(ctx context.Context, dir string) (binaries, error) {
	const advice = "give --postgres-bin a directory with initdb, pg_ctl and postgres"
	for _, program := range []string{"initdb", "pg_ctl", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err != nil {
			return binaries{}, faultf(ErrBinaries, "%s has no %s that uid %d can run (%v): %s",
				dir, program, os.Geteuid(), reason(err), advice)
		}
	}
	output, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").CombinedOutput()
	if err != nil {
		return binaries{}, faultf(ErrBinaries, "postgres in %s does not run (%v: %s): %s",
			dir, err, lastRelevantLine(string(output)), advice)
	}
	match := versionPattern.FindStringSubmatch(string(output))
	if match == nil {
		return binaries{}, faultf(ErrBinaries, "postgres in %s calls itself %q: %s",
			dir, lastRelevantLine(string(output)), advice)
	}
	if major, err := strconv.Atoi(match[2]); err != nil || major < oldestMajor {
		return binaries{}, faultf(ErrBinaries, "%s holds PostgreSQL %s: give --postgres-bin one of version %d or newer",
			dir, match[1], oldestMajor)
	}
	return binaries{dir: dir, version: match[1], major: match[2]}, nil
}

// reason is an error without the path, which the sentence around it has already.
func reason(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// fetchedVersion is what the library fetches: its newest PostgreSQL 18.
const fetchedVersion = embeddedpostgres.V18

// fetch keeps one PostgreSQL in a cache that processes share. What is there counts only once a
// marker says that it is complete: a fetch that was killed in the middle is removed by the next.
type fetch struct {
	cache   string
	scratch string
	network *network
	log     io.Writer
}

func (f *fetch) binaries(ctx context.Context) (binaries, error) {
	dir := filepath.Join(f.cache, fmt.Sprintf("%s-%s-%s", fetchedVersion, runtime.GOOS, runtime.GOARCH))
	found := binaries{
		dir:     filepath.Join(dir, "dist", "bin"),
		version: string(fetchedVersion),
		major:   majorPattern.FindString(string(fetchedVersion)),
	}
	marker := filepath.Join(dir, "complete")
	if exists(marker) {
		return found, nil
	}
	lock, err := waitForLock(ctx, filepath.Join(f.cache, "lock"), fetchMax+ownerStopMax)
	if err != nil {
		return binaries{}, faultf(ErrFetch, "PostgreSQL is being fetched by another process (%v): wait for it and "+
			"start again", err)
	}
	defer func() { _ = lock.Close() }()
	if exists(marker) {
		return found, nil // fetched while we waited
	}
	if err := removeAll(dir); err != nil {
		return binaries{}, err
	}
	if err := f.fetch(dir); err != nil {
		if ctx.Err() != nil {
			return binaries{}, ctx.Err()
		}
		return binaries{}, f.explain(err, found.dir)
	}
	syscall.Sync() // a power cut must not leave the marker and not the binaries; it is a matter of once per version
	if err := writeDurably(marker, ""); err != nil {
		return binaries{}, fmt.Errorf("mark the fetched PostgreSQL as complete: %w", err)
	}
	return found, nil
}

// fetch has the library fetch, unpack and, since it offers no part of that alone, run PostgreSQL
// once on data that is thrown away. So "complete" also says that it runs on this machine.
func (f *fetch) fetch(dir string) error {
	archive := filepath.Join(dir, "archive")
	l := library{
		version:  fetchedVersion,
		binaries: filepath.Join(dir, "dist"),
		archive:  archive,
		data:     filepath.Join(f.scratch, "trial"),
		scratch:  f.scratch,
		password: randomHex(),
		log:      f.log,
	}
	if err := l.initialise(); err != nil {
		return err
	}
	return errors.Join(removeAll(l.data), removeAll(archive))
}

func (f *fetch) explain(err error, bin string) error {
	cause := err
	if f.network.last != nil {
		cause = f.network.last
	}
	text := lastRelevantLine(cause.Error())
	switch {
	case saysDiskFull(err.Error()):
		return faultf(ErrFetch, "PostgreSQL could not be unpacked (%s): free some disk space for %s and start again",
			text, f.cache)
	case exists(filepath.Join(bin, "postgres")):
		return faultf(ErrBinaries, "the fetched PostgreSQL does not run here (%s): give --postgres-bin a "+
			"directory with initdb, pg_ctl and postgres", text)
	default:
		return faultf(ErrFetch, "PostgreSQL could not be fetched (%s): connect to the network once, or give "+
			"--postgres-bin a directory with initdb, pg_ctl and postgres", text)
	}
}
