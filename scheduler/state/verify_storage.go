package state

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// checkSchema compares the tables, indexes and triggers with those that the migrations create.
func (v *verifier) checkSchema(ctx context.Context) error {
	have, want, err := v.db.database.schema(ctx, v.db.q)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(want) {
		switch text, found := have[name]; {
		case !found:
			v.add("", 0, "the %s is missing", name)
		case text != want[name]:
			v.add("", 0, "the %s was changed", name)
		}
	}
	for _, name := range sortedKeys(have) {
		if _, found := want[name]; !found && strings.HasPrefix(name, "trigger ") {
			v.add("", 0, "the %s was added", name)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// checkPages lets the database check its own files.
func (v *verifier) checkPages(ctx context.Context) error {
	return v.db.database.damage(ctx, v.db.q, func(fault string) { v.add("", 0, "%s", fault) })
}

// blobPass is the number of blobs that one pass over the entries looks for. It takes 32 MiB.
var blobPass = 4 << 20

// checkBlobs finds blobs that no entry names. They show that the entry was deleted, or that the blob was added.
func (v *verifier) checkBlobs(ctx context.Context) error {
	for after := ""; ; {
		// The beginnings of their digests.
		var wanted []uint64
		seen := 0
		err := queryEach(ctx, v.db.q, func(row scanner) error {
			seen++
			if err := row.Scan(&after); err != nil {
				return err
			}
			if n, ok := beginning(after); ok {
				wanted = append(wanted, n)
			} else {
				v.add("", 0, "the blob %q is named by no entry", after)
			}
			return nil
		}, `SELECT digest FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2`, after, blobPass)
		if err != nil {
			return fmt.Errorf("blobs: %w", err)
		}
		if err := v.checkWanted(ctx, wanted); err != nil {
			return err
		}
		if seen < blobPass {
			return nil
		}
	}
}

// checkWanted reports the digests that no entry names. They are sorted.
func (v *verifier) checkWanted(ctx context.Context, wanted []uint64) error {
	if len(wanted) == 0 {
		return nil
	}
	named := make([]bool, len(wanted))
	tenants, err := v.db.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		for e, err := range v.db.Entries(ctx, tenant, 1, 0) {
			if err != nil {
				return err
			}
			digests, err := v.db.namedBlobs(ctx, e.Envelope)
			if err != nil {
				return err
			}
			for _, digest := range digests {
				n, ok := beginning(digest)
				if i, found := slices.BinarySearch(wanted, n); ok && found {
					named[i] = true
				}
			}
		}
	}
	for i, n := range wanted {
		if !named[i] {
			v.add("", 0, "the blob %016x… is named by no entry", n)
		}
	}
	return nil
}

// beginning returns the first digits of a digest as a number.
func beginning(digest string) (uint64, bool) {
	raw, err := hex.DecodeString(digest)
	if err != nil || len(raw) < 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(raw), true
}
