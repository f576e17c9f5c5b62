package state

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// copiedTables are all tables but those about replicas, those that others refer to first.
var copiedTables = []string{
	"instance", "signing_keys", "blobs", "entries", "ledgers", "blocks", "sweeps", "loaded_rules", "holes", "violations", "corrections", "deliveries", "refused", "packs",
	"mutes", "canaries", "capped_lists", "capped_violations", "rule_sets",
}

// Copy copies all of one database into another, which must be empty, and returns the verification of the copy. The copy
// has the instance of the original, so it is the same state, and only one of the two may be used afterwards. Both must
// be open for writing. All rows are read back and compared before they are committed; then the copy is verified. The
// original must have no fault.
func Copy(ctx context.Context, from, to *DB) (*Verification, error) {
	before, err := from.Verify(ctx)
	switch {
	case err != nil:
		return nil, err
	case !before.OK():
		return nil, fmt.Errorf("state %s has faults, as betrace state verify shows, and is not copied: %s", from.Path(), before.Faults[0])
	}
	var instance string
	err = from.View(ctx, func(ctx context.Context, r *Reader) error {
		return to.Write(ctx, func(ctx context.Context, tx *Tx) error {
			instance = r.instance
			return copyAll(ctx, to.database, r.q, tx.tx)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("copy state %s to %s: %w", from.Path(), to.Path(), err)
	}
	to.instance = instance
	if to.isNew, err = to.isEmpty(ctx); err != nil {
		return nil, err
	}
	after, err := to.Verify(ctx)
	switch {
	case err != nil:
		return nil, err
	case !after.OK():
		return nil, fmt.Errorf("the copy %s has faults: %s: do not use it", to.Path(), after.Faults[0])
	}
	return after, nil
}

func copyAll(ctx context.Context, d database, from querier, to *sql.Tx) error {
	for _, table := range copiedTables[1:] {
		var used bool
		if err := to.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM `+table+`)`).Scan(&used); err != nil {
			return err
		}
		if used {
			return fmt.Errorf("the target is not empty: its table %s has rows: give a new file, or an empty database", table)
		}
	}
	if _, err := to.ExecContext(ctx, `DELETE FROM instance`); err != nil {
		return err
	}
	for _, table := range copiedTables {
		sent, err := copyTable(ctx, table, from, to)
		if err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
		var stored tableSum
		if err := readTable(ctx, to, table, stored.add); err != nil {
			return fmt.Errorf("table %s: read back: %w", table, err)
		}
		if sent != stored {
			return fmt.Errorf("table %s: %d rows were read back, and they are not the %d rows that were written", table, stored.rows, sent.rows)
		}
	}
	return d.numberOn(ctx, to)
}

// Bounds of the rows that are inserted by one statement. The driver of SQLite needs a time that grows with the square of the
// number of parameters.
const (
	copyRows  = 10
	copyBytes = 4 << 20
)

func copyTable(ctx context.Context, table string, from querier, to *sql.Tx) (sum tableSum, err error) {
	var names []string
	var pending []any
	var rows, bytes int
	booleans, err := booleanColumns(ctx, to, table)
	if err != nil {
		return sum, err
	}
	flush := func() error {
		if rows == 0 {
			return nil
		}
		var values []string
		for i := range rows {
			values = append(values, "("+placeholders(1+i*len(names), len(names))+")")
		}
		_, err := to.ExecContext(ctx, `INSERT INTO `+table+` (`+strings.Join(names, ", ")+`) VALUES `+strings.Join(values, ", "), pending...)
		pending, rows, bytes = pending[:0], 0, 0
		return err
	}
	err = readTable(ctx, from, table, func(columns []string, row []any) error {
		names = columns
		if err := sum.add(columns, row); err != nil {
			return err
		}
		for i, value := range row {
			switch v := value.(type) {
			case []byte:
				bytes += len(v)
				value = append([]byte{}, v...) // also an empty one, which the driver of SQLite returns as nil
			case int64:
				if slices.Contains(booleans, columns[i]) {
					value = v != 0
				}
			}
			pending = append(pending, value)
		}
		if rows++; rows == copyRows || bytes > copyBytes {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	return sum, err
}

// booleanColumns returns the columns that have a boolean type. SQLite has none.
func booleanColumns(ctx context.Context, q querier, table string) (names []string, err error) {
	rows, err := q.QueryContext(ctx, `SELECT * FROM `+table+` WHERE 1 = 0`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	for _, t := range types {
		if t.DatabaseTypeName() == "BOOL" {
			names = append(names, t.Name())
		}
	}
	return names, err
}

// readTable calls f with the names of the columns and the values of each row. The values are valid until f returns.
func readTable(ctx context.Context, q querier, table string, f func(columns []string, row []any) error) error {
	rows, err := q.QueryContext(ctx, `SELECT * FROM `+table)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	row, dest := make([]any, len(columns)), make([]any, len(columns))
	for i := range row {
		dest[i] = &row[i]
	}
	return eachRow(rows, func(rows scanner) error {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		return f(columns, row)
	})
}

// tableSum is a sum over the rows of a table, in any order. Equal rows have an equal sum in both databases.
type tableSum struct {
	rows int64
	sum  [4]uint64
}

func (s *tableSum) add(columns []string, row []any) error {
	h := sha256.New()
	for i, value := range row {
		var content []byte
		switch v := value.(type) {
		case int64:
			content = binary.BigEndian.AppendUint64(nil, uint64(v))
		case bool:
			content = binary.BigEndian.AppendUint64(nil, 0)
			if v {
				content[7] = 1
			}
		case string:
			content = []byte(v)
		case []byte:
			content = v
		default:
			return fmt.Errorf("column %s has a %T", columns[i], value)
		}
		fmt.Fprintf(h, "%s %d ", columns[i], len(content))
		h.Write(content) // a hash never fails
	}
	digest := h.Sum(nil)
	s.rows++
	for i := range s.sum {
		s.sum[i] += binary.BigEndian.Uint64(digest[i*8:])
	}
	return nil
}
