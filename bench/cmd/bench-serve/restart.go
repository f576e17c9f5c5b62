package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/schedulertest"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
	"github.com/betracehq/betrace/trace/tracetest"
)

// startTimeout bounds a start of the service.
const startTimeout = 2 * time.Minute

// restart measures the start of betrace serve with a large state, after it was killed.
func restart(ctx context.Context, b *bench) (err error) {
	if _, err := os.Stat(b.betrace); err != nil {
		return fmt.Errorf("-betrace: %w: build it with make build", err)
	}
	dir, err := os.MkdirTemp(b.dir, "restart-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o := b.options(24, 10)
	o.Traces.Start = time.Now().UTC().Add(-24 * interval)
	o.Dir = filepath.Join(dir, "blocks")
	for week := schedulertest.New(o); ; {
		if _, ok, err := week.Next(); err != nil {
			return err
		} else if !ok {
			break
		}
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	config := filepath.Join(dir, "betrace.yaml")
	path := filepath.Join(dir, "state.db")
	text := fmt.Sprintf("state: %s\ntempo: {blocks: \"file://%s\"}\nserver: {address: %q}\nsweeps:\n  - {name: all, schedule: \"@every 1s\", packs: [%s]}\n",
		path, filepath.ToSlash(o.Dir), address, filepath.Join(dir, "pack.yaml"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "pack.yaml"), []byte(tracetest.Pack), 0o600); err != nil {
		return err
	}
	// The first start makes the ledger.
	if _, _, err := b.start(ctx, config, address); err != nil {
		return err
	}
	began := time.Now()
	if err := fill(ctx, path, b.violations); err != nil {
		return err
	}
	stat, err := os.Stat(path)
	if err != nil {
		return err
	}
	b.progress("  %d violations stored in %s: %.0f MB", b.violations, time.Since(began).Round(time.Second), float64(stat.Size())/1e6)
	var readies, firsts []float64
	for range b.repeat {
		ready, first, err := b.start(ctx, config, address)
		if err != nil {
			return err
		}
		b.progress("  ready after %.2f s, first tick committed after %.2f s", ready.Seconds(), first.Seconds())
		readies, firsts = append(readies, ready.Seconds()), append(firsts, first.Seconds())
	}
	b.print("restart_seconds", median(readies), "s")
	b.print("restart_first_tick_seconds", median(firsts), "s")
	return nil
}

// fill adds violations to a state.
func fill(ctx context.Context, path string, violations int) (err error) {
	db, err := state.Open(ctx, state.Options{Path: path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	key, err := scheduler.SigningKey(ctx, db, "", time.Now())
	if err != nil {
		return err
	}
	return statetest.Fill(ctx, db, key, "", 0, violations)
}

// freeAddress returns an address that is free now.
func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start starts the service, and kills it when it has committed a tick. It returns the times from the start of the process
// until /ready answers 200, and until the first tick was committed.
func (b *bench) start(ctx context.Context, config, address string) (ready, first time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("the service did not start"))
	defer cancel()
	var log strings.Builder
	cmd := exec.CommandContext(ctx, b.betrace, "serve", "--config", config)
	cmd.Stderr = &log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // it was killed
		if err != nil {
			err = fmt.Errorf("%w: %s", err, log.String())
		}
	}()
	for ; first == 0; time.Sleep(5 * time.Millisecond) {
		if ctx.Err() != nil {
			return 0, 0, context.Cause(ctx)
		}
		if ready == 0 {
			if ok, err := answers(ctx, address, "/ready", ""); err != nil {
				return 0, 0, err
			} else if ok {
				ready = time.Since(began)
			}
			continue
		}
		if ok, err := answers(ctx, address, "/metrics", "betrace_sweep_ticks_total{"); err != nil {
			return 0, 0, err
		} else if ok {
			first = time.Since(began)
		}
	}
	return ready, first, nil
}

// answers reports whether the server answers with the status 200, and with a line that has the prefix. It is no error if it
// does not answer.
func answers(ctx context.Context, address, path, prefix string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, nil //nolint:nilerr // it has not started yet
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, nil
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), prefix) {
			return true, nil
		}
	}
	return false, nil
}
