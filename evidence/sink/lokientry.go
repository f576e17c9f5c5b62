package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grafana/loki/pkg/push"

	"github.com/betracehq/betrace/evidence"
)

// lokiRecord is an item in the form of Loki.
type lokiRecord struct {
	kind, id string
	// entryName is the name of the item's entry. Only violations of scans have none.
	entryName string
	labels    string
	entry     push.Entry
}

// Takes returns true: Loki stores items of every kind.
func (l *Loki) Takes(string) bool { return true }

// Send files a record for each item. If Loki refuses some of them, it files the others.
func (l *Loki) Send(ctx context.Context, items []Item) error {
	records := make([]lokiRecord, len(items))
	for i := range items {
		var err error
		if records[i], err = newLokiRecord(&items[i]); err != nil {
			return err
		}
	}
	s := sending{loki: l, refused: map[string]string{}}
	for len(records) > 0 {
		n, size := 0, 0
		for ; n < len(records) && size <= maxPushBytes; n++ {
			size += len(records[n].entry.Line)
		}
		if err := s.send(ctx, records[:n]); err != nil {
			return err
		}
		records = records[n:]
	}
	// A nil *TooOldError must not become an error.
	var errs []error
	if len(s.refused) > 1 && s.refusesAll() {
		return s.refusal()
	}
	if len(s.refused) > 0 {
		errs = append(errs, &RefusedError{Sink: l.Name(), Reasons: s.refused})
	}
	if s.tooOld != nil {
		errs = append(errs, s.tooOld)
	}
	return errors.Join(errs...)
}

// sending is the state of a [Loki.Send].
type sending struct {
	loki *Loki
	// stored counts the records that Loki stored.
	stored int
	// refused holds the reasons by ID, and last is the last of them.
	refused map[string]string
	last    *refusal
	// tooOld is set if a record is too old.
	tooOld *TooOldError
}

// maxRefused is the number of refused records, with none stored, after which a reason that is not known is taken for
// one that concerns all records.
const maxRefused = 20

// refusesAll reports whether Loki seems to refuse every record, regardless of its content.
func (s *sending) refusesAll() bool {
	return s.stored == 0 && s.tooOld == nil && s.last != nil && !s.last.single
}

func (s *sending) refusal() error {
	return fmt.Errorf("loki push: each of %d records was refused: %w: check Loki's limits_config, and any proxy before it", len(s.refused), s.last)
}

