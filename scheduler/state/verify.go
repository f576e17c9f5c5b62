package state

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/betracehq/betrace/evidence"
)

// Verification is the result of [DB.Verify].
type Verification struct {
	Tenants, Entries, Violations, Corrections, Blobs, Deliveries int64
	// Capped counts the violations that are not kept in full. Violations does not include them.
	Capped int64
	// Keys are the keys of the database in the order of their addition, with their use.
	Keys []KeyUse
	// Faults are the first 100 faults and in any case the first one of an entry. Those of entries are in the order of
	// tenants and numbers, and those of missing entries come last. More counts the others.
	Faults []Fault
	More   int
}

// KeyUse is a key of the database and the number of entries that it signed.
type KeyUse struct {
	ID string
	// Retired is zero for the key that signs.
	Added, Retired time.Time
	Entries        int64
}

// Fault is a difference between the database and the one that the service wrote.
type Fault struct {
	// Tenant and Entry identify the entry. Entry is 0 if the fault concerns no single entry.
	Tenant string
	Entry  int64
	Reason string
}

// String returns the fault as a sentence without a full stop.
func (f Fault) String() string {
	if f.Entry == 0 {
		return f.Reason
	}
	return fmt.Sprintf("entry %d of tenant %q: %s", f.Entry, f.Tenant, f.Reason)
}

// OK reports that there is no fault.
func (v *Verification) OK() bool { return len(v.Faults) == 0 }

// FirstEntry returns the first fault of an entry. It reports false if no entry has one.
func (v *Verification) FirstEntry() (Fault, bool) {
	i := slices.IndexFunc(v.Faults, func(f Fault) bool { return f.Entry > 0 })
	if i < 0 {
		return Fault{}, false
	}
	return v.Faults[i], true
}

// maxFaults bounds the list of faults.
const maxFaults = 100

// Verify checks that nobody has edited the database: its tables and triggers, and for each entry its signature by a
// key of the database, its place in the chain, its results, and each line of its violations and corrections. The
// status of each violation must follow from its corrections. Capped violations must be those of the signed lists. Rows must
// not refer to missing entries.
//
// It reads only, also while a service writes, and its memory does not grow with the database. An error means that the
// database could not be read, and a fault that it was edited or damaged.
//
// It cannot detect every edit by someone who has the signing key, nor that the last entries are missing together with
// all that belongs to them. The circumstances of violations, the ledgers, and the state of sweeps are not signed.
func (db *DB) Verify(ctx context.Context) (*Verification, error) {
	v := &verifier{db: db, Verification: &Verification{}}
	for _, check := range []func(context.Context) error{v.checkSchema, v.checkPages, v.loadKeys, v.checkTenants, v.checkReferences, v.checkBlobs, v.count} {
		if err := check(ctx); err != nil {
			return nil, fmt.Errorf("verify state %s: %w", db.Path(), err)
		}
	}
	return v.Verification, nil
}

type verifier struct {
	*Verification
	db   *DB
	keys []evidence.PublicKey
	uses map[string]*KeyUse
}

// add adds a fault. The first one of an entry always has a place in the list.
func (v *verifier) add(tenant string, entry int64, format string, args ...any) {
	f := Fault{Tenant: tenant, Entry: entry, Reason: fmt.Sprintf(format, args...)}
	if _, found := v.FirstEntry(); len(v.Faults) < maxFaults || (!found && entry > 0) {
		v.Faults = append(v.Faults, f)
	} else {
		v.More++
	}
}

func (v *verifier) loadKeys(ctx context.Context) error {
	keys, err := v.db.Keys(ctx)
	if err != nil {
		return err
	}
	v.uses = map[string]*KeyUse{}
	v.Keys = make([]KeyUse, len(keys))
	for i, k := range keys {
		v.Keys[i] = KeyUse{ID: k.ID, Added: k.Added, Retired: k.Retired}
		v.uses[k.ID] = &v.Keys[i]
		public, err := evidence.ParsePublicKey(k.PEM)
		switch {
		case err != nil:
			v.add("", 0, "key %s: %v", k.ID, err)
		case public.ID() != k.ID:
			v.add("", 0, "key %s: its public key has the ID %s", k.ID, public.ID())
		default:
			v.keys = append(v.keys, public)
		}
	}
	return nil
}

