package reading

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/betracehq/betrace/tempoclient/blocks"
)

// variable is the environment variable that holds the reading for a child process.
const variable = "BETRACE_BENCH_READING"

// Child performs the reading for which [Reading.Apart] started this process, and reports whether there
// was one. A program that uses Apart must call Child first.
func Child(ctx context.Context) (was bool, err error) {
	text := os.Getenv(variable)
	if text == "" {
		return false, nil
	}
	var r Reading
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return true, fmt.Errorf("%s: %w", variable, err)
	}
	debug.SetMemoryLimit(blocks.MemoryLimit(blocks.DefaultMemoryBytes)) // as betrace sets it
	result, err := r.Run(ctx)
	if err != nil {
		return true, err
	}
	if result.PeakMiB, err = peakMiB(); err != nil {
		return true, err
	}
	return true, json.NewEncoder(os.Stdout).Encode(result)
}

// Apart reads in a process of its own, which measures its memory.
func (r Reading) Apart(ctx context.Context) (Result, error) {
	program, err := os.Executable()
	if err != nil {
		return Result{}, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return Result{}, err
	}
	cores := r.Cores
	if cores == 0 {
		cores = Cores
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), variable+"="+string(text), "GOMAXPROCS="+strconv.Itoa(cores))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return Result{}, fmt.Errorf("read %s in a process of its own: %w", r.Dir, err)
	}
	var result Result
	if err := json.Unmarshal(out, &result); err != nil {
		return Result{}, fmt.Errorf("read %s in a process of its own: %w", r.Dir, err)
	}
	return result, nil
}

// peakMiB returns the peak resident memory of this process.
func peakMiB() (float64, error) {
	const path, field = "/proc/self/status", "VmHWM:"
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("peak memory is available on Linux only: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), field); ok {
			kb := 0.0
			_, err := fmt.Sscanf(rest, "%f kB", &kb)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, field)
}
