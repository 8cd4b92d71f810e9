package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// makeKept makes and locks the directory that is kept across restarts, and returns the owner's home
// for it: dir itself, or as root a directory of the owner's outside any closed home, found again by
// the id in dir.
func (pl *place) makeKept(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("path of the data: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("the data need a directory that this user may write: %w", err)
	}
	pl.lock, err = LockFile(filepath.Join(dir, "postgres.lock"))
	switch {
	case errors.Is(err, ErrLocked):
		return "", faultf(ErrDirInUse, "another process runs PostgreSQL on %s: stop it first, or use another "+
			"directory", dir)
	case err != nil:
		return "", fmt.Errorf("the data need a directory that this user may write: %w", err)
	}
	if pl.user == nil {
		return dir, nil
	}
	return pl.makeInstance(dir)
}

// makeInstance finds or makes root's home for the data of dir, and a link to them in dir for
// a user who looks there.
func (pl *place) makeInstance(dir string) (string, error) {
	id, err := instanceOf(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(rootData, 0o755); err != nil {
		return "", fmt.Errorf("as root, the data are kept below %s: %w", rootData, err)
	}
	home, err := pl.makeOwn(filepath.Join(rootData, id))
	if err != nil {
		return "", fmt.Errorf("as root, the data are kept below %s: %w", rootData, err)
	}
	return home, linkData(dataDir(home), dataDir(dir))
}

var instancePattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// instanceOf reads the id from dir, or writes a new one. Deleting dir thus starts from nothing. The
// id becomes part of a path in which root makes directories and gives them away, so nothing but the
// form written here is taken.
func instanceOf(dir string) (string, error) {
	path := filepath.Join(dir, "instance")
	content, err := os.ReadFile(path)
	if err == nil {
		id := strings.TrimSpace(string(content))
		if !instancePattern.MatchString(id) {
			return "", fmt.Errorf("%s does not hold the id of an instance: restore it, or use another directory", path)
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("id of the instance: %w", err)
	}
	id := randomHex()
	if err := writeDurably(path, id+"\n"); err != nil {
		return "", fmt.Errorf("id of the instance: %w", err)
	}
	return id, nil
}

func linkData(target, link string) error {
	switch info, err := os.Lstat(link); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("link to the data: %w", err)
	case info.Mode().Type() != fs.ModeSymlink:
		return fmt.Errorf("%s was made by a user other than root: run as that user, or use another directory", link)
	default:
		if err := os.Remove(link); err != nil {
			return fmt.Errorf("link to the data: %w", err)
		}
	}
	if err := os.Symlink(target, link); err != nil {
		return fmt.Errorf("link to the data: %w", err)
	}
	return nil
}

// executable is what to run as the owner: ourselves, or for another user a copy, since ours may lie
// in a closed directory (go test builds in one). It goes to root's cache, where PostgreSQL is
// executed too, rather than to /tmp, which may be mounted noexec.
func (pl *place) executable() (path string, remove func(), err error) {
	path, err = os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("path of this program: %w", err)
	}
	if pl.user == nil {
		return path, func() {}, nil
	}
	dir, err := os.MkdirTemp(filepath.Dir(pl.spec.Cache), "owner-")
	if err != nil {
		return "", nil, fmt.Errorf("a copy of this program for another user: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	copied := filepath.Join(dir, ownerName)
	if err := errors.Join(os.Chmod(dir, 0o755), copyProgram(path, copied)); err != nil {
		remove()
		return "", nil, fmt.Errorf("a copy of this program for another user: %w", err)
	}
	return copied, remove, nil
}

// copyProgram holds off all forks of this process while the copy is open for writing: a child
// forked at the same time would hold it open until its own exec, and ours would fail with "text
// file busy" (golang/go#22315).
func copyProgram(from, to string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Chmod(0o755), target.Close()) // Chmod: whatever the umask says
}

func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return hex.EncodeToString(b[:])
}
