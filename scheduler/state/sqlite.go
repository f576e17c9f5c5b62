package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteFile is a database in a file, which one process at a time may open for writing.
type sqliteFile struct {
	path string
	// unlock releases the lock file. It is nil if the database is read only.
	unlock func()
}

func newSQLite(path string) (*sqliteFile, error) {
	resolved, err := resolve(path)
	if err != nil {
		return nil, err
	}
	return &sqliteFile{path: resolved}, nil
}

func (f *sqliteFile) String() string { return f.path }

// resolve returns the absolute path without symbolic links, so that each database has one lock file.
func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("state: no file is given: set state to a path")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("state: %w", err)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("state %s: the folder %s does not exist: create it, or give another path", path, filepath.Dir(abs))
	} else if err != nil {
		return "", fmt.Errorf("state: %w", err)
	}
	return filepath.Join(dir, filepath.Base(abs)), nil
}

// prepare takes the lock, and creates the file if there is none.
func (f *sqliteFile) prepare() error {
	unlock, err := lockFile(f.path)
	if err != nil {
		return err
	}
	f.unlock = unlock
	// SQLite creates files that everyone may read; violations may contain confidential data.
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return fmt.Errorf("state %s: %w", f.path, err)
	}
	return file.Close()
}

func (f *sqliteFile) clock() string { return `CAST(unixepoch('subsec') * 1000000000 AS INTEGER)` }

func (f *sqliteFile) isShared() bool { return false }

func (f *sqliteFile) release() {
	if f.unlock != nil {
		f.unlock()
	}
}

// exists returns an error if the file does not exist, or cannot be read.
func (f *sqliteFile) exists() error {
	switch file, err := os.Open(f.path); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("state %s does not exist: give the file of a service that has run", f.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("state: %w: run the command as the user of the service", err)
	case err != nil:
		return fmt.Errorf("state: %w", err)
	default:
		return file.Close()
	}
}

// Settings of every connection. A commit returns when its data is on the disk (FULL). A reading process may have to
// wait for a moment while another one opens or closes the file.
var pragmas = []string{"busy_timeout(10000)", "foreign_keys(1)", "cache_size(-16000)"}

func (f *sqliteFile) connect(n int, write bool) (*sql.DB, error) {
	query := url.Values{"mode": {"ro"}, "_pragma": append([]string{}, pragmas...)}
	if write {
		query.Set("mode", "rw")
		query["_pragma"] = append(query["_pragma"], "journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(67108864)")
		// A transaction that begins as a reader could find, at its first change, that it is too late.
		query.Set("_txlock", "immediate")
	}
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(f.path)}).EscapedPath(), RawQuery: query.Encode()}
	pool, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	return pool, nil
}

// lockSchema does nothing: the file is locked.
func (f *sqliteFile) lockSchema(context.Context, *sql.DB) (func(), error) { return func() {}, nil }

// applicationID is the number that the first migration stores in the header of the file.
const applicationID = 1113937010

func (f *sqliteFile) schemaVersion(ctx context.Context, q querier) (int64, error) {
	var tables, id int64
	if err := q.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE type = 'table'`).Scan(&tables); isCannotOpen(err) {
		return 0, fmt.Errorf("%w: to read a database that no service has open, the user must be permitted to write to its folder: run the command as the user of the service, or read a backup", err)
	} else if err != nil {
		return 0, err
	}
	if tables == 0 {
		return 0, nil
	}
	if err := q.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id); err != nil {
		return 0, err
	}
	var versions sql.NullInt64
	err := q.QueryRowContext(ctx, appliedVersion).Scan(&versions)
	// A start that was interrupted may have left the empty table of versions alone.
	if id != applicationID && (err != nil || versions.Int64 != 0 || tables > 2) {
		return 0, errors.New("the file is a database of another program: give another path")
	}
	return versions.Int64, err
}

// isCannotOpen reports whether SQLite could not open the file, or a file beside it.
func isCannotOpen(err error) bool {
	var problem *sqlite.Error
	return errors.As(err, &problem) && (problem.Code()&0xff == sqlite3.SQLITE_CANTOPEN || problem.Code()&0xff == sqlite3.SQLITE_READONLY)
}

func (f *sqliteFile) migrations() (goose.Dialect, string) {
	return goose.DialectSQLite3, "migrations/sqlite"
}

func (f *sqliteFile) begin(ctx context.Context, write *sql.DB) (*sql.Tx, string, error) {
	tx, err := write.BeginTx(ctx, nil)
	return tx, "", err
}

// settle returns the error: SQLite commits or reports.
func (f *sqliteFile) settle(_ context.Context, _ *sql.DB, _ string, err error) error { return err }

func (f *sqliteFile) viewOptions() *sql.TxOptions { return nil }

// schema returns the statements that create the parts of the schema. The table of goose and the parts that SQLite creates
// by itself are left out.
func (f *sqliteFile) schema(ctx context.Context, q querier) (have, want map[string]string, err error) {
	fresh, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return nil, nil, err
	}
	defer fresh.Close()      //nolint:errcheck // it is in memory
	fresh.SetMaxOpenConns(1) // each connection has its own database
	if err := migrate(ctx, f, fresh, discard); err != nil {
		return nil, nil, err
	}
	const query = `SELECT type || ' ' || name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND tbl_name NOT IN ('goose_db_version', 'sqlite_sequence')`
	if want, err = queryMap(ctx, fresh, query); err != nil {
		return nil, nil, err
	}
	have, err = queryMap(ctx, q, query)
	return have, want, err
}

// damage lets SQLite check its pages and indexes.
func (f *sqliteFile) damage(ctx context.Context, q querier, add func(string)) error {
	return queryEach(ctx, q, func(row scanner) error {
		var text string
		if err := row.Scan(&text); err != nil {
			return err
		}
		if text != "ok" {
			add("the file is damaged: " + text)
		}
		return nil
	}, `PRAGMA integrity_check(10)`)
}

// numberOn does nothing: SQLite takes the number after the highest one.
func (f *sqliteFile) numberOn(context.Context, *sql.Tx) error { return nil }

// size returns the bytes of the file and of its write-ahead log.
func (f *sqliteFile) size(context.Context, *sql.DB) (int64, error) {
	var size int64
	for _, file := range []string{f.path, f.path + "-wal"} {
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) && file != f.path {
			continue // there is a log only while the database is open for writing
		}
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}
