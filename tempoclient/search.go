package tempoclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/betracehq/betrace/tempoclient/tempopb"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/traceql"
)

// window is a time range in whole seconds since the Unix epoch, as Tempo's search takes it. Traces match
// if they overlap [start, end]. The zero window searches only the ingesters.
type window struct{ start, end int64 }

func (w window) String() string {
	if w == (window{}) {
		return "in ingesters"
	}
	at := func(s int64) string { return time.Unix(s, 0).UTC().Format(time.RFC3339) }
	return at(w.start) + "/" + at(w.end)
}

// answer is the result of one search.
type answer struct {
	ids []trace.ID
	// large holds the traces with more spans than a search can return.
	large map[trace.ID]bool
	// traces holds the found spans of each trace, if the query keeps them.
	traces map[trace.ID]*tempopb.TraceSearchMetadata
	// completed and total count the jobs of the search, blocks the searched blocks.
	completed, total, blocks uint32
}

// searchQuery is a search for at most limit traces in a window that match, with up to spansPerSet spans
// in each span set. If keep is set, the answer contains these spans.
type searchQuery struct {
	query       string
	window      window
	limit       int
	spansPerSet int
	keep        bool
}

// search searches the window for at most limit traces that match a query.
func (c *Client) search(ctx context.Context, query string, w window, limit int) (answer, error) {
	return c.searchFor(ctx, searchQuery{query, w, limit, 1, false})
}

func (c *Client) searchFor(ctx context.Context, q searchQuery) (answer, error) {
	var a answer
	q.query = traceql.Pad(q.query)
	err := c.retrier.do(ctx, "tempo search "+q.window.String(), func(ctx context.Context) (err error) {
		if !c.overHTTP.Load() {
			a, err = c.searchStream(ctx, q)
			if !isNoStream(err) {
				return err
			}
			c.overHTTP.Store(true)
		}
		a, err = c.searchHTTP(ctx, q)
		return err
	})
	return a, err
}

func (c *Client) searchStream(ctx context.Context, q searchQuery) (answer, error) {
	stream, err := c.stream.Search(ctx, &tempopb.SearchRequest{
		Query: q.query, Start: uint32(q.window.start), End: uint32(q.window.end), Limit: uint32(q.limit), SpansPerSpanSet: uint32(q.spansPerSet),
	})
	if err != nil {
		return answer{}, ofGRPC(ctx, c.conn, err)
	}
	// Each message contains new and changed traces; a changed trace replaces the earlier one.
	a := answer{large: map[trace.ID]bool{}, traces: map[trace.ID]*tempopb.TraceSearchMetadata{}}
	counted := false
	seen := map[trace.ID]bool{}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) && !counted {
			return answer{}, errNoMetrics()
		}
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return answer{}, ofGRPC(ctx, c.conn, err)
		}
		for _, t := range m.GetTraces() {
			id, err := trace.ParseID(t.GetTraceID())
			if err != nil {
				return answer{}, fmt.Errorf("the answer: %w", err)
			}
			if !seen[id] {
				seen[id] = true
				a.ids = append(a.ids, id)
			}
			spans := uint32(0)
			for _, s := range t.GetServiceStats() {
				spans += s.GetSpanCount()
			}
			if spans > maxSearchSpans {
				a.large[id] = true
			}
			if q.keep {
				a.traces[id] = t
			}
		}
		if metrics := m.GetMetrics(); metrics != nil {
			a.completed, a.total, a.blocks = metrics.GetCompletedJobs(), metrics.GetTotalJobs(), metrics.GetTotalBlocks()
			counted = true
		}
	}
}

// errNoMetrics is the error for an answer that does not state whether it is complete.
func errNoMetrics() error {
	return &failure{fatal: true, err: errors.New("the answer has no metrics: check that the server is a Tempo")}
}

// searchJSON holds the used fields of the answer of /api/search.
type searchJSON struct {
	Traces []struct {
		TraceID  string        `json:"traceID"`
		SpanSets []spanSetJSON `json:"spanSets"`
	} `json:"traces"`
	Metrics *struct {
		CompletedJobs uint32 `json:"completedJobs"`
		TotalJobs     uint32 `json:"totalJobs"`
	} `json:"metrics"`
}

type spanSetJSON struct {
	Spans []struct {
		Attributes []struct {
			Key   string `json:"key"`
			Value struct {
				String *string `json:"stringValue"`
			} `json:"value"`
		} `json:"attributes"`
	} `json:"spans"`
}

// message returns the span set with its attributes that are strings.
func (s *spanSetJSON) message() *tempopb.SpanSet {
	set := &tempopb.SpanSet{}
	for _, span := range s.Spans {
		m := &tempopb.Span{}
		for _, a := range span.Attributes {
			if text := a.Value.String; text != nil {
				value := &tempopb.AnyValue{Value: &tempopb.AnyValue_StringValue{StringValue: []byte(*text)}}
				m.Attributes = append(m.Attributes, &tempopb.KeyValue{Key: []byte(a.Key), Value: value})
			}
		}
		set.Spans = append(set.Spans, m)
	}
	return set
}

// searchHTTP searches over HTTP. Of the found spans it keeps only the attributes that are strings.
func (c *Client) searchHTTP(ctx context.Context, q searchQuery) (answer, error) {
	values := url.Values{
		"q": {q.query}, "start": {strconv.FormatInt(q.window.start, 10)}, "end": {strconv.FormatInt(q.window.end, 10)},
		"limit": {strconv.Itoa(q.limit)}, "spss": {"1"},
	}
	resp, err := c.get(ctx, "/api/search?"+values.Encode(), "application/json")
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answer{}, ofHTTP(resp)
	}
	if err := wantType(resp, "application/json"); err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxSearchBytes+1))
	c.received(len(body))
	if err != nil {
		return answer{}, &failure{err: fmt.Errorf("the answer broke off after %d bytes: %w", len(body), err), retry: true}
	}
	if len(body) > maxSearchBytes {
		return answer{}, &failure{err: fmt.Errorf("the answer has over %d bytes", maxSearchBytes), tooLarge: true}
	}
	var s searchJSON
	if err := json.Unmarshal(body, &s); err != nil {
		return answer{}, &failure{err: fmt.Errorf("the answer is not a search result: %w", err), retry: true}
	}
	if s.Metrics == nil {
		return answer{}, errNoMetrics()
	}
	a := answer{completed: s.Metrics.CompletedJobs, total: s.Metrics.TotalJobs, traces: map[trace.ID]*tempopb.TraceSearchMetadata{}}
	for _, t := range s.Traces {
		id, err := trace.ParseID(t.TraceID)
		if err != nil {
			return answer{}, fmt.Errorf("the answer: %w", err)
		}
		a.ids = append(a.ids, id)
		if q.keep {
			m := &tempopb.TraceSearchMetadata{}
			for i := range t.SpanSets {
				m.SpanSets = append(m.SpanSets, t.SpanSets[i].message())
			}
			a.traces[id] = m
		}
	}
	return a, nil
}
