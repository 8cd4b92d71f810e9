package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Root's data and binaries: PostgreSQL then runs as another user, who cannot enter root's home.
// Data there outlive the directory whose id names them. Deleting that directory starts from
// nothing; the old data are then to be removed by hand.
const (
	rootData  = "/var/lib/paylatch"
	rootCache = "/var/cache/paylatch"
)

// place is where an owner works and as which user.
type place struct {
	spec spec
	user *syscall.Credential // nil = as ourselves
	lock *os.File            // of the kept directory: one parent at a time
}

// findPlace makes the directories for c and locks the kept one.
func findPlace(c PostgresConfig) (_ *place, err error) {
	pl := &place{spec: spec{Port: c.Port, Fsync: c.Fsync, Temporary: c.Dir == ""}}
	if os.Geteuid() == 0 {
		pl.user, err = unprivileged()
		if err != nil {
			return nil, err
		}
	}
	if c.Bin != "" {
		pl.spec.Bin, err = filepath.Abs(c.Bin)
		if err != nil {
			return nil, fmt.Errorf("path of --postgres-bin: %w", err)
		}
	}
	pl.spec.Cache, err = pl.makeCache(c.cache)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL's binaries need a cache that this user may write: %w", err)
	}
	if c.Dir == "" {
		pl.spec.Home, err = pl.makeTemporary()
	} else {
		pl.spec.Home, err = pl.makeKept(c.Dir)
	}
	if err != nil {
		return nil, errors.Join(err, pl.leave())
	}
	return pl, nil
}

// unprivileged is the user PostgreSQL runs as when we are root.
func unprivileged() (*syscall.Credential, error) {
	const name = "nobody"
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses to run as root and there is no user %q to run it as: %w", name, err)
	}
	// 64 bits signed, since some systems write nobody as -2.
	uid, uidErr := strconv.ParseInt(u.Uid, 10, 64)
	gid, gidErr := strconv.ParseInt(u.Gid, 10, 64)
	if uidErr != nil || gidErr != nil || uid == 0 {
		return nil, fmt.Errorf("user %q has uid %q and gid %q: PostgreSQL cannot run as that", name, u.Uid, u.Gid)
	}

	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil // no Groups: the child's are cleared
}

// makeCache makes the directory for binaries. Root's is the owner's own, one level down, so that
// what root puts beside it (the copied executable) cannot be exchanged by that user.
func (pl *place) makeCache(given string) (string, error) {
	dir := given
	switch {
	case dir != "":
	case pl.user != nil:
		dir = rootCache
	default:
		dir = userCache()
	}
	if pl.user != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	} else if _, err := pl.makeOwn(dir); err != nil {
		return "", err
	}
	return pl.makeOwn(filepath.Join(dir, "postgres"))
}

func userCache() string {
	if dir, err := os.UserCacheDir(); err == nil {
		if err := os.MkdirAll(filepath.Join(dir, "paylatch"), 0o700); err == nil {
			return filepath.Join(dir, "paylatch")
		}
	}
	// A user without a home, or whose home cannot be written: the uid in the name keeps users
	// apart.
	return filepath.Join(os.TempDir(), "paylatch-"+strconv.Itoa(os.Geteuid()))
}

// makeOwn makes a directory that belongs to the owner alone, and refuses one of another user,
// who could exchange what is run from it. A link counts as its maker's.
func (pl *place) makeOwn(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	uid, gid := os.Geteuid(), -1
	if pl.user != nil {
		uid, gid = int(pl.user.Uid), int(pl.user.Gid)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	has := int(info.Sys().(*syscall.Stat_t).Uid)
	switch {
	case has == uid:
		return dir, nil
	case pl.user != nil && has == 0: // just made by us, or by another of us
		return dir, os.Chown(dir, uid, gid)
	default:
		return "", fmt.Errorf("%s belongs to uid %d, not to %d", dir, has, uid)
	}
}

func (pl *place) makeTemporary() (string, error) {
	parent := os.TempDir()
	if pl.user != nil && !openToAll(parent) {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "paylatch-postgres-")
	if err != nil {
		return "", fmt.Errorf("PostgreSQL needs room for temporary data: %w", err)
	}
	pl.spec.Home = dir // from here on leave removes it
	if pl.user == nil {
		return dir, nil
	}
	return dir, os.Chown(dir, int(pl.user.Uid), int(pl.user.Gid))
}

// openToAll reports whether every user may pass through dir and all above it.
func openToAll(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		up := filepath.Dir(dir)
		if up == dir {
			return true
		}
		dir = up
	}
}

// environment is all the owner, and through it PostgreSQL, gets of ours: the library's client and
// PostgreSQL's programs read PG… variables, which are about other databases than this one.
func (pl *place) environment() []string {
	env := []string{"HOME=" + pl.spec.Home, "TMPDIR=" + scratchDir(pl.spec.Home), "LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{
		"PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// processAttributes puts the owner into a process group of its own, so that Ctrl-C in a terminal
// reaches only us: the order of stopping is ours to decide.
func (pl *place) processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: pl.user}
}

// leave gives the place up. A temporary home was removed by its owner, unless that was killed.
func (pl *place) leave() error {
	var errs []error
	if pl.spec.Temporary && pl.spec.Home != "" {
		errs = append(errs, removeAll(pl.spec.Home))
	}
	if pl.lock != nil {
		if err := pl.lock.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
