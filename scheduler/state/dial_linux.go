package state

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledged is the time after which a connection is lost whose data the server does not acknowledge. Otherwise, that
// takes many minutes.
const unacknowledged = 10 * time.Second

// boundUnacknowledged sets the time for a socket.
func boundUnacknowledged(_, _ string, c syscall.RawConn) error {
	var err error
	if failed := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	}); failed != nil {
		return failed
	}
	return err
}
