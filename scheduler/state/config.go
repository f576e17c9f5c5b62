package state

import (
	"context"
	"fmt"
)

// Config returns the digest of the configuration that was last recorded, or an empty string.
func (tx *Tx) Config(ctx context.Context) (digest string, err error) {
	if err := tx.q.QueryRowContext(ctx, `SELECT config FROM instance`).Scan(&digest); err != nil {
		return "", fmt.Errorf("state: configuration: %w", err)
	}
	return digest, nil
}

// PutConfig records the digest of a configuration.
func (tx *Tx) PutConfig(ctx context.Context, digest string) error {
	if _, err := tx.tx.ExecContext(ctx, `UPDATE instance SET config = $1`, digest); err != nil {
		return fmt.Errorf("state: put configuration: %w", err)
	}
	return nil
}
