package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/betracehq/betrace/scheduler/schedulertest"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace/tracetest"
)

const (
	loadSweeps  = 1000
	loadTenants = 100
	loadBlocks  = 100 // of each tenant
	manyBlocks  = 10_000
)

// storedBlock returns the folder of a tenant with a small block whose traces have just ended.
func (b *bench) storedBlock(dir string) (block string, err error) {
	o := b.options(24, 3)
	o.Traces.Start = time.Now().UTC().Add(-24 * interval)
	o.Dir = filepath.Join(dir, "made")
	for week := schedulertest.New(o); ; {
		if _, ok, err := week.Next(); err != nil {
			return "", err
		} else if !ok {
			break
		}
	}
	all, err := filepath.Glob(filepath.Join(o.Dir, "*", "*", "meta.json"))
	if err != nil || len(all) == 0 {
		return "", errors.Join(errors.New("no block was made"), err)
	}
	return filepath.Dir(all[len(all)-1]), nil
}

// copyBlock copies a block to a tenant n times, with IDs of their own.
func copyBlock(block, root, tenant string, n int) error {
	meta, err := os.ReadFile(filepath.Join(block, "meta.json"))
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(block, "data.parquet"))
	if err != nil {
		return err
	}
	id, old := filepath.Base(block), filepath.Base(filepath.Dir(block))
	for range n {
		name := uuid.NewString()
		folder := filepath.Join(root, tenant, name)
		if err := os.MkdirAll(folder, 0o750); err != nil {
			return err
		}
		changed := bytes.ReplaceAll(bytes.ReplaceAll(meta, []byte(id), []byte(name)), []byte(`"`+old+`"`), []byte(`"`+tenant+`"`))
		if err := errors.Join(os.WriteFile(filepath.Join(folder, "meta.json"), changed, 0o600), os.WriteFile(filepath.Join(folder, "data.parquet"), data, 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// idle measures a service with many sweeps that find nothing new.
func idle(ctx context.Context, b *bench) (err error) {
	dir, err := os.MkdirTemp(b.dir, "idle-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	block, err := b.storedBlock(dir)
	if err != nil {
		return err
	}
	for n := range loadTenants {
		if err := copyBlock(block, filepath.Join(dir, "blocks"), fmt.Sprintf("tenant-%02d", n), loadBlocks); err != nil {
			return err
		}
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	var config strings.Builder
	fmt.Fprintf(&config, "state: %s\ntempo: {blocks: \"file://%s\"}\nserver: {address: %q}\nsweeps:\n", filepath.Join(dir, "state.db"), filepath.ToSlash(filepath.Join(dir, "blocks")), address)
	for n := range loadSweeps { // the sweeps of a tenant have different schedules, so that none shares a ledger
		fmt.Fprintf(&config, "  - {name: sweep-%03d, schedule: \"%d */5 * * * *\", jitter: 4m, tenants: [tenant-%02d], packs: [%s], start: 10h, settle: 1m, hold: 0s}\n",
			n, 5*(n/loadTenants), n%loadTenants, filepath.Join(dir, "pack.yaml"))
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "betrace.yaml"), []byte(config.String()), 0o600), os.WriteFile(filepath.Join(dir, "pack.yaml"), []byte(tracetest.Pack), 0o600)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.betrace, "serve", "--config", filepath.Join(dir, "betrace.yaml"))
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		stopped := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
		if err == nil && stopped != nil {
			err = fmt.Errorf("%w; the log ends with\n%s", stopped, log.Bytes()[max(log.Len()-2000, 0):])
		}
	}()
	figures := func() (map[string]float64, error) { return metrics(ctx, address) }
	// All blocks are judged, and each sweep has had a tick without new data.
	for deadline := time.Now().Add(20 * time.Minute); ; {
		m, err := figures()
		if err == nil && m["betrace_sweep_ticks_total"] >= 2*loadSweeps && m["betrace_sweep_blocks_judged_total"] >= loadSweeps*loadBlocks {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after 20 minutes: %.0f ticks, %.0f blocks judged (%w)", m["betrace_sweep_ticks_total"], m["betrace_sweep_blocks_judged_total"], err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
	before, err := figures()
	if err != nil {
		return err
	}
	b.progress("  %.0f blocks judged; idle for %s", before["betrace_sweep_blocks_judged_total"], b.idle)
	began := time.Now()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(b.idle):
	}
	after, err := figures()
	if err != nil {
		return err
	}
	took := time.Since(began)
	change := func(name string) float64 { return after[name] - before[name] }
	if judged := change("betrace_sweep_blocks_judged_total"); judged != 0 {
		return fmt.Errorf("%.0f blocks were judged in the idle time", judged)
	}
	b.progress("  %.0f ticks in %s", change("betrace_sweep_ticks_total"), took.Round(time.Second))
	b.print("idle_1000_sweeps_cores", change("process_cpu_seconds_total")/took.Seconds(), "cores")
	b.print("idle_1000_sweeps_rss_mib", after["process_resident_memory_bytes"]/(1<<20), "MiB")
	b.print("idle_database_writes_per_minute", change("betrace_state_commits_total")/took.Minutes(), "transactions/min")
	return nil
}

// metrics returns the sums of the service's metrics over their labels.
func metrics(ctx context.Context, address string) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	sums := map[string]float64{}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		name, _, _ := strings.Cut(line[:at], "{")
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, err
		}
		sums[name] += value
	}
	return sums, nil
}

// listing measures a tenant with many blocks: the time to list them, and the memory of a tick that judges all.
func listing(ctx context.Context, b *bench) (err error) {
	dir, err := os.MkdirTemp(b.dir, "listing-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	block, err := b.storedBlock(dir)
	if err != nil {
		return err
	}
	root := filepath.Join(dir, "blocks")
	if err := copyBlock(block, root, "tenant", manyBlocks); err != nil {
		return err
	}
	var seconds []float64
	for range b.repeat {
		store, err := blocks.OpenFolder(ctx, root)
		if err != nil {
			return err
		}
		began := time.Now()
		listed, err := store.List(ctx, "tenant")
		seconds = append(seconds, time.Since(began).Seconds())
		if err := errors.Join(err, store.Close()); err != nil {
			return err
		}
		if len(listed.Live) != manyBlocks {
			return fmt.Errorf("%d of %d blocks were listed", len(listed.Live), manyBlocks)
		}
	}
	config := filepath.Join(dir, "betrace.yaml")
	text := fmt.Sprintf("state: %s\ntempo: {blocks: \"file://%s\"}\nsweeps:\n  - {name: all, schedule: \"*/5 * * * *\", packs: [%s], start: 10h, settle: 1m, hold: 0s}\n",
		filepath.Join(dir, "state.db"), filepath.ToSlash(root), filepath.Join(dir, "pack.yaml"))
	if err := errors.Join(os.WriteFile(config, []byte(text), 0o600), os.WriteFile(filepath.Join(dir, "pack.yaml"), []byte(tracetest.Pack), 0o600)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.betrace, "serve", "--once", "--config", config)
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // 1 is for violations
		return fmt.Errorf("betrace serve --once: %w\n%s", err, output)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("the memory of a process cannot be read on this system")
	}
	b.progress("  %s", bytes.TrimSpace(output[bytes.LastIndexByte(bytes.TrimSpace(output), '\n')+1:]))
	b.print("listing_10000_blocks_seconds", median(seconds), "s")
	b.print("listing_10000_blocks_tick_rss_mib", float64(usage.Maxrss)/1024, "MiB")
	return nil
}
