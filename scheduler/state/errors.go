package state

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// IsDatabaseError reports whether an error is one of the database itself, such as a full disk. The same transaction may
// succeed later.
func IsDatabaseError(err error) bool {
	var problem *sqlite.Error
	return errors.As(err, &problem)
}

// withRemedy adds the remedy to an error about a full disk.
func (db *DB) withRemedy(err error) error {
	var problem *sqlite.Error
	if !errors.As(err, &problem) {
		return err
	}
	switch problem.Code() {
	// The second one is about the file beside the database that connections share.
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE:
		return fmt.Errorf("%w: free space on the disk of %s", err, db.path)
	}
	return err
}
