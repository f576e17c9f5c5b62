package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
)

func (p *program) rulesMuteCommand() *cobra.Command {
	var request scheduler.MuteRequest
	var until string
	cmd := &cobra.Command{
		Use:   "mute PACK/RULE --reason TEXT --until TIME",
		Short: "Keep the violations of a rule out of alerts for a time",
		Long: `Keep the violations of a rule out of alerts for a time, for all services or for one. They are found, stored, filed and
counted as before, and carry the label muted="true" in Loki, which alerts leave out. Violations that were filed
before stay as they are.

The log of entries has an event about it. Without a running service, the command writes to the state itself.`,
		Args: oneArgument("PACK/RULE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			if request.Pack, request.Rule = splitRule(args[0]); request.Pack == "" {
				return fmt.Errorf("rule %q: want pack/ID, as betrace rules list prints it", args[0])
			}
			if request.Until, err = parseUntil(until, time.Now()); err != nil {
				return err
			}
			if request.Tenant == scheduler.SingleTenant {
				request.Tenant = ""
			}
			request.Actor = cmp.Or(request.Actor, userName())
			var answer struct{ ID, Rule string }
			if err := p.askService(cmd.Context(), "mutes", request, &answer); err != nil {
				answer.ID, err = p.offline(cmd.Context(), err, func(ctx context.Context, db *state.DB, key *evidence.Key, now time.Time) (state.Mute, error) {
					return scheduler.Mute(ctx, db, key, engineVersion(), now, request)
				})
				if err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(p.stdout, "mute %s: %s is muted until %s\n", answer.ID, args[0], stamp(request.Until))
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&request.Reason, "reason", "", "why the rule is muted: `text` for those who find it muted")
	flags.StringVar(&until, "until", "", "end of the mute: a `time` (2026-03-01T12:00:00Z, 2026-03-01), or a duration from now (24h, 7d)")
	flags.StringVar(&request.Service, "service", "", "only in traces with a span of this `service`")
	flags.StringVar(&request.Tenant, "tenant", scheduler.AllTenants, "only of this `tenant`")
	flags.StringVar(&request.Actor, "actor", "", "the `name` of who mutes it (default: the user of this machine)")
	for _, name := range []string{"reason", "until"} {
		cmd.MarkFlagRequired(name) //nolint:errcheck // the flags exist
	}
	p.config.addFlagsOf(flags, "address", "state", "signing-key")
	return cmd
}

func (p *program) rulesUnmuteCommand() *cobra.Command {
	var actor string
	cmd := &cobra.Command{
		Use:   "unmute MUTE",
		Short: "End a mute before its time",
		Long: `End a mute before its time. MUTE is the ID that betrace rules mutes lists. Without a running service, the command
writes to the state itself.`,
		Args: oneArgument("MUTE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			actor = cmp.Or(actor, userName())
			var answer struct{ ID, Rule string }
			if err := p.askService(cmd.Context(), "mutes/"+args[0]+"/end", map[string]string{"actor": actor}, &answer); err != nil {
				_, err = p.offline(cmd.Context(), err, func(ctx context.Context, db *state.DB, key *evidence.Key, now time.Time) (state.Mute, error) {
					return scheduler.EndMute(ctx, db, key, engineVersion(), now, args[0], actor)
				})
				if err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(p.stdout, "mute %s: ended\n", args[0])
			return err
		},
	}
	cmd.Flags().StringVar(&actor, "actor", "", "the `name` of who ends it (default: the user of this machine)")
	p.config.addFlagsOf(cmd.Flags(), "address", "state", "signing-key")
	return cmd
}

func (p *program) rulesMutesCommand() *cobra.Command {
	var all bool
	var format string
	cmd := &cobra.Command{
		Use:   "mutes",
		Short: "List the muted rules",
		Long:  `List the muted rules. The command reads the state and needs no running service.`,
		Args:  noArguments("use betrace rules mute to mute a rule"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}
			now := time.Now()
			listed := []muteJSON{}
			err := p.readState(cmd, func(ctx context.Context, r *state.Reader) error {
				mutes, err := r.Mutes(ctx)
				for i := range mutes {
					if all || mutes[i].Active(now) {
						listed = append(listed, newMuteJSON(&mutes[i], now))
					}
				}
				return err
			})
			if err != nil {
				return err
			}
			if format == "json" {
				return printJSON(p.stdout, listed)
			}
			return p.printMutes(listed)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also mutes that have ended")
	addOutput(cmd.Flags(), &format)
	p.config.addFlagsOf(cmd.Flags(), "state")
	return cmd
}

// muteJSON is a mute in the output of rules mutes.
type muteJSON struct {
	ID      string `json:"id"`
	Tenant  string `json:"tenant"`
	Pack    string `json:"pack"`
	Rule    string `json:"rule"`
	Service string `json:"service,omitempty"`
	Reason  string `json:"reason"`
	Actor   string `json:"actor"`
	Created string `json:"created"`
	Until   string `json:"until"`
	Ended   string `json:"ended,omitempty"`
	EndedBy string `json:"ended_by,omitempty"`
	Active  bool   `json:"active"`
}

func newMuteJSON(m *state.Mute, now time.Time) muteJSON {
	return muteJSON{
		ID: m.ID, Tenant: cmp.Or(m.Tenant, scheduler.SingleTenant), Pack: m.Pack, Rule: m.Rule, Service: m.Service, Reason: m.Reason, Actor: m.Actor,
		Created: stampJSON(m.Created), Until: stampJSON(m.Until), Ended: stampJSON(m.Ended), EndedBy: m.EndedBy, Active: m.Active(now),
	}
}

func (p *program) printMutes(list []muteJSON) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(p.stdout, "no rule is muted")
		return err
	}
	w := &checkedWriter{w: p.stdout}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "MUTE\tRULE\tSERVICE\tTENANT\tUNTIL\tBY\tREASON")
	for _, m := range list {
		until := m.Until
		if m.Ended != "" {
			until = "ended " + m.Ended
		}
		fmt.Fprintf(table, "%s\t%s/%s\t%s\t%s\t%s\t%s\t%s\n", m.ID, m.Pack, m.Rule, cmp.Or(m.Service, "all"), strings.ReplaceAll(m.Tenant, scheduler.AllTenants, "all"), until, oneLine(m.Actor), oneLine(m.Reason))
	}
	table.Flush() //nolint:errcheck // w keeps the error
	return w.err
}

// offline changes the state itself, if err says that no service runs.
func (p *program) offline(ctx context.Context, err error, change func(context.Context, *state.DB, *evidence.Key, time.Time) (state.Mute, error)) (id string, _ error) {
	var noService *noService
	if !errors.As(err, &noService) {
		return "", err
	}
	err = p.writeState(ctx, func(ctx context.Context, db *state.DB) error {
		now := time.Now().UTC()
		key, err := scheduler.SigningKey(ctx, db, p.config.Signing.KeyFile, now)
		if err != nil {
			return err
		}
		m, err := change(ctx, db, key, now)
		id = m.ID
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%w (%w)", err, noService)
	}
	return id, nil
}

// parseUntil parses a time, or a duration from now.
func parseUntil(text string, now time.Time) (time.Time, error) {
	if d, err := model.ParseDuration(text); err == nil && d > 0 {
		return now.Add(time.Duration(d)).UTC().Truncate(time.Second), nil
	}
	t, err := parseTime("--until", text)
	if err != nil {
		return t, fmt.Errorf("%w, or a duration (24h, 7d)", err)
	}
	return t, nil
}

// userName returns the name of the user of this machine.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
