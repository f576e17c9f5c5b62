package state

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

const packColumns = "name, version, path, content, loaded_at"

var (
	upsertPack    = upsertSQL("packs", "digest", packColumns)
	upsertRuleSet = upsertSQL("rule_sets", "sweep", "number, packs")
)

// PutPack stores a pack, or the new path and time of one that is stored.
func (tx *Tx) PutPack(ctx context.Context, p Pack) error {
	if _, err := tx.tx.ExecContext(ctx, upsertPack, p.Digest, p.Name, p.Version, p.Path, p.Content, nanos(p.LoadedAt)); err != nil {
		return fmt.Errorf("state: put pack %q: %w", p.Name, err)
	}
	return nil
}

// Packs returns the packs by name, and those of one name by their time, the last loaded first.
func (r *Reader) Packs(ctx context.Context) ([]Pack, error) {
	packs, err := queryAll(ctx, r.q, func(row scanner, p *Pack) error {
		return row.Scan(&p.Digest, &p.Name, &p.Version, &p.Path, &p.Content, at(&p.LoadedAt))
	}, `SELECT digest, `+packColumns+` FROM packs ORDER BY name, loaded_at DESC, digest`)
	if err != nil {
		return nil, fmt.Errorf("state: packs: %w", err)
	}
	return packs, nil
}

// Pack returns the pack with a digest. It is an error if there is none.
func (r *Reader) Pack(ctx context.Context, digest string) (Pack, error) {
	p := Pack{Digest: digest}
	err := r.q.QueryRowContext(ctx, `SELECT `+packColumns+` FROM packs WHERE digest = $1`, digest).Scan(&p.Name, &p.Version, &p.Path, &p.Content, at(&p.LoadedAt))
	if err != nil {
		return Pack{}, fmt.Errorf("state: pack %s: %w", digest, err)
	}
	return p, nil
}

// RuleSet names the packs of a sweep that all replicas use. A later set has a higher number.
type RuleSet struct {
	Number int64
	// Packs are digests.
	Packs []string
}

// RuleSet returns the packs that replicas use for a sweep. Its number is 0 if none was put.
func (r *Reader) RuleSet(ctx context.Context, sweep string) (RuleSet, error) {
	var set RuleSet
	var packs []byte
	err := r.q.QueryRowContext(ctx, `SELECT number, packs FROM rule_sets WHERE sweep = $1`, sweep).Scan(&set.Number, &packs)
	if errors.Is(err, sql.ErrNoRows) {
		return RuleSet{}, nil
	}
	if err == nil {
		err = json.Unmarshal(packs, &set.Packs)
	}
	if err != nil {
		return RuleSet{}, fmt.Errorf("state: packs of sweep %q: %w", sweep, err)
	}
	return set, nil
}

// PutRuleSet replaces the packs that replicas use for a sweep.
func (tx *Tx) PutRuleSet(ctx context.Context, sweep string, set RuleSet) error {
	packs, err := json.Marshal(set.Packs)
	if err == nil {
		_, err = tx.tx.ExecContext(ctx, upsertRuleSet, sweep, set.Number, string(packs))
	}
	if err != nil {
		return fmt.Errorf("state: put packs of sweep %q: %w", sweep, err)
	}
	return nil
}
