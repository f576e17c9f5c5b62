package state

import (
	"context"
	"database/sql"
	"testing"
)

// SetBlobPass sets the number of blobs of a pass over the entries, and returns a function that resets it.
func SetBlobPass(n int) (reset func()) {
	before := blobPass
	blobPass = n
	return func() { blobPass = before }
}

// NewestVersion returns the schema version that this program writes.
func NewestVersion() int { return int(newestVersion(&sqliteFile{})) }

// PostgresSchema returns the definitions of a database on PostgreSQL.
func PostgresSchema(t *testing.T, path string) map[string]string {
	t.Helper()
	db, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	have, _, err := db.database.schema(t.Context(), db.q)
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// CopiedTables are the tables that Copy copies.
var CopiedTables = copiedTables

// CopyTable copies the rows of a table.
func CopyTable(ctx context.Context, table string, from *sql.DB, to *sql.Tx) error {
	_, err := copyTable(ctx, table, from, to)
	return err
}
