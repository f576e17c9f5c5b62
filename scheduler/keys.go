package scheduler

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
)

// KeyFile returns the default file of the signing key of a state: it is beside the state.
func KeyFile(statePath string) string { return statePath + ".key.pem" }

// SigningKey returns the key that signs the entries of a state. If file is empty, it is [KeyFile]; a state in a PostgreSQL
// database requires a file. If the state has no
// key yet, SigningKey writes the file, unless it exists, and records the key. A key that is not that of the state is an
// error: its entries would not follow the others.
func SigningKey(ctx context.Context, db *state.DB, file string, now time.Time) (*evidence.Key, error) {
	switch {
	case file != "":
	case state.IsURL(db.Path()):
		return nil, errors.New("signing key: the state is in a PostgreSQL database: set signing.key_file to a file, which is made if it does not exist")
	default:
		file = KeyFile(db.Path())
	}
	keys, err := db.Keys(ctx)
	if err != nil {
		return nil, err
	}
	current, hasCurrent := currentKey(keys)
	key, err := evidence.LoadKey(file)
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("signing key: %w", err)
	case hasCurrent:
		return nil, fmt.Errorf("signing key %s does not exist, and entries are signed by the key %s: restore the file or set signing.key_file to it; if the key is lost, run betrace keys replace --lost", file, current.ID)
	default:
		if key, err = evidence.NewKey(); err != nil {
			return nil, err
		}
		if err := key.Save(file); err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
	}
	switch {
	case !hasCurrent:
		return key, db.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
			return tx.PutKey(ctx, state.Key{ID: key.ID(), PEM: key.Public().PEM(), Added: now.UTC()})
		})
	case key.ID() != current.ID:
		return nil, fmt.Errorf("signing key %s has the ID %s, and entries are signed by the key %s: set signing.key_file to the file of that key, or replace it with betrace keys replace", file, key.ID(), current.ID)
	}
	return key, nil
}

// ReplaceKey adds a key to the state, and retires the one that signed before, whose ID it returns. The log of each
// tenant receives an event for each of the two, signed by the old key. If old is nil, the old key is lost: the new key
// signs the events, and the first of them is [evidence.EventKeyLost].
func ReplaceKey(ctx context.Context, db *state.DB, old, replacement *evidence.Key, engine string, now time.Time) (retired string, err error) {
	err = db.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
		keys, err := tx.Keys(ctx)
		if err != nil {
			return err
		}
		current, ok := currentKey(keys)
		switch {
		case !ok:
			return fmt.Errorf("state %s has no signing key yet: it receives one when the service starts", db.Path())
		case old != nil && old.ID() != current.ID:
			return fmt.Errorf("the key %s does not sign entries, the key %s does: give the file of that key", old.ID(), current.ID)
		}
		if i := slices.IndexFunc(keys, func(k state.Key) bool { return k.ID == replacement.ID() }); i >= 0 {
			if keys[i].ID == current.ID {
				return fmt.Errorf("the key %s signs entries already: give another file for the new key", current.ID)
			}
			return fmt.Errorf("the key %s was retired on %s: give another file for the new key", keys[i].ID, keys[i].Retired.Format(time.RFC3339))
		}
		retired = current.ID
		current.Retired = now
		if err := tx.PutKey(ctx, current); err != nil {
			return err
		}
		if err := tx.PutKey(ctx, state.Key{ID: replacement.ID(), PEM: replacement.Public().PEM(), Added: now}); err != nil {
			return err
		}
		tenants, err := tx.Tenants(ctx)
		if err != nil {
			return err
		}
		added := evidence.Event{Name: evidence.EventKeyAdded, Details: map[string]string{"key": replacement.ID(), "public_key": replacement.Public().PEM()}}
		gone := evidence.Event{Name: evidence.EventKeyRetired, Details: map[string]string{"key": retired, "replaced_by": replacement.ID()}}
		signer, events := old, []evidence.Event{added, gone}
		if old == nil {
			gone.Name = evidence.EventKeyLost
			signer, events = replacement, []evidence.Event{gone, added}
		}
		for _, tenant := range tenants {
			for i := range events {
				if err := appendEvent(ctx, tx, signer, tenant, events[i], engine, now); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return retired, err
}

// currentKey returns the key that signs entries. It reports false if there is none.
func currentKey(keys []state.Key) (state.Key, bool) {
	i := slices.IndexFunc(keys, func(k state.Key) bool { return k.Retired.IsZero() })
	if i < 0 {
		return state.Key{}, false
	}
	return keys[i], true
}

// appendEvent appends an entry about an event to the log of a tenant.
func appendEvent(ctx context.Context, tx *state.Tx, key *evidence.Key, tenant string, event evidence.Event, engine string, now time.Time) error {
	last, _, err := tx.LastEntry(ctx, tenant)
	if err != nil {
		return err
	}
	s := &evidence.Statement{Kind: evidence.EntryEvent, Event: &event}
	_, err = appendStatement(ctx, tx, key, s, statementOf{tenant: tenant, engine: engine, at: now.UTC(), last: last})
	return err
}
