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
	id, labels string
	entry      push.Entry
}

// Takes returns true: Loki stores items of every kind.
func (l *Loki) Takes(string) bool { return true }

// Send files a record for each item. A repeated record has the same timestamp, line and structured metadata, so that
// Loki drops it.
//
// If Loki refuses a batch, its halves are sent, so that a record that it refuses does not affect the others.
func (l *Loki) Send(ctx context.Context, items []Item) error {
	records := make([]lokiRecord, len(items))
	for i := range items {
		var err error
		if records[i], err = newLokiRecord(&items[i]); err != nil {
			return err
		}
	}
	refused := map[string]string{}
	var tooOld *TooOldError
	var last *refusal
	for len(records) > 0 {
		n, size := 0, 0
		for ; n < len(records) && size <= maxPushBytes; n++ {
			size += len(records[n].entry.Line)
		}
		err := l.sendPart(ctx, records[:n], func(id string, why *refusal) { refused[id], last = why.Error(), why })
		if err != nil && !errors.As(err, &tooOld) {
			return err
		}
		records = records[n:]
	}
	if len(refused) > 1 && len(refused) == len(items) && !last.single {
		return fmt.Errorf("loki push: each of %d records was refused: %w: check Loki's limits_config, and any proxy before it", len(items), last)
	}
	// A nil *TooOldError must not become an error.
	var errs []error
	if len(refused) > 0 {
		errs = append(errs, &RefusedError{Sink: l.Name(), Reasons: refused})
	}
	if tooOld != nil {
		errs = append(errs, tooOld)
	}
	return errors.Join(errs...)
}

// sendPart sends records, and the halves of a batch that Loki refuses. If the error is a [*TooOldError], all records
// were sent.
func (l *Loki) sendPart(ctx context.Context, records []lokiRecord, refuse func(id string, why *refusal)) error {
	err := l.push(ctx, records)
	var why *refusal
	if !errors.As(err, &why) {
		return err
	}
	if len(records) == 1 {
		refuse(records[0].id, why)
		return nil
	}
	half := len(records) / 2
	var tooOld *TooOldError
	first := l.sendPart(ctx, records[:half], refuse)
	if first != nil && !errors.As(first, &tooOld) {
		return first
	}
	if second := l.sendPart(ctx, records[half:], refuse); second != nil {
		return second
	}
	return first
}

func newLokiRecord(item *Item) (r lokiRecord, err error) {
	r.id = item.ID
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
		metadata = item.Violation.Metadata()
		r.labels, err = item.Violation.Labels()
	case item.Correction != nil:
		if line == nil {
			if line, err = item.Correction.Record(); err != nil {
				return r, err
			}
		}
		metadata = item.Correction.Metadata()
		r.labels, err = item.Correction.Labels()
	case item.Statement != nil:
		line = item.Statement.Envelope
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
	held := map[string]bool{}
	if len(items) == 0 {
		return held, nil
	}
	wanted := map[string]bool{} // by kind and ID
	statements := map[string]string{}
	var kinds []string
	for i := range items {
		item := &items[i]
		kinds = append(kinds, item.Kind)
		if item.Statement != nil {
			statements[string(item.Statement.Envelope)] = item.ID
		} else {
			wanted[item.Kind+item.ID] = true
		}
	}
	slices.Sort(kinds)
	// Only statements need their lines: another tenant's statement about an entry of the same number has the same
	// metadata.
	query := fmt.Sprintf(`{service_name="betrace", betrace_kind=~"%s"} | entry=%s | keep betrace_kind, violation_id, correction_id | line_format `+"`%s`",
		strings.Join(slices.Compact(kinds), "|"), strconv.Quote(entry), `{{ if eq .betrace_kind "statement" }}{{ __line__ }}{{ end }}`)
	found := func(labels map[string]string, line string) {
		switch kind := labels["betrace_kind"]; kind {
		case KindStatement:
			if id, ok := statements[line]; ok {
				held[id] = true
			}
		case KindViolation, KindCorrection:
			if id := labels[kind+"_id"]; wanted[kind+id] {
				held[id] = true
			}
		}
	}
	end := l.config.Now().Add(time.Minute)
	for start := oldest(items).Add(-time.Minute); len(held) < len(items) && start.Before(end); start = start.Add(queryRange) {
		until := start.Add(queryRange)
		if until.After(end) {
			until = end
		}
		if err := l.pages(ctx, query, start, until, found); err != nil {
			return nil, err
		}
	}
	return held, nil
}

func oldest(items []Item) time.Time {
	return slices.MinFunc(items, func(a, b Item) int { return a.FiledAt.Compare(b.FiledAt) }).FiledAt
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
