package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Server is a server that can be built.
type Server string

// The servers.
const (
	Tempo Server = "tempo"
	Loki  Server = "loki"
	// SeaweedFS is a server with the S3 API.
	SeaweedFS Server = "seaweedfs"
)

// modules holds, for each server, the tool in the module of its folder and the time of a cold build on
// two cores.
var modules = map[Server]struct{ tool, takes, env string }{
	Tempo:     {"github.com/grafana/tempo/cmd/tempo", "about 5 minutes", "TEMPO_BIN"},
	Loki:      {"github.com/grafana/loki/v3/cmd/loki", "about 8 minutes", "LOKI_BIN"},
	SeaweedFS: {"github.com/seaweedfs/seaweedfs/weed", "about 7 minutes", "WEED_BIN"},
}

// BuildTime returns the time of a cold build on two cores, such as "about 5 minutes".
func (s Server) BuildTime() string { return modules[s].takes }

// Missing returns the servers that Start would have to build, sorted by name.
func Missing(opts Options) ([]Server, error) {
	var missing []Server
	for _, s := range []struct {
		server  Server
		needed  bool
		running string
	}{{Loki, opts.Loki, "LOKI_URL"}, {Tempo, opts.Tempo, "TEMPO_URL"}} {
		if !s.needed || os.Getenv(s.running) != "" || os.Getenv(modules[s.server].env) != "" {
			continue
		}
		_, path, err := cached(s.server)
		if err != nil {
			return nil, err
		}
		if !exists(path) {
			missing = append(missing, s.server)
		}
	}
	return missing, nil
}

// cached returns the folder of a server's module, and the path of its program in the cache, whether or
// not it has been built.
func cached(server Server) (source, path string, err error) {
	if source, err = sourceDir(server); err != nil {
		return "", "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", "", err
	}
	key, err := cacheKey(source)
	if err != nil {
		return "", "", err
	}
	return source, filepath.Join(cache, string(server)+"-"+key), nil
}

// Build returns the path of the server's program: the one that the environment names, or the one in the
// cache. It builds the latter if it is missing. If several processes call Build, one builds and the
// others wait. Progress is written to log.
func Build(ctx context.Context, server Server, log io.Writer) (string, error) {
	m := modules[server]
	if path := os.Getenv(m.env); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s: %w", m.env, err)
		}
		return path, nil
	}
	source, path, err := cached(server)
	if err != nil || exists(path) {
		return path, err
	}
	unlock, err := lock(ctx, filepath.Join(filepath.Dir(path), string(server)+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(path) {
		return path, nil // another process built it meanwhile
	}
	return path, compile(ctx, source, m.tool, path, func(seconds int) {
		fmt.Fprintf(log, "building %s (once, %s on two cores): %d s\n", server, m.takes, seconds)
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// module is the path of the module that holds this file.
const module = "github.com/betracehq/betrace"

// sourceDir returns the folder of a server's module, beside this file.
func sourceDir(server Server) (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("stack: the program does not contain the folder of its source: build it with symbols")
	}
	dir, err := untrimmed(filepath.Dir(file))
	return filepath.Join(dir, string(server)), err
}

// untrimmed returns the folder for an import path, as a program built with -trimpath contains it. The
// working folder must be in the module.
func untrimmed(dir string) (string, error) {
	below, trimmed := strings.CutPrefix(dir, module)
	if !trimmed {
		return dir, nil
	}
	working, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("stack: %w", err)
	}
	for root := working; ; root = filepath.Dir(root) {
		b, err := os.ReadFile(filepath.Join(root, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module "+module+"\n") {
			return filepath.Join(root, below), nil
		}
		if root == filepath.Dir(root) {
			return "", fmt.Errorf("stack: the working folder %s is not in the module %s: run the program there, or build it without -trimpath", working, module)
		}
	}
}

func cacheDir() (string, error) {
	dir := os.Getenv("BETRACE_STACK_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("stack: no cache folder: %w: set BETRACE_STACK_CACHE", err)
		}
		dir = filepath.Join(user, "betrace", "stack")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("stack: cache folder: %w", err)
	}
	return dir, nil
}

// cacheKey hashes everything that determines the build.
func cacheKey(source string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", fmt.Errorf("stack: %w", err)
		}
		h.Write(b) // a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// compile builds the tool of the module in source, and moves the complete program to path.
func compile(ctx context.Context, source, tool, path string, progress func(seconds int)) error {
	partial := fmt.Sprintf("%s.%d", path, os.Getpid())
	defer func() { _ = os.Remove(partial) }() // fails if the build succeeded
	cmd := exec.CommandContext(ctx, "go", "build", "-o", partial, tool)
	cmd.Dir = source
	// go build removes its temporary files when it is interrupted, but not when it is killed.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = grace
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false -mod=readonly")
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("go build %s: %w", tool, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	progress(0)
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			progress(int(time.Since(start).Seconds()))
		case err := <-done:
			if ctx.Err() != nil {
				return fmt.Errorf("go build %s: %w", tool, context.Cause(ctx))
			}
			if err != nil {
				return fmt.Errorf("go build %s in %s: %w\n%s", tool, source, err, tail(output.String(), 20))
			}
			if err := os.Rename(partial, path); err != nil {
				return fmt.Errorf("stack: move the built program to the cache: %w", err)
			}
			return nil
		}
	}
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
