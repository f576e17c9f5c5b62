package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver of the default database

	"github.com/betracehq/betrace/evidence"
)

// Options configure [Open].
type Options struct {
	// Path is the file of the database.
	Path string
	// Now returns the time. The default is time.Now.
	Now func() time.Time
	// Log receives creation and migrations. The default discards them.
	Log *slog.Logger
}

// DB is the database. Its reading methods see the committed data, also while a transaction writes.
type DB struct {
	Reader
	path  string
	isNew bool
	// write has one connection, so that transactions follow one another. It is nil if the database is read only.
	write *sql.DB
	read  *sql.DB
	// unlock releases the lock file. It is nil if the database is read only.
	unlock func()
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

// Settings of every connection. A commit returns when its data is on the disk (FULL). A reading process may have to
// wait for a moment while another one opens or closes the file.
var pragmas = []string{"busy_timeout(10000)", "foreign_keys(1)", "cache_size(-16000)"}

// Open opens the database for reading and writing. It creates the file if there is none, and applies the migrations
// that are missing. Only one process may do so at a time: a lock file beside the database guarantees it.
func Open(ctx context.Context, opts Options) (*DB, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = discard
	}
	path, err := resolve(opts.Path)
	if err != nil {
		return nil, err
	}
	unlock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	db := &DB{path: path, unlock: unlock}
	if err := db.open(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("state %s: %w", path, db.withRemedy(err)), db.Close())
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, opts Options) error {
	// SQLite creates files that everyone may read; violations may contain confidential data.
	file, err := os.OpenFile(db.path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	file.Close()
	db.write, err = connect(db.path, 1, "rw", "journal_mode(WAL)", "synchronous(FULL)", "journal_size_limit(67108864)")
	if err != nil {
		return err
	}
	if err := migrate(ctx, db.write, opts.Log); err != nil {
		return err
	}
	if db.read, err = connect(db.path, readers, "ro"); err != nil {
		return err
	}
	db.q = db.read
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
		opts.Log.InfoContext(ctx, "state created", "path", db.path, "instance", db.instance)
	}
	db.isNew, err = db.isEmpty(ctx)
	return err
}

// OpenReadOnly opens the database for reading. It takes no lock, and a running service may write at the same time.
func OpenReadOnly(ctx context.Context, path string) (*DB, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	switch file, err := os.Open(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("state %s does not exist: give the file of a service that has run", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("state: %w: run the command as the user of the service", err)
	case err != nil:
		return nil, fmt.Errorf("state: %w", err)
	default:
		file.Close()
	}
	db := &DB{path: path}
	if err := db.openReadOnly(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("state %s: %w", path, db.withRemedy(err)), db.Close())
	}
	return db, nil
}

func (db *DB) openReadOnly(ctx context.Context) error {
	var err error
	if db.read, err = connect(db.path, readers, "ro"); err != nil {
		return err
	}
	db.q = db.read
	version, err := schemaVersion(ctx, db.read)
	switch newest := newestVersion(); {
	case isCannotOpen(err):
		return fmt.Errorf("%w: to read a database that no service has open, the user must be permitted to write to its folder: run the command as the user of the service, or read a backup", err)
	case err != nil:
		return err
	case version == 0:
		return errors.New("the database is empty: give the file of a service that has run")
	case version > newest:
		return newerError(version, newest)
	case version < newest:
		return fmt.Errorf("its schema version is %d, and this version of betrace reads version %d: start the service once to migrate it, or use the version of betrace that wrote it", version, newest)
	}
	return db.loadInstance(ctx)
}

// connect returns a pool of at most n connections. mode is one of SQLite's.
func connect(path string, n int, mode string, more ...string) (*sql.DB, error) {
	query := url.Values{"mode": {mode}, "_pragma": append(append([]string{}, pragmas...), more...)}
	if mode == "rw" {
		// A transaction that begins as a reader could find, at its first change, that it is too late.
		query.Set("_txlock", "immediate")
	}
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath(), RawQuery: query.Encode()}
	pool, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	return pool, nil
}

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

// Write calls f with a transaction, and commits it if f returns nil. Otherwise, nothing is changed. Transactions
// follow one another, so f must not call Write.
func (db *DB) Write(ctx context.Context, f func(context.Context, *Tx) error) (err error) {
	if db.write == nil {
		return fmt.Errorf("state %s is open for reading only", db.path)
	}
	defer func() { err = db.withRemedy(err) }()
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("state: begin: %w", err)
	}
	defer func() {
		// After a commit this does nothing. It also ends the transaction if f panics.
		if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) {
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
		}
		return fmt.Errorf("state: commit: %w", err)
	}
	return nil
}

// View calls f with a reader that sees one moment of the database, whatever is committed meanwhile.
func (db *DB) View(ctx context.Context, f func(context.Context, *Reader) error) error {
	tx, err := db.read.BeginTx(ctx, nil)
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
	for _, pool := range []*sql.DB{db.read, db.write} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	if db.unlock != nil {
		db.unlock()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
}

// Path returns the absolute path of the file.
func (db *DB) Path() string { return db.path }

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
