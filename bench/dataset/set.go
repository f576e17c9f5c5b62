package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/betracehq/betrace/tempoclient/blocks"
)

// version is part of a set's key: raise it whenever other data is made.
const version = 1

// Tenant is whose blocks the sets are.
const Tenant = "single-tenant"

// Set says what is made.
type Set struct {
	// Name is a word for the set.
	Name string
	// Spans is how many spans it has at least.
	Spans int
	// Blocks is how many blocks Tempo cuts.
	Blocks int
	// Dedicated gives the attributes of [Dedicated] columns of their own.
	Dedicated bool
	// Seed decides what the traces hold.
	Seed uint64
}

// A has 8 of its 20 attributes in dedicated columns, in 12 blocks.
func A(spans int) Set { return Set{Name: "a", Spans: spans, Blocks: 12, Dedicated: true, Seed: 1} }

// B is A with all attributes generic.
func B(spans int) Set { return Set{Name: "b", Spans: spans, Blocks: 12, Seed: 1} }

// traces is how many traces have at least the set's spans.
func (s Set) traces() int { return s.Spans*10/249 + 1 }

func (s Set) key() string {
	return fmt.Sprintf("v%d-%s-%d-spans-%d-blocks-seed-%d", version, s.Name, s.Spans, s.Blocks, s.Seed)
}

// Manifest says what a set holds.
type Manifest struct {
	Spans  int64 `json:"spans"`
	Traces int   `json:"traces"`
	Blocks int   `json:"blocks"`
	// Structural counts the traces in which a span NameAbove has one NameBelow
	// beneath it; RareNames and RareValues those with a rare span.
	Structural int `json:"structural"`
	RareNames  int `json:"rare_names"`
	RareValues int `json:"rare_values"`
	// From and To bound the times of all spans.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Data is a set that was made.
type Data struct {
	Manifest
	// Dir is a folder as Tempo's local backend has it: <tenant>/<block ID>/….
	Dir string
}

// cacheDir returns where sets are kept.
func cacheDir() (string, error) {
	if dir := os.Getenv("BETRACE_BENCH_CACHE"); dir != "" {
		return dir, nil
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("data sets: no cache folder: %w; set BETRACE_BENCH_CACHE", err)
	}
	return filepath.Join(user, "betrace", "bench"), nil
}

// cached returns the data of a key, which fill makes in an empty folder if it is not
// there yet. What is there is whole: it was moved there when it was.
func cached(key string, fill func(dir string) (Manifest, error)) (Data, error) {
	cache, err := cacheDir()
	if err != nil {
		return Data{}, err
	}
	path := filepath.Join(cache, key)
	if d, err := load(path); !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Data{}, fmt.Errorf("data sets: %w", err)
	}
	temp, err := os.MkdirTemp(cache, ".making-")
	if err != nil {
		return Data{}, fmt.Errorf("data sets: %w", err)
	}
	defer os.RemoveAll(temp) //nolint:errcheck // the data is there or the error that it is not
	manifest, err := fill(temp)
	if err != nil {
		return Data{}, fmt.Errorf("data set %s: %w", key, err)
	}
	text, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return Data{}, fmt.Errorf("data set %s: %w", key, err)
	}
	if err := os.WriteFile(filepath.Join(temp, manifestName), text, 0o644); err != nil {
		return Data{}, fmt.Errorf("data set %s: %w", key, err)
	}
	if err := os.Rename(temp, path); err != nil && !errors.Is(err, fs.ErrExist) { // else another process was first
		return Data{}, fmt.Errorf("data set %s: %w", key, err)
	}
	return load(path)
}

const (
	manifestName = "manifest.json"
	blocksName   = "blocks"
)

func load(path string) (Data, error) {
	text, err := os.ReadFile(filepath.Join(path, manifestName))
	if err != nil {
		return Data{}, fmt.Errorf("data set: %w", err)
	}
	d := Data{Dir: filepath.Join(path, blocksName)}
	if err := json.Unmarshal(text, &d.Manifest); err != nil {
		return Data{}, fmt.Errorf("data set: %s: %w; remove its folder", path, err)
	}
	return d, nil
}

// inspect counts the live blocks of a folder and their spans.
func inspect(ctx context.Context, dir string) (live []blocks.Meta, spans int64, err error) {
	store, err := blocks.OpenFolder(ctx, dir)
	if err != nil {
		return nil, 0, err
	}
	defer store.Close() //nolint:errcheck // it was only read
	listing, err := store.List(ctx, Tenant)
	if err != nil {
		return nil, 0, err
	}
	for _, m := range listing.Live {
		info, err := store.Inspect(ctx, m)
		if err != nil {
			return nil, 0, err
		}
		spans += info.Spans
	}
	return listing.Live, spans, nil
}
