// Package pages decodes the pages of columns of Tempo's blocks and discards them. This is the minimum
// cost of reading those columns for any reader. The package has its own description of the blocks'
// layout, so that a source of traces is compared with independent code.
package pages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/tempoclient/blocks"
)

// Blocks are the open blocks of a folder.
type Blocks struct {
	blocks []block
}

type block struct {
	meta  blocks.Meta
	disk  *os.File
	file  *parquet.File
	paths []string // of the leaves, without the groups "list" and "element"
}

// Open opens the live blocks of a tenant in a folder of Tempo's local backend.
func Open(ctx context.Context, dir, tenant string) (*Blocks, error) {
	store, err := blocks.OpenFolder(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer store.Close() //nolint:errcheck // read only
	listing, err := store.List(ctx, tenant)
	if err != nil {
		return nil, err
	}
	var all Blocks
	for _, m := range listing.Live {
		b, err := open(filepath.Join(dir, tenant, m.ID, "data.parquet"))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("block %s: %w", m.ID, err), all.Close())
		}
		b.meta = m
		all.blocks = append(all.blocks, b)
	}
	return &all, nil
}

func open(path string) (block, error) {
	f, err := os.Open(path)
	if err != nil {
		return block{}, err
	}
	stat, err := f.Stat()
	if err != nil {
		return block{}, errors.Join(err, f.Close())
	}
	file, err := parquet.OpenFile(f, stat.Size(), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(256<<10))
	if err != nil {
		return block{}, errors.Join(err, f.Close())
	}
	b := block{disk: f, file: file}
	for _, path := range file.Schema().Columns() {
		path = slices.DeleteFunc(slices.Clone(path), func(name string) bool { return name == "list" || name == "element" })
		b.paths = append(b.paths, strings.Join(path, "."))
	}
	return b, nil
}

// Close closes the blocks.
func (b *Blocks) Close() error {
	var errs []error
	for _, one := range b.blocks {
		errs = append(errs, one.disk.Close())
	}
	return errors.Join(errs...)
}

// Decode reads and decodes all pages, levels and values, of the intrinsic columns and of the columns that
// hold the attributes. The number of goroutines applies over row groups and columns. Attributes are named
// span.<key>, resource.<key> or, for either scope, .<key>.
func (b *Blocks) Decode(ctx context.Context, attributes []string, goroutines int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(goroutines)
	for _, one := range b.blocks {
		for _, leaf := range one.leaves(attributes) {
			for _, rows := range one.file.RowGroups() {
				group.Go(func() error { return drain(ctx, rows.ColumnChunks()[leaf].Pages()) })
			}
		}
	}
	return group.Wait()
}

func drain(ctx context.Context, pages parquet.Pages) error {
	defer pages.Close()
	for ctx.Err() == nil {
		p, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		parquet.Release(p)
	}
	return context.Cause(ctx)
}

// Bytes returns the number of bytes that Decode reads, and the number of columns.
func (b *Blocks) Bytes(attributes []string) (bytes int64, columns int) {
	for _, one := range b.blocks {
		leaves := one.leaves(attributes)
		columns = max(columns, len(leaves))
		for _, g := range one.file.Metadata().RowGroups {
			for _, leaf := range leaves {
				bytes += g.Columns[leaf].MetaData.TotalCompressedSize
			}
		}
	}
	return bytes, columns
}

const (
	resource = "rs.Resource."
	span     = "rs.ss.Spans."
)

// intrinsic are the columns of the fields that rules can read of every span: IDs, tree, name, service,
// times, kind and status.
var intrinsic = []string{
	"TraceID", resource + "ServiceName",
	span + "SpanID", span + "ParentSpanID", span + "Name", span + "Kind", span + "StartTimeUnixNano", span + "DurationNano", span + "StatusCode",
}

// prefixes are the columns of the scopes, by the first part of an attribute's name.
var prefixes = map[string][]string{"span": {span}, "resource": {resource}, "": {span, resource}}

// leaves returns the indices of the needed columns: the intrinsic ones, the columns of attributes that
// have their own, and for the others the five columns of the key-value rows. An unscoped attribute that
// has a column of its own in one scope is read only there, which is the minimum for any reader.
func (b block) leaves(attributes []string) []int {
	paths := map[string]bool{}
	for _, p := range intrinsic {
		paths[p] = true
	}
	own := b.own()
	for _, name := range attributes {
		scope, key, _ := strings.Cut(name, ".")
		generic := true
		for _, prefix := range prefixes[scope] {
			if path, ok := own[prefix+key]; ok {
				paths[path] = true
				generic = false
			}
		}
		for _, prefix := range prefixes[scope] {
			if !generic {
				break
			}
			for _, name := range []string{"Key", "Value", "ValueInt", "ValueDouble", "ValueBool"} {
				paths[prefix+"Attrs."+name] = true
			}
		}
	}
	var leaves []int
	for i, p := range b.paths {
		if paths[p] {
			leaves = append(leaves, i)
		}
	}
	return leaves
}

// own returns the paths of the columns for single attributes, by scope and key.
func (b block) own() map[string]string {
	own, used := map[string]string{resource + "service.name": resource + "ServiceName"}, map[string]int{}
	for _, c := range b.meta.DedicatedColumns {
		prefix := span
		if c.Scope == "resource" {
			prefix = resource
		}
		used[prefix]++
		own[prefix+c.Name] = fmt.Sprintf("%sDedicatedAttributes.String%02d", prefix, used[prefix])
	}
	return own
}
