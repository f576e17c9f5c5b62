package state

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// lockFile takes the lock of the database at path, and writes the ID of this process to the lock file. The file stays
// when the lock is released: a process that removed it could remove the one that the next process has just locked.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state %s: lock: %w", path, err)
	}
	free, err := tryLock(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("state %s: lock %s: %w", path, f.Name(), err)
	}
	if !free {
		defer f.Close()
		return nil, fmt.Errorf("state %s is used by another process%s: stop it, or give another file", path, owner(f))
	}
	// The ID only helps people, so a full disk does not prevent a start.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return func() { f.Close() }, nil
}

// owner returns the ID of the process that wrote the lock file, in parentheses. It is empty if it cannot be read.
func owner(f *os.File) string {
	content, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", pid)
}