func (v *verifier) checkTenants(ctx context.Context) error {
	tenants, err := v.db.Tenants(ctx)
	if err != nil {
		return err
	}
	v.Tenants = int64(len(tenants))
	for _, tenant := range tenants {
		l := log{verifier: v, tenant: tenant, replaced: map[string]bool{}, announced: map[string]bool{}}
		for done := false; !done; {
			// One moment for each page: a longer one would make the log of a busy database grow.
			err := v.db.View(ctx, func(ctx context.Context, r *Reader) (err error) {
				done, err = l.checkPage(ctx, r)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// log is the check of the entries of one tenant.
type log struct {
	*verifier
	tenant string
	// last is the number of the entry before, column its stored digest, and digest that of its envelope.
	last           int64
	column, digest string
	// keyID is the key of the entry before, replaced are the earlier ones. announced are the keys that events have named.
	keyID               string
	replaced, announced map[string]bool
}

// checkPage checks the next entries. It reports true after the last one.
func (l *log) checkPage(ctx context.Context, r *Reader) (bool, error) {
	page, err := r.pageOfEntries(ctx, l.tenant, l.last+1, math.MaxInt64)
	if err != nil || len(page) == 0 {
		return true, err
	}
	first, last := page[0].Number, page[len(page)-1].Number
	violations, err := r.countByEntry(ctx, "violations", l.tenant, first, last)
	if err != nil {
		return false, err
	}
	corrections, err := r.countByEntry(ctx, "corrections", l.tenant, first, last)
	if err != nil {
		return false, err
	}
	capped, err := r.countCapped(ctx, l.tenant, first, last)
	if err != nil {
		return false, err
	}
	for i := range page {
		e := &page[i]
		l.Entries++
		statement := l.checkEntry(e)
		if statement == nil {
			continue // the reason is known
		}
		results, err := l.checkResults(ctx, r, e, statement)
		if err != nil {
			return false, err
		}
		if err := l.checkViolations(ctx, r, e.Number, set{statement.Violations, results.violations(), violations[e.Number]}); err != nil {
			return false, err
		}
		if err := l.checkCorrections(ctx, r, e.Number, set{statement.Corrections, results.corrections(), corrections[e.Number]}); err != nil {
			return false, err
		}
		if err := l.checkCapped(ctx, r, e.Number, statement.Capped, results, capped[e.Number]); err != nil {
			return false, err
		}
	}
	return len(page) < entryPage, nil
}

// checkEntry checks the entry alone and its place in the chain. It returns nil if the statement cannot be trusted.
func (l *log) checkEntry(e *Entry) *evidence.Statement {
	switch next := l.last + 1; {
	case e.Number == next+1:
		l.add(l.tenant, next, "it is missing")
	case e.Number > next:
		l.add(l.tenant, next, "it is missing, and so are all up to entry %d", e.Number-1)
	}
	digest := evidence.EntryDigest(e.Envelope)
	chained := e.Previous == l.digest || e.Previous == l.column
	switch {
	case e.Number == l.last+1 && !chained:
		l.add(l.tenant, e.Number, "it follows an entry with the digest %s, and the entry before has %s", short(e.Previous), short(l.digest))
	case e.Digest != digest:
		l.add(l.tenant, e.Number, "its envelope was changed: its digest is %s, not %s", short(digest), short(e.Digest))
	}
	l.last, l.column, l.digest = e.Number, e.Digest, digest
	s, keyID, err := evidence.OpenEnvelope(e.Envelope, l.keys...)
	if err != nil {
		l.add(l.tenant, e.Number, "%v", err)
		return nil
	}
	signed := Entry{Tenant: s.Tenant, Number: s.Number, Kind: string(s.Kind), Time: s.Time, Previous: s.Previous}
	for _, c := range []struct {
		column       string
		have, signed any
	}{
		{"tenant", e.Tenant, signed.Tenant}, {"number", e.Number, signed.Number}, {"kind", e.Kind, signed.Kind},
		{"time", nanos(e.Time), nanos(signed.Time)}, {"previous", e.Previous, signed.Previous},
	} {
		if c.have != c.signed {
			l.add(l.tenant, e.Number, "its column %s has %v, and %v was signed", c.column, c.have, c.signed)
			return nil
		}
	}
	l.checkKey(s, keyID)
	return s
}

// checkKey checks that the key of an entry may follow that of the entry before.
func (l *log) checkKey(s *evidence.Statement, keyID string) {
	l.uses[keyID].Entries++
	if s.Event != nil {
		switch s.Event.Name {
		case evidence.EventKeyAdded, evidence.EventKeyLost, evidence.EventKeyRetired:
			for value := range maps.Values(s.Event.Details) {
				l.announced[value] = true
			}
		}
	}
	if l.keyID != "" && keyID != l.keyID {
		if l.replaced[keyID] {
			l.add(l.tenant, s.Number, "it is signed by the key %s, which the key %s had replaced", keyID, l.keyID)
			return
		}
		if !l.announced[keyID] {
			l.add(l.tenant, s.Number, "it is signed by the key %s, and no event up to here says that the key was added", keyID)
		}
		l.replaced[l.keyID] = true
	}
	l.keyID = keyID
}

// checkReferences finds the rows that name entries that do not exist.
func (v *verifier) checkReferences(ctx context.Context) error {
	const missing = ` NOT EXISTS (SELECT 1 FROM entries e WHERE e.tenant = %s.tenant AND e.number = %s) GROUP BY 1, 2 ORDER BY 1, 2`
	direct := func(table string) string {
		return `SELECT tenant, entry, count(*) FROM ` + table + ` r WHERE` + fmt.Sprintf(missing, "r", "r.entry")
	}
	// The tenant of a ledger is its folder in the storage. The entries of a Tempo without tenants have an empty one.
	const ledgers = `(SELECT id, CASE tenant WHEN 'single-tenant' THEN '' ELSE tenant END AS tenant FROM ledgers)`
	ofLedger := func(table, column string) string {
		return `SELECT l.tenant, r.` + column + `, count(*) FROM ` + table + ` r JOIN ` + ledgers + ` l ON l.id = r.ledger WHERE r.` + column + ` <> 0 AND` +
			fmt.Sprintf(missing, "l", "r."+column)
	}
	for _, c := range []struct{ rows, query string }{
		{"violations", direct("violations")}, {"corrections", direct("corrections")}, {"lists of capped violations", direct("capped_lists")}, {"deliveries", direct("deliveries")}, {"refused items", direct("refused")},
		{"capped violations", `SELECT l.tenant, v.changed, count(*) FROM capped_violations v JOIN capped_lists l ON l.id = v.list WHERE v.changed <> 0 AND` +
			fmt.Sprintf(missing, "l", "v.changed")},
		{"blocks", ofLedger("blocks", "entry")}, {"holes", ofLedger("holes", "entry")}, {"closed holes", ofLedger("holes", "closed_entry")},
	} {
		err := queryEach(ctx, v.db.q, func(row scanner) error {
			var tenant string
			var entry, n int64
			if err := row.Scan(&tenant, &entry, &n); err != nil {
				return err
			}
			v.add(tenant, entry, "it does not exist, and %d %s name it", n, c.rows)
			return nil
		}, c.query)
		if err != nil {
			return fmt.Errorf("%s: %w", c.rows, err)
		}
	}
	return nil
}

// count sets the counts that the checks have not set.
func (v *verifier) count(ctx context.Context) error {
	for _, c := range []struct {
		table string
		n     *int64
	}{{"violations", &v.Violations}, {"capped_violations", &v.Capped}, {"corrections", &v.Corrections}, {"blobs", &v.Blobs}, {"deliveries", &v.Deliveries}} {
		if err := v.db.q.QueryRowContext(ctx, `SELECT count(*) FROM `+c.table).Scan(c.n); err != nil {
			return fmt.Errorf("count %s: %w", c.table, err)
		}
	}
	return nil
}

// short returns the beginning of a digest, for people.
func short(digest string) string {
	if digest == "" {
		return "none"
	}
	return digest[:min(len(digest), 12)]
}
