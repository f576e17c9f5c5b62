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

// version is part of a set's key. Increase it when the generated data changes.
const version = 1

// Tenant is the tenant that owns the blocks of the sets.
const Tenant = "single-tenant"

// Set defines a data set.
type Set struct {
	// Name identifies the set in one word.
	Name string
	// Spans is the minimum number of spans.
	Spans int
	// Blocks is the number of blocks that Tempo cuts.
	Blocks int
	// Dedicated stores the attributes of [Dedicated] in dedicated columns.
	Dedicated bool
	// Seed determines the traces.
	Seed uint64
}

// A has 8 of its 20 attributes in dedicated columns, in 12 blocks.
func A(spans int) Set { return Set{Name: "a", Spans: spans, Blocks: 12, Dedicated: true, Seed: 1} }

// B is A with generic attributes only.
func B(spans int) Set { return Set{Name: "b", Spans: spans, Blocks: 12, Seed: 1} }

// traces returns the number of traces that have at least the set's spans.
func (s Set) traces() int { return s.Spans*10/249 + 1 }

func (s Set) key() string {
	return fmt.Sprintf("v%d-%s-%d-spans-%d-blocks-seed-%d", version, s.Name, s.Spans, s.Blocks, s.Seed)
}

// Manifest describes the data of a set.
type Manifest struct {
	Spans  int64 `json:"spans"`
	Traces int   `json:"traces"`
	Blocks int   `json:"blocks"`
	// Structural counts the traces in which a span NameAbove has a descendant NameBelow. RareNames and
	// RareValues count the traces with a rare span.
	Structural int `json:"structural"`
	RareNames  int `json:"rare_names"`
	RareValues int `json:"rare_values"`
	// From and To bound the times of all spans.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Data is a set that exists in the cache.
type Data struct {
	Manifest
	// Dir is a folder with the layout of Tempo's local backend: <tenant>/<block ID>/….
	Dir string
}

// cacheDir returns the folder in which sets are kept.
func cacheDir() (string, error) {
	if dir := os.Getenv("BETRACE_BENCH_CACHE"); dir != "" {
		return dir, nil
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("data sets: no cache folder: %w: set BETRACE_BENCH_CACHE", err)
	}
	return filepath.Join(user, "betrace", "bench"), nil
}

// cached returns the data for a key. If it does not exist, fill makes it in an empty folder, which is
// renamed when it is complete. Thus existing data is always complete.
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
	defer os.RemoveAll(temp) //nolint:errcheck // the data was moved, or an error is returned
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
	if err := os.Rename(temp, path); err != nil && !errors.Is(err, fs.ErrExist) { // otherwise another process was first
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
		return Data{}, fmt.Errorf("data set: %s: %w: remove its folder", path, err)
	}
	return d, nil
}

// inspect counts the live blocks of a folder and their spans.
func inspect(ctx context.Context, dir string) (live []blocks.Meta, spans int64, err error) {
	store, err := blocks.OpenFolder(ctx, dir)
	if err != nil {
		return nil, 0, err
	}
	defer store.Close() //nolint:errcheck // read only
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
