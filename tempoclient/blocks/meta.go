package blocks

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// The names of a block's objects that are read. Tempo marks a block as compacted by renaming its meta.json.
const (
	metaName          = "meta.json"
	compactedMetaName = "meta.compacted.json"
	dataName          = "data.parquet"
)

// metaConcurrency bounds the number of blocks that are listed or opened concurrently.
const metaConcurrency = 16

// Meta is the content of a block's meta.json (tempodb/backend/block_meta.go). Its times may reflect
// arrival times, so they must not be used to skip a block.
type Meta struct {
	Version           string            `json:"format"`
	ID                string            `json:"blockID"`
	Tenant            string            `json:"tenantID"`
	Start             time.Time         `json:"startTime"`
	End               time.Time         `json:"endTime"`
	Traces            int               `json:"totalObjects"`
	Size              int64             `json:"size"`
	CompactionLevel   int               `json:"compactionLevel"`
	DedicatedColumns  []DedicatedColumn `json:"dedicatedColumns"`
	ReplicationFactor int               `json:"replicationFactor"`
	FooterSize        int64             `json:"footerSize"`
	// Written is the latest modification time of the block's objects in the listing, by the clock of the
	// storage.
	Written time.Time `json:"-"`

	data stamp // of data.parquet in the listing
}

// DedicatedColumn assigns an attribute to the next free dedicated column of its scope and type.
type DedicatedColumn struct {
	Scope   string   `json:"s"` // "span" (also ""), "resource", "event"
	Name    string   `json:"n"`
	Type    string   `json:"t"` // "string" (also ""), "int"
	Options []string `json:"o"` // "array", "blob"
}

func (c DedicatedColumn) equal(d DedicatedColumn) bool {
	return c.Scope == d.Scope && c.Name == d.Name && c.Type == d.Type && slices.Equal(c.Options, d.Options)
}

// stamp identifies the content of an object: its size and modification time in a listing. It is zero if the
// object is not listed.
type stamp struct{ size, modified int64 }

// readMeta reads the object with the name, which is that of a live or a compacted block.
func (l *lister) readMeta(ctx context.Context, id, name string) (Meta, error) {
	key := path.Join(l.tenant, id, name)
	var m Meta
	err := l.retried(ctx, func() error {
		ctx, w := l.watch(ctx)
		defer w.end()
		l.stats.requests.Add(1)
		b, err := l.bucket.ReadAll(ctx, key)
		if err != nil {
			return fmt.Errorf("read %s: %w", key, w.why(ctx, err))
		}
		l.stats.bytes.Add(int64(len(b)))
		m = Meta{}
		if err := json.Unmarshal(b, &m); err != nil { // also if the body was cut off
			return fmt.Errorf("%s is not a meta.json: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return Meta{}, err
	}
	if m.ID != id {
		return Meta{}, fmt.Errorf("%s is of block %q: it was copied from there", key, m.ID)
	}
	m.Tenant = cmp.Or(m.Tenant, l.tenant)
	return m, nil
}

// readMetas reads the object with the name of each block, concurrently. It returns an error only if the
// context ends.
func (l *lister) readMetas(ctx context.Context, ids []string, name string) ([]Meta, []error, error) {
	metas, errs := make([]Meta, len(ids)), make([]error, len(ids))
	var group errgroup.Group
	group.SetLimit(metaConcurrency)
	for i, id := range ids {
		group.Go(func() error {
			metas[i], errs[i] = l.readMeta(ctx, id, name)
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, fmt.Errorf("blocks at %s: list %s/: %w", l.url, l.tenant, err)
	}
	return metas, errs, nil
}
