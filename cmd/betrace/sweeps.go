package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
)

func (p *program) sweepsCommand() *cobra.Command {
	var format string
	list := &cobra.Command{
		Use:   "sweeps",
		Short: "List the sweeps with their progress, and run, pause or resume them",
		Long: `List the sweeps with their progress: for each tenant the time up to which everything was judged, the last tick,
the blocks that wait or cannot be read, missed ticks and the last error. Deliveries that wait for a sink, and items that
a sink refuses for good, are listed below. The command reads the state and needs no running service.`,
		Args: noArguments("use run, pause or resume before the name of a sweep"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}
			return p.listSweeps(cmd, format)
		},
	}
	p.config.addFlagsOf(list.Flags(), "state")
	addOutput(list.Flags(), &format)
	list.AddCommand(
		p.sweepActionCommand("run", "Run a tick of a sweep now", `Run a tick of each tenant of a sweep now. The running service does this; without one, use
betrace serve --once.`),
		p.sweepActionCommand("pause", "Pause a sweep", `Pause a sweep for every tenant, until it is resumed. Data stays unjudged meanwhile; when the sweep is
resumed, it judges what Tempo still has. Without a running service, the command writes to the state itself.`),
		p.sweepActionCommand("resume", "Resume a sweep", `Resume a sweep that was paused. Without a running service, the command writes to the state itself.`),
	)
	return list
}

// sweepList is the output of sweeps.
type sweepList struct {
	sweeps  []scheduler.SweepStatus
	outbox  map[string]state.OutboxDepth
	refused []state.Refused
}

