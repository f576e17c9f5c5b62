package state

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// IsDatabaseError reports whether an error is one of the database itself, such as a full disk or a lost connection. The
// same transaction may succeed later.
func IsDatabaseError(err error) bool {
	var file *sqlite.Error
	var server *pgconn.PgError
	var connect *pgconn.ConnectError
	var network net.Error
	var inUse inUseError
	return errors.As(err, &file) || errors.As(err, &server) || errors.As(err, &connect) || errors.As(err, &network) || errors.As(err, &inUse) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.ErrUnexpectedEOF)
}

// withRemedy adds the remedy to an error about a full disk.
func (db *DB) withRemedy(err error) error {
	var file *sqlite.Error
	var server *pgconn.PgError
	switch {
	// The second one is about the file beside the database that connections share.
	case errors.As(err, &file) && (file.Code() == sqlite3.SQLITE_FULL || file.Code() == sqlite3.SQLITE_IOERR_SHMSIZE):
		return fmt.Errorf("%w: free space on the disk of %s", err, db.Path())
	case errors.As(err, &server) && server.Code == "53100":
		return fmt.Errorf("%w: free space on the disk of the server of %s", err, db.Path())
	}
	return err
}
