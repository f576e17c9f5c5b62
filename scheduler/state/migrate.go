package state

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed migrations/sqlite/*.sql
var migrations embed.FS

const sqliteMigrations = "migrations/sqlite"

// applicationID is the number that the first migration stores in the header of the file.
const applicationID = 1113937010

// newestVersion returns the schema version that this program writes.
func newestVersion() int64 {
	var newest int64
	files, err := fs.ReadDir(migrations, sqliteMigrations)
	if err != nil {
		panic(err) // the folder is part of the program
	}
	for _, file := range files {
		version, err := goose.NumericComponent(path.Base(file.Name()))
		if err != nil {
			panic(err)
		}
		newest = max(newest, version)
	}
	return newest
}

// schemaVersion returns the version of the database, or 0 if it is empty. It changes nothing.
func schemaVersion(ctx context.Context, db *sql.DB) (int64, error) {
	var tables, id int64
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE type = 'table'`).Scan(&tables); err != nil {
		return 0, err
	}
	if tables == 0 {
		return 0, nil
	}
	if err := db.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id); err != nil {
		return 0, err
	}
	var versions sql.NullInt64
	err := db.QueryRowContext(ctx, `SELECT max(version_id) FROM goose_db_version WHERE is_applied`).Scan(&versions)
	// A start that was interrupted may have left the empty table of versions alone.
	if id != applicationID && (err != nil || versions.Int64 != 0 || tables > 2) {
		return 0, errors.New("the file is a database of another program: give another path")
	}
	return versions.Int64, err
}

func newerError(version, newest int64) error {
	return fmt.Errorf("its schema version is %d, and this version of betrace supports versions up to %d: use a newer betrace, or restore a backup from before the upgrade", version, newest)
}

// migrate brings the database to the newest version. Each migration is a transaction.
func migrate(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	version, err := schemaVersion(ctx, db)
	if err != nil {
		return err
	}
	newest := newestVersion()
	if version > newest {
		return newerError(version, newest)
	}
	if version == newest {
		return nil
	}
	files, err := fs.Sub(migrations, sqliteMigrations)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	// The provider is not closed, because that would close the database.
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate from schema version %d to %d: %w", version, newest, err)
	}
	log.InfoContext(ctx, "state migrated", "from", version, "to", newest)
	return nil
}

// isCannotOpen reports whether SQLite could not open the file, or a file beside it.
func isCannotOpen(err error) bool {
	var problem *sqlite.Error
	return errors.As(err, &problem) && (problem.Code()&0xff == sqlite3.SQLITE_CANTOPEN || problem.Code()&0xff == sqlite3.SQLITE_READONLY)
}

func newInstance() string {
	var id [4]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

func (tx *Tx) putInstance(ctx context.Context, id string, created time.Time) error {
	_, err := tx.tx.ExecContext(ctx, `INSERT INTO instance (id, created) VALUES ($1, $2)`, id, nanos(created))
	return err
}

// loadInstance reads the ID of the database. It is empty until the first start has set it.
func (r *Reader) loadInstance(ctx context.Context) error {
	err := r.q.QueryRowContext(ctx, `SELECT id FROM instance`).Scan(&r.instance)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

func (r *Reader) isEmpty(ctx context.Context) (bool, error) {
	var used bool
	err := r.q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM entries) OR EXISTS (SELECT 1 FROM signing_keys)`).Scan(&used)
	return !used, err
}
