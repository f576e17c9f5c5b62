package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/scheduler/state"
)

func (p *program) stateCommand() *cobra.Command {
	verify := &cobra.Command{
		Use:   "verify",
		Short: "Check the state for edits and damage",
		Long: `Check the state for edits and damage: for each entry its signature, its place in the chain, its results, and each
violation and correction, also the capped ones; the digests of blobs; and rows that name missing entries. The command reads the state, also
while a service writes. It cannot notice an edit by someone who has the signing key, nor that the last entries are
missing together with all that belongs to them.

Exit code: 0 nothing found; 2 faults, each with the entry that it concerns.`,
		Args: noArguments("use --state for the file"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withState(cmd, func(db *state.DB) error { return p.verify(cmd, db) })
		},
	}
	backup := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a copy of the state to a new file",
		Long: `Write a copy of the state to a new file, also while a service writes. The copy has one moment of the state and can be
used as it is. It does not contain the signing key: copy its file, too. Use pg_dump for a state in a PostgreSQL database.`,
		Args: oneArgument("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withState(cmd, func(db *state.DB) error {
				if err := db.Backup(cmd.Context(), args[0]); err != nil {
					return err
				}
				_, err := fmt.Fprintf(p.stdout, "state written to %s; its signing key is not part of it\n", args[0])
				return err
			})
		},
	}
	group := &cobra.Command{Use: "state", Short: "Verify the state of the service, back it up, or move it to another database"}
	for _, cmd := range []*cobra.Command{verify, backup} {
		p.config.addFlagsOf(cmd.Flags(), "state")
		group.AddCommand(cmd)
	}
	group.AddCommand(p.copyStateCommand())
	return group
}

func (p *program) copyStateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "copy FROM TO",
		Short: "Copy the state to another database, and verify the copy",
		Long: `Copy the state to another database, and verify the copy. FROM and TO are files of SQLite or URLs of PostgreSQL databases
(postgres://user@host/database; the password is in PGPASSWORD or PGPASSFILE). TO must be new or empty. Stop the service first.

All rows are read back and compared before they are committed; then the copy is verified as by state verify. The copy is the
same state, so use only one of the two afterwards. It does not contain the signing key: set signing.key_file to the file of
FROM, which for an SQLite state is FROM.key.pem.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("%s requires FROM and TO, and %s given", cmd.CommandPath(), numbered(int64(len(args)), "argument is", "arguments are"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return p.copyState(cmd, args[0], args[1]) },
	}
}

func (p *program) copyState(cmd *cobra.Command, fromPath, toPath string) (err error) {
	ctx := cmd.Context()
	if err := p.config.load(cmd.Flags()); err != nil {
		return err
	}
	log, err := p.config.logger(p.stderr)
	if err != nil {
		return err
	}
	from, err := state.Open(ctx, state.Options{Path: fromPath, Exclusive: true, Existing: true, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := state.Open(ctx, state.Options{Path: toPath, Exclusive: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	v, err := state.Copy(ctx, from, to)
	if err != nil {
		return err
	}
	p.printCounts(v)
	_, err = fmt.Fprintf(p.stdout, "copied and verified; set state to %s, and signing.key_file to the key of %s\n", to.Path(), from.Path())
	return err
}

// printCounts prints the counts of a verification on a line.
func (p *program) printCounts(v *state.Verification) {
	violations := counted(int(v.Violations), "violation")
	if v.Capped > 0 {
		violations += fmt.Sprintf(" and %d capped", v.Capped)
	}
	fmt.Fprintf(p.stdout, "%s: %s, %s, %s, %s, %s\n", counted(int(v.Tenants), "tenant"), numbered(v.Entries, "entry", "entries"), violations,
		counted(int(v.Corrections), "correction"), counted(int(v.Blobs), "blob"), numbered(v.Deliveries, "open delivery", "open deliveries"))
}

// withState loads the configuration and calls f with the state, open for reading.
func (p *program) withState(cmd *cobra.Command, f func(*state.DB) error) (err error) {
	if err := p.config.load(cmd.Flags()); err != nil {
		return err
	}
	if err := p.config.hasState(); err != nil {
		return err
	}
	db, err := state.OpenReadOnly(cmd.Context(), p.config.State)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return f(db)
}

// verify prints the result of a verification.
func (p *program) verify(cmd *cobra.Command, db *state.DB) error {
	v, err := db.Verify(cmd.Context())
	if err != nil {
		return err
	}
	for _, f := range v.Faults {
		fmt.Fprintln(p.stderr, "betrace:", oneLine(f.String()))
	}
	if v.More > 0 {
		fmt.Fprintf(p.stderr, "betrace: and %s more\n", counted(v.More, "fault"))
	}
	w := p.stdout
	p.printCounts(v)
	for _, k := range v.Keys {
		use := "signs since " + stamp(k.Added)
		if !k.Retired.IsZero() {
			use = fmt.Sprintf("signed from %s to %s", stamp(k.Added), stamp(k.Retired))
		}
		fmt.Fprintf(w, "key %s: %s, %s\n", k.ID, numbered(k.Entries, "entry", "entries"), use)
	}
	if !v.OK() {
		fmt.Fprintf(w, "%s\n", counted(len(v.Faults)+v.More, "fault"))
		return exitError{exitFailed}
	}
	_, err = fmt.Fprintln(w, "no fault")
	return err
}

// numbered returns a count with a noun whose plural is irregular.
func numbered(n int64, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// oneArgument refuses all but one argument.
func oneArgument(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s requires one %s, and %d are given", cmd.CommandPath(), name, len(args))
		}
		return nil
	}
}