// send sends records, and finds out which of them are refused. It keeps an error about old records for later.
func (s *sending) send(ctx context.Context, records []lokiRecord) error {
	err := s.loki.push(ctx, records)
	var why *refusal
	switch {
	case err == nil:
		s.stored += len(records)
		return nil
	case errors.As(err, &s.tooOld):
		return nil
	case !errors.As(err, &why):
		return err
	}
	if len(records) == 1 {
		s.refused[records[0].id], s.last = why.Error(), why
		if len(s.refused) >= maxRefused && s.refusesAll() {
			return s.refusal()
		}
		return nil
	}
	// Loki has stored the valid records of the request, or, for some reasons, none.
	held, err := s.loki.held(ctx, records)
	if err != nil {
		return err
	}
	rest := notHeld(records, held)
	s.stored += len(records) - len(rest)
	part := (len(rest) + 1) / 2
	if why.single || len(rest) < len(records) {
		part = 1
	}
	for some := range slices.Chunk(rest, max(part, 1)) {
		if err := s.send(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// notHeld returns the records that Loki does not have.
func notHeld(records []lokiRecord, held map[string]bool) []lokiRecord {
	return slices.DeleteFunc(slices.Clone(records), func(r lokiRecord) bool { return held[r.id] })
}

func newLokiRecord(item *Item) (r lokiRecord, err error) {
	r.kind, r.id = item.Kind, item.ID
	if item.FiledAt.IsZero() {
		return r, fmt.Errorf("%s %s has no filing time", item.Kind, item.ID)
	}
	line := item.Line
	var metadata [][2]string
	switch {
	case item.Violation != nil:
		if line == nil {
			if line, err = item.Violation.Record(); err != nil {
				return r, err
			}
		}
		metadata, r.entryName = item.Violation.Metadata(), item.Violation.Entry
		r.labels, err = item.Violation.Labels()
	case item.Correction != nil:
		if line == nil {
			if line, err = item.Correction.Record(); err != nil {
				return r, err
			}
		}
		metadata, r.entryName = item.Correction.Metadata(), item.Correction.Entry
		r.labels, err = item.Correction.Labels()
	case item.Statement != nil:
		line, r.entryName = item.Statement.Envelope, item.Statement.Entry
		metadata = evidence.StatementMetadata(item.Statement.Entry, item.Statement.Kind, item.Statement.Sweeps)
		r.labels = evidence.StatementLabels()
	default:
		err = fmt.Errorf("item %s has no content", item.ID)
	}
	r.entry = newEntry(item.FiledAt, line, metadata)
	return r, err
}

func newEntry(at time.Time, line []byte, metadata [][2]string) push.Entry {
	e := push.Entry{Timestamp: at, Line: string(line)}
	for _, m := range metadata {
		e.StructuredMetadata = append(e.StructuredMetadata, push.LabelAdapter{Name: m[0], Value: m[1]})
	}
	return e
}

// Held returns the IDs of the items that Loki has. It searches from the oldest filing time until now.
func (l *Loki) Held(ctx context.Context, entry string, items []Item) (map[string]bool, error) {
	records := make([]lokiRecord, len(items))
	for i := range items {
		item := &items[i]
		records[i] = lokiRecord{kind: item.Kind, id: item.ID, entryName: entry, entry: push.Entry{Timestamp: item.FiledAt}}
		if item.Statement != nil {
			records[i].entry.Line = string(item.Statement.Envelope)
		}
	}
	return l.held(ctx, records)
}

// held returns the IDs of the records that Loki has.
func (l *Loki) held(ctx context.Context, records []lokiRecord) (map[string]bool, error) {
	held := map[string]bool{}
	entries := map[string][]lokiRecord{}
	for _, r := range records {
		entries[r.entryName] = append(entries[r.entryName], r)
	}
	for entry, records := range entries {
		var err error
		if entry == "" {
			var ids []string
			for _, r := range records {
				ids = append(ids, r.id)
			}
			err = l.addHeldViolations(ctx, ids, oldestRecord(records), held)
		} else {
			err = l.addHeld(ctx, entry, records, held)
		}
		if err != nil {
			return nil, err
		}
	}
	return held, nil
}

// oldestRecord returns a time before the oldest filing time.
func oldestRecord(records []lokiRecord) time.Time {
	r := slices.MinFunc(records, func(a, b lokiRecord) int { return a.entry.Timestamp.Compare(b.entry.Timestamp) })
	return r.entry.Timestamp.Add(-time.Minute)
}

// addHeld adds the IDs of those records of an entry to held that Loki has.
func (l *Loki) addHeld(ctx context.Context, entry string, records []lokiRecord, held map[string]bool) error {
	wanted := map[string]bool{} // by kind and ID
	statements := map[string]string{}
	var kinds []string
	for _, r := range records {
		kinds = append(kinds, r.kind)
		if r.kind == KindStatement {
			statements[r.entry.Line] = r.id
		} else {
			wanted[r.kind+r.id] = true
		}
	}
	slices.Sort(kinds)
	// Only statements need their lines: another tenant's statement about an entry of the same number has the same
	// metadata.
	query := fmt.Sprintf(`{service_name="betrace", betrace_kind=~"%s"} | entry=%s | keep betrace_kind, violation_id, correction_id | line_format `+"`%s`",
		strings.Join(slices.Compact(kinds), "|"), strconv.Quote(entry), `{{ if eq .betrace_kind "statement" }}{{ __line__ }}{{ end }}`)
	missing := len(records)
	found := func(labels map[string]string, line string) {
		kind := labels["betrace_kind"]
		id := labels[kind+"_id"]
		if kind == KindStatement {
			id = statements[line]
		} else if !wanted[kind+id] {
			return
		}
		if id != "" && !held[id] {
			held[id] = true
			missing--
		}
	}
	end := l.config.Now().Add(time.Minute)
	for start := oldestRecord(records); missing > 0 && start.Before(end); start = start.Add(queryRange) {
		until := start.Add(queryRange)
		if until.After(end) {
			until = end
		}
		if err := l.pages(ctx, query, start, until, found); err != nil {
			return err
		}
	}
	return nil
}

// pages calls found with each entry between two times, which it reads in pages.
func (l *Loki) pages(ctx context.Context, query string, start, end time.Time, found func(labels map[string]string, line string)) error {
	from := start.UnixNano()
	for {
		values := url.Values{
			"query": {query}, "direction": {"forward"}, "limit": {strconv.Itoa(maxEntries)},
			"start": {strconv.FormatInt(from, 10)}, "end": {strconv.FormatInt(end.UnixNano(), 10)},
		}
		body, err := l.do(ctx, "loki query", func(ctx context.Context) (*http.Request, error) {
			return http.NewRequestWithContext(ctx, http.MethodGet, l.config.URL+"/loki/api/v1/query_range?"+values.Encode(), nil)
		})
		if err != nil {
			return err
		}
		var answer queryAnswer
		if err := json.Unmarshal(body, &answer); err != nil {
			return fmt.Errorf("loki query: the response is not a query result: check that %s is a Loki: %w", l.config.URL, err)
		}
		n, last := 0, from
		for _, stream := range answer.Data.Result {
			for _, value := range stream.Values {
				at, line, err := parseValue(value)
				if err != nil {
					return fmt.Errorf("loki query: %w: check that %s is a Loki", err, l.config.URL)
				}
				found(stream.Stream, line)
				n, last = n+1, max(last, at)
			}
		}
		if n < maxEntries {
			return nil
		}
		// The next page begins with the last time of this one, at which there may be more entries, unless the whole
		// page has one time.
		if last == from {
			last++
		}
		from = last
	}
}

// parseValue parses an entry of a response: its time in nanoseconds, and its line.
func parseValue(value json.RawMessage) (at int64, line string, err error) {
	var parts []json.RawMessage
	var text string
	if err = json.Unmarshal(value, &parts); err == nil && len(parts) < 2 {
		err = errors.New("an entry has no line")
	}
	if err == nil {
		err = errors.Join(json.Unmarshal(parts[0], &text), json.Unmarshal(parts[1], &line))
	}
	if err == nil {
		at, err = strconv.ParseInt(text, 10, 64)
	}
	return at, line, err
}

// refusal is a response of Loki that the same request will receive again, because of one or more of its records.
type refusal struct {
	text string
	// single is set if the reason is known to concern single records only.
	single bool
}

func (r *refusal) Error() string { return r.text }

// recordLimits are parts of Loki's messages about single records (pkg/validation/validate.go).
var recordLimits = []string{"max entry size", "label value too long", "structured metadata too large", "too many structured metadata labels"}

// settings are parts of Loki's messages about its configuration, which concern all records.
var settings = []string{"this feature is disallowed", "ingestion blocked", "missing required labels"}

// refusalOf returns the error of a response with the status 400 or 413.
func refusalOf(text, body string) error {
	has := func(parts []string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(body, part) })
	}
	switch {
	case has([]string{"too old", "too far behind"}):
		return &TooOldError{Reason: text}
	case has([]string{"too new"}):
		return fmt.Errorf("%s: check this machine's clock", text)
	case has(settings):
		return fmt.Errorf("%s: change Loki's limits_config", text)
	}
	return &refusal{text: text, single: has(recordLimits)}
}
