package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/reading"
)

// againstQuery compares reading the needed columns of all spans with Tempo's answer to one structural
// query on the same blocks.
func againstQuery(ctx context.Context, b *bench) error {
	data, err := b.a(ctx)
	if err != nil {
		return err
	}
	full, err := reading.Full(data)
	if err != nil {
		return err
	}
	return b.withTempo(ctx, data, func(url string) error {
		_, query, ratio, err := b.inTurn(ctx,
			readAll(ctx, full, data),
			func() error { return structural(ctx, url, data) })
		if err != nil {
			return err
		}
		b.print("blocks_vs_one_traceql_query", ratio, "ratio")
		b.print("traceql_query_seconds", query, "s")
		b.print("traceql_query_spans_per_second", float64(data.Spans)/query, "spans/s")
		return nil
	})
}

// structural queries Tempo for all traces in which one named span is an ancestor of another, and checks
// that the answer is complete.
func structural(ctx context.Context, tempo string, data dataset.Data) error {
	query := url.Values{
		"q":     {fmt.Sprintf(`{ name = %q } >> { name = %q }`, dataset.NameAbove, dataset.NameBelow)},
		"start": {strconv.FormatInt(data.From.Unix(), 10)},
		"end":   {strconv.FormatInt(data.To.Unix(), 10)},
		"limit": {strconv.Itoa(data.Traces + 1)},
		"spss":  {"1"},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, tempo+"/api/search?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("tempo search: %s", resp.Status)
	}
	var answer struct {
		Traces []struct {
			ID string `json:"traceID"`
		} `json:"traces"`
		Metrics struct {
			Completed int `json:"completedJobs"`
			Total     int `json:"totalJobs"`
		} `json:"metrics"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("tempo search: %w", err)
	}
	if len(answer.Traces) != data.Structural || answer.Metrics.Completed != answer.Metrics.Total {
		return fmt.Errorf("tempo found %d of %d traces in %d of %d jobs", len(answer.Traces), data.Structural, answer.Metrics.Completed, answer.Metrics.Total)
	}
	return nil
}
