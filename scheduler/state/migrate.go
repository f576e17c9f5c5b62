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
)

// A migration has a file with the same name for each database. When one is added, the tests of PostgreSQL write
// migrations/postgres/schema.json again: go test ./scheduler/state -run PostgresSchema -state.schema.
//
//go:embed migrations/sqlite/*.sql migrations/postgres/*.sql
var migrations embed.FS

// newestVersion returns the schema version that this program writes.
func newestVersion(d database) int64 {
	var newest int64
	_, folder := d.migrations()
	files, err := fs.ReadDir(migrations, folder)
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

// appliedVersion selects the version of the schema.
const appliedVersion = `SELECT max(version_id) FROM goose_db_version WHERE is_applied`

func newerError(version, newest int64) error {
	return fmt.Errorf("its schema version is %d, and this version of betrace supports versions up to %d: use a newer betrace, or restore a backup from before the upgrade", version, newest)
}

// migrate brings the database to the newest version. Each migration is a transaction.
func migrate(ctx context.Context, d database, db *sql.DB, log *slog.Logger) error {
	version, err := d.schemaVersion(ctx, db)
	if err != nil {
		return err
	}
	newest := newestVersion(d)
	if version > newest {
		return newerError(version, newest)
	}
	if version == newest {
		return nil
	}
	dialect, folder := d.migrations()
	files, err := fs.Sub(migrations, folder)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(dialect, db, files, goose.WithDisableGlobalRegistry(true))
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

func newInstance() string {
	var id [4]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// putInstance stores the ID of the database, unless another process has stored one.
func (tx *Tx) putInstance(ctx context.Context, id string, created time.Time) error {
	_, err := tx.tx.ExecContext(ctx, `INSERT INTO instance (id, created) SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM instance)`, id, nanos(created))
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
