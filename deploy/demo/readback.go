package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/betracehq/betrace/trace"
)

// Queries that a user would write for Tempo and Loki.
const (
	violationQuery        = `{ span.betrace.violation = true } | select(span.betrace.rule.id, span.betrace.trace.id)`
	correctionQuery       = `{ span.betrace.correction = true } | select(span.betrace.rule.id, span.betrace.trace.id)`
	recordQuery           = `{service_name="betrace", betrace_kind="violation"}`
	sweepRecordQuery      = `{service_name="betrace", betrace_kind="violation", origin="sweep"}`
	correctionRecordQuery = `{service_name="betrace", betrace_kind="correction"}`
)

// tempoViolations searches Tempo for violation spans.
func tempoViolations(ctx context.Context, tempoURL string) (map[violation]bool, error) {
	spans, err := tempoSpans(ctx, tempoURL, violationQuery)
	found := map[violation]bool{}
	for _, v := range spans {
		found[v] = true
	}
	return found, err
}

// tempoSpans searches Tempo for spans of violations or corrections. The query selects the IDs of rule and trace.
func tempoSpans(ctx context.Context, tempoURL, query string) (spans []violation, err error) {
	var answer struct {
		Traces []struct {
			SpanSets []struct {
				Spans []struct {
					Attributes []struct {
						Key   string
						Value struct{ StringValue string }
					}
				}
			}
		}
	}
	now := time.Now()
	err = get(ctx, tempoURL+"/api/search", url.Values{
		"q": {query}, "limit": {"100000"},
		"start": {strconv.FormatInt(now.Add(-time.Hour).Unix(), 10)}, "end": {strconv.FormatInt(now.Add(time.Minute).Unix(), 10)},
	}, &answer)
	for _, t := range answer.Traces {
		for _, set := range t.SpanSets {
			for _, s := range set.Spans {
				var v violation
				for _, a := range s.Attributes {
					switch a.Key {
					case "betrace.rule.id":
						v.rule = a.Value.StringValue
					case "betrace.trace.id":
						v.trace = a.Value.StringValue
					}
				}
				spans = append(spans, v)
			}
		}
	}
	return spans, err
}

// tempoTraces searches Tempo for the IDs of all traces.
func tempoTraces(ctx context.Context, tempoURL string) ([]trace.ID, error) {
	var answer struct{ Traces []struct{ TraceID string } }
	now := time.Now()
	if err := get(ctx, tempoURL+"/api/search", url.Values{
		"q": {"{ }"}, "limit": {"100000"}, "spss": {"1"},
		"start": {strconv.FormatInt(now.Add(-time.Hour).Unix(), 10)}, "end": {strconv.FormatInt(now.Add(time.Minute).Unix(), 10)},
	}, &answer); err != nil {
		return nil, err
	}
	ids := make([]trace.ID, len(answer.Traces))
	for i, t := range answer.Traces {
		var err error
		if ids[i], err = trace.ParseID(t.TraceID); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// lokiViolations queries Loki for violation records.
func lokiViolations(ctx context.Context, lokiURL string) (map[violation]bool, error) {
	records, err := lokiRecords(ctx, lokiURL, recordQuery)
	found := map[violation]bool{}
	for _, r := range records {
		found[r.violation] = true
	}
	return found, err
}

// record is a record in Loki.
type record struct {
	violation
	line string
}

// lokiRecords returns the records that match a query.
func lokiRecords(ctx context.Context, lokiURL, query string) (records []record, err error) {
	var answer struct {
		Data struct {
			Result []struct {
				Stream struct {
					TraceID string `json:"trace_id"`
					RuleID  string `json:"rule_id"`
				}
				Values [][]any // timestamp, line, and perhaps metadata
			}
		}
	}
	err = get(ctx, lokiURL+"/loki/api/v1/query_range", url.Values{"query": {query}, "limit": {"5000"}, "since": {"1h"}}, &answer)
	for _, s := range answer.Data.Result {
		for _, value := range s.Values {
			records = append(records, record{violation{s.Stream.TraceID, s.Stream.RuleID}, fmt.Sprint(value[1])})
		}
	}
	return records, err
}

func get(ctx context.Context, address string, query url.Values, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", address, resp.Status, body)
	}
	return json.Unmarshal(body, into)
}

func count(vs map[violation]bool, rule string) (n int) {
	for v := range vs {
		if v.rule == rule {
			n++
		}
	}
	return n
}

// rulesOf returns the rules that occur in any of the sets, sorted.
func rulesOf(sets ...map[violation]bool) []string {
	names := map[string]bool{}
	for _, set := range sets {
		for v := range set {
			names[v.rule] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
