package state_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/scheduler/state/statetest"
	"github.com/betracehq/betrace/trace"
)

// The fixtures are states that earlier versions wrote, one for each schema version. They are never written again: a
// change of the schema is another migration, and adds a fixture with this flag.
var writeFixture = flag.String("state.fixture", "", "write the state of TestStateOfEarlierVersionsIsRead to this new file, compressed with gzip, instead of reading it")

// content is what the fixtures have. Fields that later versions add are zero in earlier fixtures.
type content struct {
	Entries     []state.Entry // without digests and envelopes, which depend on the key
	Ledgers     []state.Ledger
	Blocks      map[string]state.Block
	Rules       []state.LoadedRule
	Holes       []state.Hole
	Sweeps      []state.SweepState
	Violations  []state.Violation
	Corrections []state.Correction
	Deliveries  []state.Delivery
	Refused     []state.Refused
	Packs       []state.Pack
	Config      string
	Mutes       []state.Mute         // since version 2
	Canaries    []state.Canary       // since version 3
	Capped      []state.ListedCapped // since version 4
	RuleSet     state.RuleSet        // since version 5
}

// fixtureContent returns the content and the work of which its entries consist.
func fixtureContent() (content, []*statetest.Work) {
	at := func(minutes int) time.Time { return statetest.Epoch.Add(time.Duration(minutes) * time.Minute) }
	provisional := statetest.Violation(2)
	provisional.About, provisional.Muted = nil, true
	works := []*statetest.Work{
		{Tenant: "acme", Time: at(1), Event: &evidence.Event{Name: evidence.EventPackLoaded, Details: map[string]string{"pack": "payments"}}},
		{Tenant: "acme", Time: at(2), Sinks: []string{"loki", "tempo"}, Violations: []state.Violation{statetest.Violation(1), provisional, statetest.Violation(3)}},
		{Tenant: "acme", Time: at(3)},
		{Tenant: "acme", Time: at(4), Kind: evidence.EntryCoverage},
		{Tenant: "zoo", Time: at(5), Violations: []state.Violation{statetest.Violation(4)}},
	}
	first := works[1].Violations[0]
	first.ID = evidence.ViolationID("acme", first.Pack, first.RuleID, first.RuleDigest, first.TraceID)
	withdrawn := statetest.Correction(&first, evidence.Withdrawn)
	works[2].Corrections = []state.Correction{withdrawn}
	first.Sequence, first.Spans = 1, withdrawn.SpansAfter
	works[3].Corrections = []state.Correction{statetest.Correction(&first, evidence.Reinstated)}
	list := state.CappedList{ID: 1, Tenant: "acme", Entry: 2, Ledger: 1, Pack: "payments", Rule: "rule-01", Digest: "d", Severity: "high"}
	capped := []state.CappedViolation{
		{List: 1, TraceID: trace.ID{1}, TraceStart: trace.TimeOf(at(1)), About: []trace.SpanID{{1}, {2}}, Spans: 3, Status: state.StatusOpen},
		{List: 1, TraceID: trace.ID{2}, TraceStart: trace.TimeOf(at(2)), Spans: 4, Status: state.StatusOpen},
	}
	late := capped[1]
	late.Spans, late.Status = 5, state.StatusWithdrawn
	works[1].Capped = []statetest.Capped{{Kind: evidence.CappedFound, List: list, Violations: capped}}
	works[2].Capped = []statetest.Capped{{Kind: evidence.CappedWithdrawn, List: list, Violations: []state.CappedViolation{late}}}
	late.Changed = 3
	block := state.Block{ID: "b1", State: state.BlockJudged, Level: 1, Start: at(1), End: at(2), Earliest: at(1), Latest: at(2), Traces: 5, Bytes: 6,
		FirstListed: at(3), Written: at(4), Compacted: true, CompactedAt: at(5), Failures: 1, Reason: "r", Entry: 2}
	c := content{
		Ledgers: []state.Ledger{{ID: 1, Tenant: "acme", Source: "blocks", Schedule: "@every 5m", Begins: at(0), Watermark: at(1), Frontier: at(2), Listings: 3, ListedAt: at(4), Created: at(5)}},
		Blocks:  map[string]state.Block{"b1": block, "b2": {ID: "b2", State: state.BlockPending}},
		Rules: []state.LoadedRule{{Ledger: 1, Pack: "payments", Rule: "rule-01", Digest: "d", Title: "t", Severity: "high", Begins: at(1), SinceEntry: 2, Ended: at(3)},
			{Ledger: 1, Pack: "payments", Rule: "rule-02", Digest: "d"}},
		Holes: []state.Hole{{ID: 1, Ledger: 1, Pack: "payments", Rule: "rule-01", Digest: "d", From: at(1), To: at(2), Reason: "error", Subject: "trace 1", Entry: 2, ClosedEntry: 3},
			{ID: 2, Ledger: 1, From: at(2), To: at(3), Reason: "expired", Subject: "block b", Entry: 3}},
		Sweeps:  []state.SweepState{{Sweep: "all", Tenant: "acme", Ledger: 1, LastTick: at(1), LastRun: at(2), LastError: "e", LastErrorAt: at(3), Ticks: 4, Missed: 5, Paused: true, HasData: true}},
		Refused: []state.Refused{{Tenant: "acme", Sink: "loki", Kind: "violation", ID: "v", Entry: 2, Reason: "too old", At: at(1)}},
		Packs:   []state.Pack{{Digest: "d", Name: "payments", Version: "1.2.0", Path: "/etc/betrace/rules", Content: []byte("rules: []"), LoadedAt: at(1)}},
		Deliveries: []state.Delivery{{Tenant: "acme", Entry: 2, Sink: "loki", Items: 3, State: state.DeliverySending, Tries: 1, NextAt: at(1), SentAt: at(2), RefileAt: at(3), Created: at(4), Error: "e"},
			{Tenant: "acme", Entry: 2, Sink: "tempo", Items: 3, State: state.DeliveryNew, NextAt: at(2), Created: at(2)}},
		Config:   "c0ffee",
		RuleSet:  state.RuleSet{Number: 2, Packs: []string{"d"}},
		Canaries: []state.Canary{{ID: "c2", Ledger: 1, Kind: state.KindSeeded, Sent: at(2)}, {ID: "c1", Ledger: 1, Kind: state.KindCanary, Sent: at(1), Found: at(3), Missed: at(2)}},
		Capped:   []state.ListedCapped{{CappedList: list, CappedViolation: capped[0]}, {CappedList: list, CappedViolation: late}},
		Mutes: []state.Mute{{ID: "m1", Tenant: "*", Pack: "payments", Rule: "rule-01", Service: "shop", Reason: "known", Actor: "ann", Salt: "5a17", Created: at(1), Until: at(2), Ended: at(3), EndedBy: "bob"},
			{ID: "m2", Tenant: "acme", Pack: "payments", Rule: "rule-02", Created: at(0), Until: at(9)}},
	}
	return c, works
}

