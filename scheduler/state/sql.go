package state

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The queries are written for SQLite and PostgreSQL: parameters are $1, $2 …; ON CONFLICT and RETURNING are in both.

// querier is the reading part of sql.DB and sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// queryAll returns the rows of a query.
func queryAll[T any](ctx context.Context, q querier, scan func(scanner, *T) error, query string, args ...any) ([]T, error) {
	var all []T
	err := queryEach(ctx, q, func(row scanner) error {
		var t T
		if err := scan(row, &t); err != nil {
			return err
		}
		all = append(all, t)
		return nil
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// queryEach calls f with each row of a query, until it returns an error.
func queryEach(ctx context.Context, q querier, f func(scanner) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return eachRow(rows, f)
}

func eachRow(rows *sql.Rows, f func(scanner) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// queryMap returns the rows of a query that has a key and a value.
func queryMap(ctx context.Context, q querier, query string) (map[string]string, error) {
	rows := map[string]string{}
	return rows, queryEach(ctx, q, func(row scanner) error {
		var key, value string
		err := row.Scan(&key, &value)
		rows[key] = value
		return err
	}, query)
}

// execAll executes a statement once for each row.
func execAll[T any](ctx context.Context, tx *sql.Tx, query string, rows []T, args func(*T) ([]any, error)) error {
	if len(rows) == 0 {
		return nil
	}
	stmt, err := tx.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	defer stmt.Close() //nolint:errcheck // it ends with the transaction at the latest
	for i := range rows {
		values, err := args(&rows[i])
		if err != nil {
			return err
		}
		if _, err := stmt.ExecContext(ctx, values...); err != nil {
			return err
		}
	}
	return nil
}

// insertSQL returns the statement that inserts a row with the given columns.
func insertSQL(table, columns string) string {
	n := strings.Count(columns, ",") + 1
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table, columns, placeholders(1, n))
}

// upsertSQL returns the statement that inserts a row with the given columns, or updates the one with the same key.
func upsertSQL(table, key, columns string) string {
	var set []string
	for column := range strings.SplitSeq(columns, ",") {
		column = strings.TrimSpace(column)
		set = append(set, column+" = excluded."+column)
	}
	return fmt.Sprintf("%s ON CONFLICT (%s) DO UPDATE SET %s", insertSQL(table, key+", "+columns), key, strings.Join(set, ", "))
}

// placeholders returns n parameters from number first on.
func placeholders(first, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(first + i))
	}
	return b.String()
}

var (
	minTime = time.Unix(0, math.MinInt64)
	maxTime = time.Unix(0, math.MaxInt64)
)

// nanos returns a time as a column has it: nanoseconds since 1970, and 0 for the zero time. Times before 1677 and
// after 2262 become these limits, which only broken metadata of blocks exceeds.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Before(minTime):
		return math.MinInt64
	case t.After(maxTime):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// nanoTime scans a column with a time.
type nanoTime time.Time

// Scan implements sql.Scanner.
func (t *nanoTime) Scan(value any) error {
	n, ok := value.(int64)
	if !ok {
		return fmt.Errorf("a time is a %T: want an integer of nanoseconds", value)
	}
	*t = nanoTime{}
	if n != 0 {
		*t = nanoTime(time.Unix(0, n).UTC())
	}
	return nil
}

// at makes t the destination of a column with a time.
func at(t *time.Time) *nanoTime { return (*nanoTime)(t) }
