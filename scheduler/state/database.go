package state

import (
	"context"
	"database/sql"
	"strings"

	"github.com/pressly/goose/v3"
)

// database has the methods in which SQLite and PostgreSQL differ. All other code is for both.
type database interface {
	// String returns the path or the URL, for errors and logs.
	String() string
	// prepare makes the database ready to be opened for writing.
	prepare() error
	// connect returns a pool of at most n connections.
	connect(n int, write bool) (*sql.DB, error)
	// lockSchema excludes other processes from a migration until release is called.
	lockSchema(ctx context.Context, read *sql.DB) (release func(), err error)
	// schemaVersion returns the version of the schema, or 0 if the database is empty. It changes nothing.
	schemaVersion(ctx context.Context, q querier) (int64, error)
	// migrations returns the folder of the migrations. Each version has a file in the folders of both databases.
	migrations() (dialect goose.Dialect, folder string)
	// begin begins a transaction that sees all that was committed before, and that no other one overtakes. Its ID, if
	// there is one, is for settle.
	begin(ctx context.Context, write *sql.DB) (tx *sql.Tx, id string, err error)
	// settle returns nil if a transaction was committed although its commit returned an error, and else an error.
	settle(ctx context.Context, read *sql.DB, id string, err error) error
	// viewOptions are the options of a transaction that sees one moment.
	viewOptions() *sql.TxOptions
	// schema returns the definitions of the parts of the schema, by kind and name, and those that the migrations create.
	schema(ctx context.Context, q querier) (have, want map[string]string, err error)
	// damage lets the database check its own files. It calls add with each fault.
	damage(ctx context.Context, q querier, add func(fault string)) error
	// numberOn makes the database number new rows after those that were inserted with a number.
	numberOn(ctx context.Context, tx *sql.Tx) error
	// size returns the bytes that the database takes on the disk.
	size(ctx context.Context, read *sql.DB) (int64, error)
	// clock is an expression for the present time in nanoseconds.
	clock() string
	// isShared reports whether other processes may write, too.
	isShared() bool
	// release undoes prepare.
	release()
}

// newDatabase returns the database with a path or a URL.
func newDatabase(path string, exclusive, shared bool) (database, error) {
	if IsURL(path) {
		return newPostgres(path, exclusive, shared)
	}
	return newSQLite(path)
}

// IsURL reports whether the path of a state is the URL of a PostgreSQL database. Otherwise it is that of a file.
func IsURL(path string) bool {
	return strings.HasPrefix(path, "postgres://") || strings.HasPrefix(path, "postgresql://")
}