// TestStateOfEarlierVersionsIsRead opens copies of the fixtures, which upgrades them, and reads all of them.
func TestStateOfEarlierVersionsIsRead(t *testing.T) {
	if *writeFixture != "" {
		fillFixture(t, *writeFixture)
		return
	}
	fixtures, err := filepath.Glob(filepath.Join("testdata", "v*.db.gz"))
	require.NoError(t, err)
	require.Len(t, fixtures, state.NewestVersion(), "there is a fixture for each schema version: write one with -state.fixture")
	for i, fixture := range fixtures {
		version := int64(i + 1)
		t.Run(filepath.Base(fixture), func(t *testing.T) {
			path := unpack(t, fixture)
			requireFullTables(t, path)
			if onPostgres {
				path = onPostgresOf(t, path, version)
			}
			db := openAt(t, path)
			want, works := fixtureContent()
			key := writeContent(t, open(t), &want, works)
			if filepath.Base(fixture) < "v5.db.gz" {
				want.RuleSet = state.RuleSet{}
			}
			if filepath.Base(fixture) < "v4.db.gz" {
				want.Capped = nil
			}
			if filepath.Base(fixture) < "v3.db.gz" {
				want.Canaries = nil
			}
			if filepath.Base(fixture) < "v2.db.gz" {
				want.Mutes = nil
				for i := range want.Violations {
					want.Violations[i].Muted = false
				}
			}
			have := readContent(t, db)
			for _, entries := range [][]state.Entry{want.Entries, have.Entries} {
				for i := range entries {
					entries[i].Digest, entries[i].Previous, entries[i].Envelope = "", "", nil
				}
			}
			equal(t, want, have)
			v, err := db.Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, faults(v))
			require.Equal(t, []int64{2, 5, 4, 2, 2}, []int64{v.Tenants, v.Entries, v.Violations, v.Corrections, v.Deliveries})
			require.Regexp(t, `^[0-9a-f]{8}$`, db.Instance())

			// The service goes on.
			keys, err := db.Keys(t.Context())
			require.NoError(t, err)
			require.Len(t, keys, 1)
			write(t, db, func(ctx context.Context, tx *state.Tx) error {
				return tx.PutKey(ctx, state.Key{ID: key.ID(), PEM: key.Public().PEM(), Added: epoch})
			})
			event := evidence.Event{Name: evidence.EventKeyAdded, Details: map[string]string{"key": key.ID()}}
			write(t, db, func(ctx context.Context, tx *state.Tx) error {
				_, err := statetest.Append(ctx, tx, key, &statetest.Work{Tenant: "acme", Time: epoch, Event: &event})
				return err
			})
			require.NoError(t, statetest.Fill(t.Context(), db, key, "acme", 100, 3, "loki"))
			v, err = db.Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, faults(v))
		})
	}
}

