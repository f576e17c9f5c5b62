package blocks

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/trace/columnar"
)

// Impatient makes the store wait less before a retry and for stalled requests.
func (s *Store) Impatient(pause, stall time.Duration) *Store {
	s.pause, s.stall = pause, stall
	return s
}

// InParts sets the number of bytes that one request reads ahead.
func (s *Store) InParts(bytes int64) *Store {
	s.partBytes = bytes
	return s
}

// RegionOf returns the region of an endpoint of S3.
func RegionOf(endpoint string) string {
	c := s3Config{Endpoint: endpoint}
	return c.region()
}

// WholeParts returns the sizes of the parts in which columns of a block are read as a whole. Needed
// columns and others alternate.
func WholeParts(columns []int64) (parts []int64) {
	var ranges []byteRange
	at := int64(0)
	for i, size := range columns {
		if i%2 == 0 {
			ranges = append(ranges, byteRange{at, at + size})
		}
		at += size
	}
	for _, p := range wholeParts(ranges, at, 0) {
		parts = append(parts, p.to-p.from)
	}
	return parts
}

// SpoolFiles is the number of files for data that is read ahead together.
const SpoolFiles = spoolFiles

// Near makes the store read nothing ahead.
func (s *Store) Near() *Store {
	s.near = true
	return s
}

// ReadPages decodes the pages of the needed columns of a tenant's blocks and discards them, which is the
// minimum cost of reading.
func (s *Store) ReadPages(ctx context.Context, tenant string, needs columnar.Needs) error {
	listing, err := s.List(ctx, tenant)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(2)
	for _, m := range listing.Live {
		b, err := s.open(ctx, m, &readStats{})
		if err != nil {
			return err
		}
		info, err := s.Inspect(ctx, m)
		if err != nil {
			return err
		}
		for path := range info.neededColumns(needs) {
			l, ok := b.cols[path]
			if !ok {
				continue
			}
			file, err := openParquet(b.object.readerAt(ctx), b.size)
			if err != nil {
				return err
			}
			for _, g := range file.RowGroups() {
				group.Go(func() error { return drain(g.ColumnChunks()[l.index].Pages()) })
			}
		}
	}
	return group.Wait()
}

func drain(pages parquet.Pages) error {
	defer pages.Close()
	for {
		p, err := pages.ReadPage()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		parquet.Release(p)
	}
}

// TempoConfigURL returns the URL of the storage in the configuration file of a Tempo.
func TempoConfigURL(path string) (string, error) {
	var c tempoConfig
	if err := readTempoConfig(path, &c); err != nil {
		return "", err
	}
	return c.url()
}
