package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// guard runs a program and kills it when its own standard input ends, that is, when the process at the
// other end of the pipe dies for any reason, even while the program is shutting down. It exits with the
// program's status. After that it kills nothing, because another process may have the same PID by then.
const guard = `
trap : TERM INT
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
(trap '' TERM; cat <&3 >/dev/null; kill -KILL $server) 2>/dev/null &
watch=$!
wait $server; status=$?
while kill -0 $server 2>/dev/null; do wait $server; status=$?; done
kill -KILL $watch 2>/dev/null
exit $status`

// process is a running server.
type process struct {
	name    string
	cmd     *exec.Cmd
	alive   io.Closer // closing it kills the server
	logFile string
	end     syscall.Signal // ends the server
	exited  chan struct{}  // closed after the server has ended and err is set
	err     error
}

// start runs a program with its output in logFile, in a process group of its own.
func start(name, logFile string, env []string, program string, args ...string) (*process, error) {
	return startAs(nil, "", name, logFile, env, program, args...)
}

// startAs runs a program as a user, in a folder. If user is nil, it is that of this process, as is an empty folder.
func startAs(user *syscall.Credential, dir, name, logFile string, env []string, program string, args ...string) (*process, error) {
	log, err := os.Create(logFile)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()                                                                   // the child has its own descriptor
	cmd := exec.Command("sh", append([]string{"-c", guard, "sh", program}, args...)...) //nolint:noctx // the server outlives the context of its start: stop ends it
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Setpgid: true, Credential: user}
	alive, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, alive: alive, logFile: logFile, end: syscall.SIGTERM, exited: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

var errExitedOK = errors.New("exit status 0")

// waitReady polls url until it returns 200.
func (p *process) waitReady(ctx context.Context, url string) error {
	return p.waitUntil(ctx, url, func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false // the URL is ours
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// waitUntil polls a condition until it holds. address is part of errors.
func (p *process) waitUntil(ctx context.Context, address string, ready func() bool) error {
	for !ready() {
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended: %w; its log ends with\n%s", p.name, cmp.Or(p.err, errExitedOK), p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%s): %w; its log ends with\n%s", p.name, address, context.Cause(ctx), p.logTail())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

func (p *process) logTail() string {
	b, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	return tail(string(b), 20)
}

// lostPort reports whether the server ended because another program took its port.
func (p *process) lostPort() bool {
	select {
	case <-p.exited:
		return strings.Contains(strings.ToLower(p.logTail()), "address already in use")
	default:
		return false
	}
}

// stop ends the server with its signal, and after the grace period with SIGKILL.
func (p *process) stop(grace time.Duration) error {
	defer p.alive.Close()
	signal := func(s syscall.Signal) error {
		if err := syscall.Kill(-p.cmd.Process.Pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end %s: %w", p.name, err)
		}
		return nil
	}
	if err := signal(p.end); err != nil {
		return err
	}
	select {
	case <-p.exited:
		return signal(syscall.SIGKILL) // remaining processes of the group
	case <-time.After(grace):
	}
	if err := signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.exited
	return nil
}