// writeContent fills a new database, and completes the content by the entries, violations and corrections.
func writeContent(t *testing.T, db *state.DB, c *content, works []*statetest.Work) *evidence.Key {
	t.Helper()
	key, err := statetest.Key(t.Context(), db)
	require.NoError(t, err)
	write(t, db, func(ctx context.Context, tx *state.Tx) error {
		id, err := tx.CreateLedger(ctx, c.Ledgers[0])
		require.NoError(t, err)
		require.Equal(t, c.Ledgers[0].ID, id)
		for _, b := range c.Blocks {
			require.NoError(t, tx.PutBlocks(ctx, id, []state.Block{b}))
		}
		require.NoError(t, tx.PutLoadedRules(ctx, c.Rules))
		holes := append([]state.Hole(nil), c.Holes...)
		for i := range holes {
			holes[i].ID = 0
		}
		require.NoError(t, tx.PutHoles(ctx, holes))
		for _, s := range c.Sweeps {
			require.NoError(t, tx.PutSweep(ctx, s))
		}
		require.NoError(t, tx.PutRefused(ctx, c.Refused))
		for _, p := range c.Packs {
			require.NoError(t, tx.PutPack(ctx, p))
		}
		require.NoError(t, tx.PutConfig(ctx, c.Config))
		require.NoError(t, tx.PutCanaries(ctx, c.Canaries))
		require.NoError(t, tx.PutRuleSet(ctx, "all", c.RuleSet))
		for _, m := range c.Mutes {
			require.NoError(t, tx.PutMute(ctx, m))
		}
		for _, w := range works {
			e, err := statetest.Append(ctx, tx, key, w)
			require.NoError(t, err)
			c.Entries = append(c.Entries, e)
		}
		return tx.PutDeliveries(ctx, c.Deliveries)
	})
	require.NoError(t, db.Beat(t.Context(), "r1", "pid 1 on host"))
	_, err = db.TakeClaim(t.Context(), "tenant acme", "r1", time.Hour, false)
	require.NoError(t, err)
	for _, w := range works {
		c.Violations = append(c.Violations, w.Violations...)
		c.Corrections = append(c.Corrections, w.Corrections...)
	}
	// Its second correction reinstated it on two more spans.
	last := c.Corrections[len(c.Corrections)-1]
	c.Violations[0].Spans, c.Violations[0].Sequence = last.SpansAfter, last.Sequence
	return key
}

