//go:build !linux

package state

import "syscall"

// boundUnacknowledged does nothing: the system has no such option.
func boundUnacknowledged(_, _ string, _ syscall.RawConn) error { return nil }
