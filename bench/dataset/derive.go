package dataset

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/tempoclient/blocks"
)

// Part returns the first n blocks of a set, as hard links to its files.
func Part(ctx context.Context, of Data, n int) (Data, error) {
	return derived(ctx, of, fmt.Sprintf("first-%d", n), func(live []blocks.Meta, dir string) error {
		for _, m := range live[:min(n, len(live))] {
			if err := linkAll(filepath.Join(of.Dir, Tenant, m.ID), filepath.Join(dir, Tenant, m.ID)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Link fills dir with a set's blocks, as hard links. Files that are removed or renamed in dir stay in the
// set.
func Link(of Data, dir string) error { return linkAll(of.Dir, dir) }

func linkAll(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		old, name := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		if e.IsDir() {
			err = linkAll(old, name)
		} else {
			err = os.Link(old, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Cut returns a set's traces in n smaller blocks. The rows of each real block are dealt out in turn to
// its share of the small ones, so that each small block ranges over nearly all trace IDs, as the blocks
// of many ingesters do. The small blocks have the schema, the encodings and the order of rows of the real
// ones.
func Cut(ctx context.Context, of Data, n int) (Data, error) {
	return derived(ctx, of, fmt.Sprintf("cut-%d", n), func(live []blocks.Meta, dir string) error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(runtime.GOMAXPROCS(0))
		for i, m := range live {
			group.Go(func() error {
				share := n*(i+1)/len(live) - n*i/len(live)
				if err := cutBlock(ctx, filepath.Join(of.Dir, Tenant, m.ID), filepath.Join(dir, Tenant), share); err != nil {
					return fmt.Errorf("cut block %s: %w", m.ID, err)
				}
				return nil
			})
		}
		return group.Wait()
	})
}

// derived returns a set that is made from another set's blocks.
func derived(ctx context.Context, of Data, name string, fill func(live []blocks.Meta, dir string) error) (Data, error) {
	key := filepath.Base(filepath.Dir(of.Dir)) + "-" + name
	return cached(key, func(dir string) (Manifest, error) {
		live, _, err := inspect(ctx, of.Dir)
		if err != nil {
			return Manifest{}, err
		}
		dir = filepath.Join(dir, blocksName)
		if err := fill(live, dir); err != nil {
			return Manifest{}, err
		}
		made, spans, err := inspect(ctx, dir)
		if err != nil {
			return Manifest{}, err
		}
		m := Manifest{Spans: spans, Blocks: len(made), From: of.From, To: of.To}
		if spans == of.Spans {
			m = of.Manifest
			m.Blocks = len(made)
		}
		return m, nil
	})
}

// small is a block that is being written.
type small struct {
	dir    string
	id     string
	file   *os.File
	writer *parquet.GenericWriter[any]
	rows   int
}

// cutBlock deals out the rows of a block to n new blocks in dir.
func cutBlock(ctx context.Context, from, dir string, n int) (err error) {
	in, err := os.Open(filepath.Join(from, "data.parquet"))
	if err != nil {
		return err
	}
	defer in.Close()
	stat, err := in.Stat()
	if err != nil {
		return err
	}
	file, err := parquet.OpenFile(in, stat.Size(), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(1<<20))
	if err != nil {
		return err
	}
	parts := make([]*small, n)
	defer func() {
		for _, p := range parts {
			if p != nil {
				p.file.Close()
			}
		}
	}()
	for i := range parts {
		p := &small{id: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "%s/%d", filepath.Base(from), i)).String()}
		p.dir = filepath.Join(dir, p.id)
		if err := os.MkdirAll(p.dir, 0o755); err != nil {
			return err
		}
		if p.file, err = os.Create(filepath.Join(p.dir, "data.parquet")); err != nil {
			return err
		}
		p.writer = parquet.NewGenericWriter[any](p.file, file.Schema())
		parts[i] = p
	}
	if err := deal(ctx, file, parts); err != nil {
		return err
	}
	meta, err := os.ReadFile(filepath.Join(from, "meta.json"))
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := p.close(meta); err != nil {
			return err
		}
	}
	return nil
}

// deal appends the rows of a file to the parts in turn.
func deal(ctx context.Context, file *parquet.File, parts []*small) error {
	next := 0
	buf := make([]parquet.Row, 8)
	for _, group := range file.RowGroups() {
		rows := group.Rows()
		for {
			if ctx.Err() != nil {
				return errors.Join(context.Cause(ctx), rows.Close())
			}
			k, err := rows.ReadRows(buf)
			for _, row := range buf[:k] {
				p := parts[next%len(parts)]
				next++
				p.rows++
				if _, err := p.writer.WriteRows([]parquet.Row{row}); err != nil {
					return errors.Join(err, rows.Close())
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return errors.Join(err, rows.Close())
			}
		}
		if err := rows.Close(); err != nil {
			return err
		}
	}
	return nil
}

// close ends the file and writes the block's meta.json, derived from the real block's.
func (p *small) close(meta []byte) error {
	if err := p.writer.Close(); err != nil {
		return err
	}
	size, err := p.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	var tail [8]byte // the length of the footer and the magic number
	if _, err := p.file.ReadAt(tail[:], size-8); err != nil {
		return err
	}
	var fields map[string]any
	if err := json.Unmarshal(meta, &fields); err != nil {
		return err
	}
	fields["blockID"], fields["totalObjects"], fields["size"] = p.id, p.rows, size
	fields["footerSize"] = binary.LittleEndian.Uint32(tail[:4])
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, "meta.json"), text, 0o644)
}
