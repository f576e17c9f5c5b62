package state

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/klauspost/compress/zstd"
)

const (
	entryColumns = "tenant, number, kind, time, digest, previous, envelope"
	keyColumns   = "pem, added, retired"
)

var (
	insertEntry = insertSQL("entries", entryColumns)
	upsertKey   = upsertSQL("signing_keys", "id", keyColumns)
)

func scanEntry(row scanner, e *Entry) error {
	return row.Scan(&e.Tenant, &e.Number, &e.Kind, at(&e.Time), &e.Digest, &e.Previous, &e.Envelope)
}

// LastEntry returns the last entry of a tenant. It reports false if there is none.
func (r *Reader) LastEntry(ctx context.Context, tenant string) (Entry, bool, error) {
	var e Entry
	err := scanEntry(r.q.QueryRowContext(ctx, `SELECT `+entryColumns+` FROM entries WHERE tenant = $1 ORDER BY number DESC LIMIT 1`, tenant), &e)
	if errors.Is(err, sql.ErrNoRows) {
		return Entry{}, false, nil
	}
	if err != nil {
		return Entry{}, false, fmt.Errorf("state: last entry of tenant %q: %w", tenant, err)
	}
	return e, true, nil
}

// AppendEntry appends an entry to the log of its tenant. Its number must follow that of the last entry, its Previous
// must be the digest of the last entry, and its Digest that of its envelope.
func (tx *Tx) AppendEntry(ctx context.Context, e Entry) error {
	last, _, err := tx.LastEntry(ctx, e.Tenant)
	if err != nil {
		return err
	}
	digest := digestOf(e.Envelope)
	switch {
	case e.Number != last.Number+1:
		return fmt.Errorf("state: entry %d of tenant %q: the last entry has number %d", e.Number, e.Tenant, last.Number)
	case e.Previous != last.Digest:
		return fmt.Errorf("state: entry %d of tenant %q: its previous digest is %q, and the last entry has %q", e.Number, e.Tenant, e.Previous, last.Digest)
	case e.Digest != digest:
		return fmt.Errorf("state: entry %d of tenant %q: its digest is %q, and its envelope has %q", e.Number, e.Tenant, e.Digest, digest)
	}
	if _, err := tx.tx.ExecContext(ctx, insertEntry, e.Tenant, e.Number, e.Kind, nanos(e.Time), e.Digest, e.Previous, e.Envelope); err != nil {
		return fmt.Errorf("state: append entry %d of tenant %q: %w", e.Number, e.Tenant, err)
	}
	return nil
}

// entryPage is the number of entries that are read at once. Each has at most 32 KiB.
const entryPage = 128

// Entries iterates over the entries of a tenant with numbers from from to to, both inclusive. If to is 0, it
// continues to the last one.
func (r *Reader) Entries(ctx context.Context, tenant string, from, to int64) iter.Seq2[Entry, error] {
	if to == 0 {
		to = math.MaxInt64
	}
	return func(yield func(Entry, error) bool) {
		for from <= to {
			page, err := r.pageOfEntries(ctx, tenant, from, to)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if len(page) < entryPage {
				return
			}
			from = page[len(page)-1].Number + 1
		}
	}
}

// pageOfEntries returns the first entries in the range. After fewer than entryPage there are no more.
func (r *Reader) pageOfEntries(ctx context.Context, tenant string, from, to int64) ([]Entry, error) {
	page, err := queryAll(ctx, r.q, scanEntry,
		`SELECT `+entryColumns+` FROM entries WHERE tenant = $1 AND number >= $2 AND number <= $3 ORDER BY number LIMIT $4`, tenant, from, to, entryPage)
	if err != nil {
		return nil, fmt.Errorf("state: entries of tenant %q from %d: %w", tenant, from, err)
	}
	return page, nil
}

// Tenants returns the tenants with entries, in order.
func (r *Reader) Tenants(ctx context.Context) ([]string, error) {
	var tenants []string
	// One search of the index for each tenant. Databases read the whole index for SELECT DISTINCT.
	for query, args := `SELECT min(tenant) FROM entries`, []any(nil); ; {
		var next sql.NullString
		if err := r.q.QueryRowContext(ctx, query, args...).Scan(&next); err != nil {
			return nil, fmt.Errorf("state: tenants: %w", err)
		}
		if !next.Valid {
			return tenants, nil
		}
		tenants = append(tenants, next.String)
		query, args = `SELECT min(tenant) FROM entries WHERE tenant > $1`, []any{next.String}
	}
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// maxBlobBytes bounds the memory for one blob.
const maxBlobBytes = 1 << 30

var (
	blobEncoder = must(zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true)))
	blobDecoder = must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlobBytes)))
)

// must returns the value of a constructor that fails for wrong options only.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// PutBlob stores content under its digest, the SHA-256 in hexadecimal, which it returns.
func (tx *Tx) PutBlob(ctx context.Context, content []byte) (string, error) {
	digest := digestOf(content)
	if len(content) > maxBlobBytes {
		return "", fmt.Errorf("state: blob %s has %d bytes: at most %d can be stored", digest, len(content), maxBlobBytes)
	}
	_, err := tx.tx.ExecContext(ctx, `INSERT INTO blobs (digest, size, content) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING`,
		digest, len(content), blobEncoder.EncodeAll(content, nil))
	if err != nil {
		return "", fmt.Errorf("state: put blob %s: %w", digest, err)
	}
	return digest, nil
}

// Blob returns the content with the given digest. It is an error if there is none or if the content has another digest.
func (r *Reader) Blob(ctx context.Context, digest string) ([]byte, error) {
	var stored []byte
	err := r.q.QueryRowContext(ctx, `SELECT content FROM blobs WHERE digest = $1`, digest).Scan(&stored)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("state: blob %s does not exist", digest)
	}
	if err != nil {
		return nil, fmt.Errorf("state: blob %s: %w", digest, err)
	}
	content, err := blobDecoder.DecodeAll(stored, nil)
	if err != nil {
		return nil, fmt.Errorf("state: blob %s: %w", digest, err)
	}
	if have := digestOf(content); have != digest {
		return nil, fmt.Errorf("state: blob %s: its content has the digest %s", digest, have)
	}
	return content, nil
}

// PutKey adds or updates a key.
func (tx *Tx) PutKey(ctx context.Context, k Key) error {
	if _, err := tx.tx.ExecContext(ctx, upsertKey, k.ID, k.PEM, nanos(k.Added), nanos(k.Retired)); err != nil {
		return fmt.Errorf("state: put key %s: %w", k.ID, err)
	}
	return nil
}

// Keys returns the keys in the order of their addition.
func (r *Reader) Keys(ctx context.Context) ([]Key, error) {
	keys, err := queryAll(ctx, r.q, func(row scanner, k *Key) error {
		return row.Scan(&k.ID, &k.PEM, at(&k.Added), at(&k.Retired))
	}, `SELECT id, `+keyColumns+` FROM signing_keys ORDER BY added, id`)
	if err != nil {
		return nil, fmt.Errorf("state: keys: %w", err)
	}
	return keys, nil
}
