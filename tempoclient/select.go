package tempoclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/betracehq/betrace/tempoclient/tempopb"
	"github.com/betracehq/betrace/trace"
)

// ErrSearchLimit reports that the limit or the range of a search, or the size of its answer, is above Tempo's own.
var ErrSearchLimit = errors.New("the search is above Tempo's limits")

// ingestersUntil is an age of data of which Tempo may search only the blocks in its storage, although the data can
// still be in its ingesters. It is below Tempo's default of query_frontend.search.query_ingesters_until, 30 minutes.
const ingestersUntil = 15 * time.Minute

// Select returns the attributes that a TraceQL query with select(…) returns for up to limit traces between two times:
// for each trace the attributes of one matching span that are strings, by key. As every search it may miss a trace
// while Tempo moves it to its storage. If Tempo does not permit the limit or the range, the error is [ErrSearchLimit].
func (c *Client) Select(ctx context.Context, query string, from, to time.Time, limit int) ([]map[string]string, error) {
	windows := []window{{from.Unix(), to.Unix() + 1}}
	if time.Since(from) > ingestersUntil {
		windows = append(windows, window{})
	}
	traces := map[trace.ID]*tempopb.TraceSearchMetadata{}
	for _, w := range windows {
		a, err := c.searchFor(ctx, searchQuery{query, w, limit, 1, true})
		if err != nil && (isTooLarge(err) || isLimitText(err.Error())) {
			return nil, fmt.Errorf("%w: %w", ErrSearchLimit, err)
		}
		if err != nil {
			return nil, err
		}
		if a.completed < a.total {
			return nil, fmt.Errorf("tempo search %s: tempo finished %d of %d jobs: see its log", w, a.completed, a.total)
		}
		for id, m := range a.traces {
			traces[id] = m
		}
	}
	selected := make([]map[string]string, 0, len(traces))
	for _, m := range traces {
		attributes := map[string]string{}
		for _, set := range m.GetSpanSets() {
			for _, s := range set.GetSpans() {
				for _, a := range s.GetAttributes() {
					if text, ok := a.GetValue().GetValue().(*tempopb.AnyValue_StringValue); ok {
						attributes[string(a.GetKey())] = string(text.StringValue)
					}
				}
			}
		}
		selected = append(selected, attributes)
	}
	return selected, nil
}
