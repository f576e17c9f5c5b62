package state

import (
	"context"
	"fmt"
)

const packColumns = "name, version, path, content, loaded_at"

var upsertPack = upsertSQL("packs", "digest", packColumns)

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
