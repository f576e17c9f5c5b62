package state

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/betracehq/betrace/evidence"
)

// Options configure [Open].
type Options struct {
	// Path is the file of an SQLite database, or the URL of a PostgreSQL database: postgres://user@host/database.
	Path string
	// Exclusive refuses a PostgreSQL database that another process has opened for writing with this option. An SQLite
	// database is always exclusive.
	Exclusive bool
	// Shared lets several processes open a PostgreSQL database with this option, as replicas, but none that is exclusive.
	// They agree on their work by claims. An SQLite database cannot be shared.
	Shared bool
	// Existing refuses a database that does not exist, or that is empty, instead of creating it.
	Existing bool
	// Now returns the time. The default is time.Now.
	Now func() time.Time
	// Log receives creation and migrations. The default discards them.
	Log *slog.Logger
}

// DB is the database. Its reading methods see the committed data, also while a transaction writes.
type DB struct {
	Reader
	database database
	isNew    bool
	// write has one connection, so that transactions follow one another. It is nil if the database is read only.
	write *sql.DB
	read  *sql.DB
	// beat is for the sign of life of a replica, which must not wait for a transaction. It is nil if the database is not shared.
	beat    *sql.DB
	commits atomic.Int64
}

// Reader has the methods that read. They see the committed data in a [DB], one moment of it in [DB.View], and also
// the changes of the transaction in a [Tx].
type Reader struct {
	q        querier
	instance string
}

// Tx is a transaction. Its methods change the database if the transaction is committed.
type Tx struct {
	Reader
	tx *sql.Tx
}

var discard = slog.New(slog.DiscardHandler)

// readers is the number of connections that read at the same time.
const readers = 4

// Open opens the database for reading and writing. It creates the file if there is none, and applies the migrations
// that are missing. Only one process at a time may have an SQLite database open for writing: a lock file beside it
// guarantees this.
func Open(ctx context.Context, opts Options) (*DB, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = discard
	}
	d, err := newDatabase(opts.Path, opts.Exclusive, opts.Shared)
	if err != nil {
		return nil, err
	}
	if opts.Existing {
		if err := exists(d); err != nil {
			return nil, err
		}
	}
	if err := d.prepare(); err != nil {
		d.release()
		return nil, err
	}
	db := &DB{database: d}
	if err := db.open(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("state %s: %w", d, db.withRemedy(err)), db.Close())
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, opts Options) (err error) {
	if db.write, err = db.database.connect(1, true); err != nil {
		return err
	}
	if db.read, err = db.database.connect(readers, false); err != nil {
		return err
	}
	if opts.Shared && db.database.isShared() {
		if db.beat, err = db.database.connect(1, true); err != nil {
			return err
		}
	}
	db.q = db.read
	release, err := db.database.lockSchema(ctx, db.read)
	if err != nil {
		return err
	}
	err = db.migrate(ctx, opts)
	release()
	if err != nil {
		return err
	}
	if err := db.loadInstance(ctx); err != nil {
		return err
	}
	if db.instance == "" {
		err = db.Write(ctx, func(ctx context.Context, tx *Tx) error { return tx.putInstance(ctx, newInstance(), opts.Now()) })
		if err == nil {
			err = db.loadInstance(ctx)
		}
		if err != nil {
			return err
		}
		opts.Log.InfoContext(ctx, "state created", "path", db.Path(), "instance", db.instance)
	}
	db.isNew, err = db.isEmpty(ctx)
	return err
}

func (db *DB) migrate(ctx context.Context, opts Options) error {
	if opts.Existing {
		version, err := db.database.schemaVersion(ctx, db.write)
		if err == nil && version == 0 {
			err = errEmpty
		}
		if err != nil {
			return err
		}
	}
	return migrate(ctx, db.database, db.write, opts.Log)
}

var errEmpty = errors.New("the database is empty: give that of a service that has run")

// exists returns an error if the file of a database does not exist, or cannot be read.
func exists(d database) error {
	if file, ok := d.(*sqliteFile); ok {
		return file.exists()
	}
	return nil
}