func (p *program) listSweeps(cmd *cobra.Command, format string) error {
	var list sweepList
	now := time.Now().UTC()
	err := p.readState(cmd, func(ctx context.Context, r *state.Reader) (err error) {
		configured, err := p.config.sweeps()
		if err != nil {
			return err
		}
		if list.sweeps, err = scheduler.SweepStatuses(ctx, r, configured, now); err != nil {
			return err
		}
		if list.outbox, err = r.Outbox(ctx); err != nil {
			return err
		}
		list.refused, err = r.RefusedItems(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if format == "json" {
		return printJSON(p.stdout, list.json())
	}
	return list.print(p.stdout, now, len(p.config.Sweeps) > 0)
}

// print writes the sweeps. Those that are not in the configuration are marked if it has any.
func (l *sweepList) print(to io.Writer, now time.Time, isConfigured bool) error {
	paint := newPainter(to)
	w := &checkedWriter{w: to}
	if len(l.sweeps) == 0 {
		fmt.Fprintln(w, "no sweep has run, and the configuration has none")
	}
	for i := range l.sweeps {
		s := &l.sweeps[i]
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s  %s\n", s.Name, sweepStatus(s, isConfigured, paint))
		if len(s.Tenants) == 0 {
			fmt.Fprintln(w, "  no tenant was found yet")
			continue
		}
		table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(table, "  TENANT\tCOMPLETE UP TO\tBEHIND\tLAST TICK\tWAITING\tASIDE\tMISSED")
		for j := range s.Tenants {
			t := &s.Tenants[j]
			behind, last := "", "never"
			if !t.Watermark.IsZero() {
				behind = roughly(now.Sub(t.Watermark))
			}
			if !t.LastTick.IsZero() {
				last = roughly(now.Sub(t.LastTick)) + " ago"
			}
			upTo := cmp.Or(stampJSON(t.Watermark), "nothing yet")
			if !t.HasData && !t.LastTick.IsZero() {
				upTo, behind = "no data", ""
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%d\t%d\t%d\n", t.Tenant, upTo, behind, last, t.Waiting, t.Aside, t.Missed)
		}
		table.Flush() //nolint:errcheck // w keeps the error
		for j := range s.Tenants {
			if t := &s.Tenants[j]; t.LastError != "" {
				fmt.Fprintln(w, paint.paint(red, wrap("  ", fmt.Sprintf("%s failed at %s: %s", t.Tenant, stamp(t.LastErrorAt), oneLine(t.LastError)))))
			}
		}
	}
	l.printDeliveries(w, now)
	return w.err
}

// sweepStatus returns the schedule of a sweep and its status.
func sweepStatus(s *scheduler.SweepStatus, isConfigured bool, paint painter) string {
	parts := []string{s.Schedule}
	var next time.Time
	overdue := false
	for i := range s.Tenants {
		t := &s.Tenants[i]
		overdue = overdue || t.IsOverdue
		if !t.NextTick.IsZero() && (next.IsZero() || t.NextTick.Before(next)) {
			next = t.NextTick
		}
	}
	switch {
	case s.Paused:
		parts = append(parts, paint.paint(yellow, "paused"))
	case isConfigured && !s.IsConfigured:
		parts = append(parts, "not in the configuration")
	case next.IsZero():
		parts = append(parts, "no tick yet")
	case overdue:
		parts = append(parts, paint.paint(red, "overdue since "+stamp(next)))
	default:
		parts = append(parts, "next tick "+stamp(next))
	}
	return strings.Join(parts, "  ")
}

// printDeliveries writes the backlog of the sinks and the refused items.
func (l *sweepList) printDeliveries(w io.Writer, now time.Time) {
	for _, sink := range slices.Sorted(maps.Keys(l.outbox)) {
		d := l.outbox[sink]
		fmt.Fprintf(w, "\n%s: %s to deliver, the oldest for %s\n", sink, counted(d.Items, "item"), roughly(now.Sub(d.Oldest)))
	}
	if len(l.refused) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s refused for good\n", counted(len(l.refused), "item"))
	for _, r := range l.refused[:min(len(l.refused), maxListed)] {
		fmt.Fprintf(w, "  %s %s by %s at %s\n", r.Kind, r.ID, r.Sink, stamp(r.At))
		fmt.Fprintln(w, wrap("    ", oneLine(r.Reason)))
	}
	if n := len(l.refused) - maxListed; n > 0 {
		fmt.Fprintf(w, "  and %d more: use --output json\n", n)
	}
}

// sweepListJSON is the output of sweeps as JSON.
type sweepListJSON struct {
	Sweeps  []sweepJSON   `json:"sweeps"`
	Outbox  []outboxJSON  `json:"outbox"`
	Refused []refusedJSON `json:"refused"`
}

type sweepJSON struct {
	Name       string            `json:"name"`
	Schedule   string            `json:"schedule"`
	Configured bool              `json:"configured"`
	Paused     bool              `json:"paused"`
	Tenants    []sweepTenantJSON `json:"tenants"`
}

type sweepTenantJSON struct {
	Tenant      string `json:"tenant"`
	HasData     bool   `json:"has_data"`
	Watermark   string `json:"watermark"`
	LastTick    string `json:"last_tick"`
	NextTick    string `json:"next_tick"`
	Overdue     bool   `json:"overdue"`
	Ticks       int64  `json:"ticks"`
	Missed      int64  `json:"missed"`
	Waiting     int    `json:"blocks_waiting"`
	Aside       int    `json:"blocks_aside"`
	LastError   string `json:"last_error"`
	LastErrorAt string `json:"last_error_at"`
}

type outboxJSON struct {
	Sink       string `json:"sink"`
	Deliveries int    `json:"deliveries"`
	Items      int    `json:"items"`
	Oldest     string `json:"oldest"`
}

type refusedJSON struct {
	Tenant string `json:"tenant"`
	Sink   string `json:"sink"`
	Kind   string `json:"kind"`
	ID     string `json:"id"`
	Entry  int64  `json:"entry"`
	Reason string `json:"reason"`
	At     string `json:"at"`
}

func (l *sweepList) json() *sweepListJSON {
	out := &sweepListJSON{Sweeps: []sweepJSON{}, Outbox: []outboxJSON{}, Refused: []refusedJSON{}}
	for i := range l.sweeps {
		s := &l.sweeps[i]
		sweep := sweepJSON{Name: s.Name, Schedule: s.Schedule, Configured: s.IsConfigured, Paused: s.Paused, Tenants: []sweepTenantJSON{}}
		for j := range s.Tenants {
			t := &s.Tenants[j]
			sweep.Tenants = append(sweep.Tenants, sweepTenantJSON{
				Tenant: t.Tenant, HasData: t.HasData, Watermark: stampJSON(t.Watermark), LastTick: stampJSON(t.LastTick), NextTick: stampJSON(t.NextTick), Overdue: t.IsOverdue,
				Ticks: t.Ticks, Missed: t.Missed, Waiting: t.Waiting, Aside: t.Aside, LastError: t.LastError, LastErrorAt: stampJSON(t.LastErrorAt),
			})
		}
		out.Sweeps = append(out.Sweeps, sweep)
	}
	for _, sink := range slices.Sorted(maps.Keys(l.outbox)) {
		d := l.outbox[sink]
		out.Outbox = append(out.Outbox, outboxJSON{Sink: sink, Deliveries: d.Deliveries, Items: d.Items, Oldest: stampJSON(d.Oldest)})
	}
	for _, r := range l.refused {
		out.Refused = append(out.Refused, refusedJSON{Tenant: r.Tenant, Sink: r.Sink, Kind: r.Kind, ID: r.ID, Entry: r.Entry, Reason: r.Reason, At: stampJSON(r.At)})
	}
	return out
}

func (p *program) sweepActionCommand(action, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   action + " NAME",
		Short: short,
		Long:  long,
		Args:  oneArgument("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			name := args[0]
			var done struct{ Sweep, Action string }
			err := p.askService(cmd.Context(), "sweeps/"+name+"/"+action, nil, &done)
			if err == nil && (done.Sweep != name || done.Action != action) {
				err = p.notTheService()
			}
			var offline *noService
			switch {
			case errors.As(err, &offline) && action == "run":
				return fmt.Errorf("%w: set server.address to that of the service, or run betrace serve --once", err)
			case errors.As(err, &offline):
				if err = p.setPaused(cmd.Context(), name, action == "pause"); err != nil {
					return fmt.Errorf("%w (%w)", err, offline)
				}
			case err != nil:
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "sweep %s: %s\n", name, map[string]string{"run": "a tick of each tenant starts now", "pause": "paused", "resume": "resumed"}[action])
			return err
		},
	}
	p.config.addFlagsOf(cmd.Flags(), "address", "state", "signing-key")
	return cmd
}

// noService is the error that no service answers at an address.
type noService struct {
	address string
	err     error
}

func (e *noService) Error() string {
	return fmt.Sprintf("no service answers at %s: %v", e.address, e.err)
}
func (e *noService) Unwrap() error { return e.err }

// askTimeout bounds a request to the service.
const askTimeout = 30 * time.Second

// serviceAddress returns the address at which the service answers.
func (p *program) serviceAddress() string {
	address := p.config.Server.Address
	// A server may listen on all addresses.
	if host, port, err := net.SplitHostPort(address); err == nil && (host == "" || net.ParseIP(host).IsUnspecified()) {
		address = net.JoinHostPort("localhost", port)
	}
	return address
}

func (p *program) notTheService() error {
	return fmt.Errorf("the server at %s is not betrace serve: set server.address", p.serviceAddress())
}

// askService sends a request to the running service, with a body and an answer in JSON. The error is a [noService] if
// nothing listens there.
func (p *program) askService(ctx context.Context, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	address := p.serviceAddress()
	scheme, client, err := p.config.Server.TLS.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	target := url.URL{Scheme: scheme, Host: address, Path: "/api/v1/" + path}
	content, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("request to the service: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("server.address %s: %w", address, err)
	}
	response, err := client.Do(request)
	if err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return &noService{address, dial.Err}
		}
		return fmt.Errorf("service at %s: %w", address, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil {
		return fmt.Errorf("service at %s: %w", address, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("service at %s: %s", address, oneLine(strings.TrimSpace(string(text))))
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return p.notTheService()
	}
	return nil
}

// setPaused pauses or resumes a sweep in the state, which no service may use.
func (p *program) setPaused(ctx context.Context, name string, paused bool) error {
	return p.writeState(ctx, func(ctx context.Context, db *state.DB) error {
		configured, err := p.config.sweeps()
		if err != nil {
			return err
		}
		now := time.Now().UTC()
		known, err := scheduler.SweepStatuses(ctx, &db.Reader, configured, now)
		if err != nil {
			return err
		}
		names := make([]string, len(known))
		for i := range known {
			names[i] = known[i].Name
		}
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no sweep %s; there are: %s", name, strings.Join(names, ", "))
		}
		key, err := scheduler.SigningKey(ctx, db, p.config.Signing.KeyFile, now)
		if err != nil {
			return err
		}
		return scheduler.SetPaused(ctx, db, key, engineVersion(), now, name, paused)
	})
}
