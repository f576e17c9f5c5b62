package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Backup writes a copy of an SQLite database to a new file, also while a service writes. The copy has one moment of it, is on
// the disk when Backup returns, and can be opened as it is. If a file exists at path, it is left alone and the error is
// [fs.ErrExist]. After a crash the copy is complete or does not exist.
func (db *DB) Backup(ctx context.Context, path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("back up state %s: %w", db.Path(), err)
		}
	}()
	if IsURL(db.Path()) {
		return errors.New("the state is in a PostgreSQL database: use pg_dump, for example pg_dump --format=custom --file=FILE URL")
	}
	target, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(target); err == nil {
		return existsError(path)
	}
	folder := filepath.Dir(target)
	// os.CreateTemp creates a file that only its owner can read. SQLite accepts a file that is empty.
	draft, err := os.CreateTemp(folder, "."+filepath.Base(target)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name()) //nolint:errcheck // after a rename there is no such file
	defer draft.Close()
	if _, err := db.read.ExecContext(ctx, `VACUUM INTO $1`, draft.Name()); err != nil {
		return fmt.Errorf("write %s: %w", draft.Name(), err)
	}
	if err := db.checkCopy(ctx, draft.Name()); err != nil {
		return err
	}
	// SQLite does not wait for the disk here.
	if err := draft.Sync(); err != nil {
		return err
	}
	// A link, unlike a rename, fails if the file exists. Some file systems have no links.
	if err := os.Link(draft.Name(), target); errors.Is(err, fs.ErrExist) {
		return existsError(path)
	} else if err != nil {
		if err := os.Rename(draft.Name(), target); err != nil {
			return err
		}
	}
	// Windows cannot open a folder, and needs no such call.
	if d, err := os.Open(folder); err == nil {
		defer d.Close()
		return d.Sync()
	}
	return nil
}

func existsError(path string) error {
	return fmt.Errorf("%s: %w: give a new file, or move it away", path, fs.ErrExist)
}

// checkCopy checks that a copy is a database of this instance.
func (db *DB) checkCopy(ctx context.Context, path string) error {
	backup, err := OpenReadOnly(ctx, path)
	if err != nil {
		return fmt.Errorf("read the copy: %w", err)
	}
	defer backup.Close() //nolint:errcheck // it was only read
	if backup.instance != db.instance {
		return fmt.Errorf("read the copy: it has the instance %q, not %q", backup.instance, db.instance)
	}
	return nil
}

// sizeTimeout bounds the time of a question for the size.
const sizeTimeout = 10 * time.Second

// Size returns the bytes that the database takes on the disk: those of a file and of its write-ahead log, or those of the
// tables and indexes of a PostgreSQL database.
func (db *DB) Size() (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), sizeTimeout)
	defer cancel()
	size, err := db.database.size(ctx, db.read)
	if err != nil {
		return 0, fmt.Errorf("state: size: %w", err)
	}
	return size, nil
}