// OpenReadOnly opens the database for reading. It takes no lock, and a running service may write at the same time.
func OpenReadOnly(ctx context.Context, path string) (*DB, error) {
	d, err := newDatabase(path, false, false)
	if err != nil {
		return nil, err
	}
	if err := exists(d); err != nil {
		return nil, err
	}
	db := &DB{database: d}
	if err := db.openReadOnly(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("state %s: %w", d, db.withRemedy(err)), db.Close())
	}
	return db, nil
}

func (db *DB) openReadOnly(ctx context.Context) error {
	var err error
	if db.read, err = db.database.connect(readers, false); err != nil {
		return err
	}
	db.q = db.read
	version, err := db.database.schemaVersion(ctx, db.read)
	switch newest := newestVersion(db.database); {
	case err != nil:
		return err
	case version == 0:
		return errEmpty
	case version > newest:
		return newerError(version, newest)
	case version < newest:
		return fmt.Errorf("its schema version is %d, and this version of betrace reads version %d: start the service once to migrate it, or use the version of betrace that wrote it", version, newest)
	}
	return db.loadInstance(ctx)
}

// Write calls f with a transaction, and commits it if f returns nil. Otherwise, nothing is changed. Transactions
// follow one another, also those of several processes, so f must not call Write. Write calls f once. If the connection
// to the server is lost before f is called, another one is made; if it is lost later, Write returns an error, unless the
// transaction was committed.
func (db *DB) Write(ctx context.Context, f func(context.Context, *Tx) error) (err error) {
	if db.write == nil {
		return fmt.Errorf("state %s is open for reading only", db.Path())
	}
	defer func() { err = db.withRemedy(err) }()
	tx, id, err := db.database.begin(ctx, db.write)
	if err != nil {
		return fmt.Errorf("state: begin: %w", err)
	}
	defer func() {
		// After a commit this does nothing. It also ends the transaction if f panics.
		if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) && !errors.Is(rollback, driver.ErrBadConn) {
			err = errors.Join(err, fmt.Errorf("state: roll back: %w", rollback))
		}
	}()
	if err := f(ctx, &Tx{Reader: Reader{q: tx, instance: db.instance}, tx: tx}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		// A transaction whose context has ended is rolled back at some moment, which hides the cause.
		if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
			err = ctx.Err()
		} else {
			err = db.database.settle(ctx, db.read, id, err)
		}
		if err != nil {
			return fmt.Errorf("state: commit: %w", err)
		}
	}
	db.commits.Add(1)
	return nil
}

// View calls f with a reader that sees one moment of the database, whatever is committed meanwhile.
func (db *DB) View(ctx context.Context, f func(context.Context, *Reader) error) error {
	tx, err := db.read.BeginTx(ctx, db.database.viewOptions())
	if err != nil {
		return fmt.Errorf("state: begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was changed
	return f(ctx, &Reader{q: tx, instance: db.instance})
}

// Close closes the database and releases its lock.
func (db *DB) Close() error {
	var errs []error
	// The writer is the last to close, so that SQLite removes its log.
	for _, pool := range []*sql.DB{db.beat, db.read, db.write} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	db.database.release()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
}

// Commits returns the number of transactions that [DB.Write] has committed.
func (db *DB) Commits() int64 { return db.commits.Load() }

// Shared reports whether other replicas may use the database.
func (db *DB) Shared() bool { return db.beat != nil }

// Path returns the absolute path of the file, or the URL.
func (db *DB) Path() string { return db.database.String() }

// New reports whether the database had neither an entry nor a key when it was opened for writing. Such a database may
// be given a new signing key.
func (db *DB) New() bool { return db.isNew }

// Instance returns the random ID of this database: 8 hexadecimal digits.
func (r *Reader) Instance() string { return r.instance }

// EntryName returns the name of an entry in records and spans. It tells apart the entries of two services that write
// to the same sinks.
func (r *Reader) EntryName(number int64) string {
	return evidence.EntryName(r.instance, number)
}