// readContent reads all of a database.
func readContent(t *testing.T, db *state.DB) (c content) {
	t.Helper()
	ctx := t.Context()
	tenants, err := db.Tenants(ctx)
	require.NoError(t, err)
	var traces []trace.ID
	for _, tenant := range tenants {
		for e, err := range db.Entries(ctx, tenant, 1, 0) {
			require.NoError(t, err)
			c.Entries = append(c.Entries, e)
			violations, err := db.EntryViolations(ctx, tenant, e.Number)
			require.NoError(t, err)
			c.Violations = append(c.Violations, violations...)
			for _, v := range violations {
				traces = append(traces, v.TraceID)
			}
			corrections, err := db.EntryCorrections(ctx, tenant, e.Number)
			require.NoError(t, err)
			c.Corrections = append(c.Corrections, corrections...)
		}
	}
	filtered, err := db.Violations(ctx, state.ViolationFilter{})
	require.NoError(t, err)
	require.Len(t, filtered, len(c.Violations))
	ofTraces, err := db.ViolationsOfTraces(ctx, "acme", traces)
	require.NoError(t, err)
	require.Len(t, ofTraces, len(c.Violations)-1)
	c.Ledgers, err = db.Ledgers(ctx)
	require.NoError(t, err)
	c.Blocks, err = db.LedgerBlocks(ctx, 1)
	require.NoError(t, err)
	c.Rules, err = db.LoadedRules(ctx, 1)
	require.NoError(t, err)
	c.Holes, err = db.Holes(ctx, 1)
	require.NoError(t, err)
	c.Sweeps, err = db.Sweeps(ctx)
	require.NoError(t, err)
	c.Deliveries, err = db.DueDeliveries(ctx, statetest.Epoch.Add(time.Hour), 100)
	require.NoError(t, err)
	c.Refused, err = db.RefusedItems(ctx)
	require.NoError(t, err)
	c.Packs, err = db.Packs(ctx)
	require.NoError(t, err)
	c.Mutes, err = db.Mutes(ctx)
	require.NoError(t, err)
	c.Canaries, err = db.Canaries(ctx, 1, time.Time{})
	require.NoError(t, err)
	c.RuleSet, err = db.RuleSet(ctx, "all")
	require.NoError(t, err)
	c.Capped, err = db.CappedOfTraces(ctx, "acme", []trace.ID{{1}, {2}, {3}})
	require.NoError(t, err)
	var each []state.ListedCapped
	require.NoError(t, db.EachCapped(ctx, state.ViolationFilter{Tenant: "acme"}, func(v *state.ListedCapped) error {
		each = append(each, *v)
		return nil
	}))
	equal(t, c.Capped, each)
	write(t, db, func(ctx context.Context, tx *state.Tx) (err error) {
		c.Config, err = tx.Config(ctx)
		return err
	})
	return c
}

// fillFixture writes a fixture of the present version.
func fillFixture(t *testing.T, file string) {
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := state.Open(t.Context(), state.Options{Path: path, Now: func() time.Time { return statetest.Epoch }})
	require.NoError(t, err)
	c, works := fixtureContent()
	writeContent(t, db, &c, works)
	require.NoError(t, db.Close())
	plain, err := os.ReadFile(path)
	require.NoError(t, err)
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // a file of the repository
	require.NoError(t, err, "fixtures are never overwritten")
	_, err = out.Write(packed.Bytes())
	require.NoError(t, err)
	require.NoError(t, out.Close())
}

// unpack writes the database of a fixture to a temporary file.
func unpack(t *testing.T, fixture string) string {
	t.Helper()
	f, err := os.Open(fixture)
	require.NoError(t, err)
	defer f.Close()
	r, err := gzip.NewReader(f)
	require.NoError(t, err)
	plain, err := io.ReadAll(r)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "state.db")
	require.NoError(t, os.WriteFile(path, plain, 0o600))
	return path
}

// onPostgresOf returns the URL of a database with the rows of a fixture, and with the schema of its version.
func onPostgresOf(t *testing.T, fixture string, version int64) string {
	t.Helper()
	path := location(t)
	from, to := connectSQL(t, fixture), connectSQL(t, path)
	defer from.Close()
	defer to.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, to, os.DirFS("migrations/postgres"), goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	_, err = provider.UpTo(t.Context(), version)
	require.NoError(t, err)
	tx, err := to.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	for _, table := range state.CopiedTables {
		var exists bool
		require.NoError(t, to.QueryRowContext(t.Context(), `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&exists))
		if exists {
			require.NoError(t, state.CopyTable(t.Context(), table, from, tx))
		}
	}
	require.NoError(t, tx.Commit())
	return path
}

// requireFullTables fails if a table of a fixture has no row, and so is not tested.
func requireFullTables(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
	require.NoError(t, err)
	var tables []string
	for rows.Next() {
		var table string
		require.NoError(t, rows.Scan(&table))
		tables = append(tables, table)
	}
	require.NoError(t, rows.Err())
	require.NoError(t, rows.Close())
	require.Greater(t, len(tables), 10)
	for _, table := range tables {
		var n int
		require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM `+table).Scan(&n))
		require.Positive(t, n, "table %s", table)
	}
}
