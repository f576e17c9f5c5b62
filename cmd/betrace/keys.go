package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
)

func (p *program) keysCommand() *cobra.Command {
	create := &cobra.Command{
		Use:   "new FILE",
		Short: "Write a new signing key to a new file",
		Long: `Write a new signing key (Ed25519, PEM) to a new file that only its owner can read. It changes no state: use the file as
signing.key_file of a new state, or give it to keys replace.`,
		Args: oneArgument("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			key, err := newKeyFile(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "key %s written to %s\n%s", key.ID(), args[0], key.Public().PEM())
			return err
		},
	}
	group := &cobra.Command{Use: "keys", Short: "Create, list and replace the keys that sign entries"}
	group.AddCommand(create, p.listKeysCommand(), p.replaceKeyCommand())
	return group
}

// newKeyFile writes a new key to a file that does not exist.
func newKeyFile(file string) (*evidence.Key, error) {
	key, err := evidence.NewKey()
	if err != nil {
		return nil, err
	}
	return key, key.Save(file)
}

// keyJSON is a key in the output of keys list.
type keyJSON struct {
	ID        string `json:"id"`
	Added     string `json:"added"`
	Retired   string `json:"retired"`
	PublicKey string `json:"public_key"`
}

func (p *program) listKeysCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the keys that signed entries of the state",
		Args:  noArguments("use --state for the file"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}
			var keys []state.Key
			err := p.readState(cmd, func(ctx context.Context, r *state.Reader) (err error) {
				keys, err = r.Keys(ctx)
				return err
			})
			switch {
			case err != nil:
				return err
			case format == "json":
				list := []keyJSON{}
				for _, k := range keys {
					list = append(list, keyJSON{k.ID, stampJSON(k.Added), stampJSON(k.Retired), k.PEM})
				}
				return printJSON(p.stdout, list)
			}
			w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "KEY\tADDED\tRETIRED")
			for _, k := range keys {
				fmt.Fprintf(w, "%s\t%s\t%s\n", k.ID, stamp(k.Added), cmp.Or(stampJSON(k.Retired), "no, it signs"))
			}
			return w.Flush()
		},
	}
	p.config.addFlagsOf(cmd.Flags(), "state")
	addOutput(cmd.Flags(), &format)
	return cmd
}

func (p *program) replaceKeyCommand() *cobra.Command {
	var lost bool
	var file string
	cmd := &cobra.Command{
		Use:   "replace [--new FILE] [--lost]",
		Short: "Replace the key that signs entries",
		Long: `Replace the key that signs entries. Stop the service first. Each tenant's log receives events about the change, signed by
the old key.

Without --new, a new key takes the place of the file signing.key_file, and the old file is kept beside it, with the ID of
the key in its name. With --new, the new key is that in FILE, which is written if it does not exist; set
signing.key_file to it afterwards.

If the old key is lost, use --lost. The events are then signed by the new key, and show that the old one was lost.`,
		Args: noArguments("use --new for the file of the new key"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			return p.writeState(cmd.Context(), func(ctx context.Context, db *state.DB) error {
				return p.replaceKey(ctx, db, file, lost)
			})
		},
	}
	p.config.addFlagsOf(cmd.Flags(), "state", "signing-key")
	cmd.Flags().StringVar(&file, "new", "", "`file` of the new key")
	cmd.Flags().BoolVar(&lost, "lost", false, "the old key is lost")
	return cmd
}

func (p *program) replaceKey(ctx context.Context, db *state.DB, newFile string, lost bool) error {
	file := p.config.Signing.KeyFile
	switch {
	case file != "":
	case state.IsURL(db.Path()):
		return errors.New("the state is in a PostgreSQL database: use --signing-key for the file of the key")
	default:
		file = scheduler.KeyFile(db.Path())
	}
	old, err := evidence.LoadKey(file)
	if newFile == "" {
		// An interrupted replacement may have changed the state, but not the files.
		if interrupted, loadErr := evidence.LoadKey(file + ".new"); loadErr == nil {
			if isCurrent, err := signs(ctx, db, interrupted); err != nil {
				return err
			} else if isCurrent {
				return p.moveKeys(file, file+".new", old)
			}
		}
	}
	switch {
	case lost && err == nil:
		if isCurrent, err := signs(ctx, db, old); err != nil {
			return err
		} else if isCurrent {
			return fmt.Errorf("the key %s in %s is that of the state, and so not lost: omit --lost", old.ID(), file)
		} else if newFile == "" {
			return fmt.Errorf("%s has another key, %s: move the file away, or use --new", file, old.ID())
		}
		old = nil
	case lost && !errors.Is(err, fs.ErrNotExist) && newFile == "":
		return fmt.Errorf("%w: move the file away, or use --new", err)
	case lost:
		old = nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: set signing.key_file to the file of the old key, or use --lost if there is none", err)
	case err != nil:
		return err
	}
	written := cmp.Or(newFile, file+".new")
	replacement, err := evidence.LoadKey(written)
	if errors.Is(err, fs.ErrNotExist) {
		replacement, err = newKeyFile(written)
	}
	if err != nil {
		return err
	}
	retired, err := scheduler.ReplaceKey(ctx, db, old, replacement, engineVersion(), time.Now().UTC())
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "key %s replaces %s\n", replacement.ID(), retired)
	if newFile != "" {
		_, err = fmt.Fprintf(p.stdout, "set signing.key_file to %s before the service is started\n", newFile)
		return err
	}
	return p.moveKeys(file, written, old)
}

// moveKeys puts the new key in the place of the old one, which is kept under the name of the file and its ID. old is nil if
// there is none.
func (p *program) moveKeys(file, written string, old *evidence.Key) error {
	remedy := func(err error) error {
		return fmt.Errorf("the new key stays in %s: %w: set signing.key_file to it", written, err)
	}
	if old != nil {
		kept := file + "." + old.ID()
		if err := os.Rename(file, kept); err != nil {
			return remedy(err)
		}
		fmt.Fprintf(p.stdout, "the old key is in %s\n", kept)
	}
	if err := os.Rename(written, file); err != nil {
		return remedy(err)
	}
	_, err := fmt.Fprintf(p.stdout, "the new key is in %s\n", file)
	return err
}

// signs reports whether a key is that which signs the entries of the state.
func signs(ctx context.Context, db *state.DB, key *evidence.Key) (bool, error) {
	keys, err := db.Keys(ctx)
	for _, k := range keys {
		if k.ID == key.ID() && k.Retired.IsZero() {
			return true, err
		}
	}
	return false, err
}
