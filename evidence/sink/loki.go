package sink

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grafana/loki/pkg/push"
	"github.com/klauspost/compress/snappy"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/retry"
)

// LokiConfig configures the sink for records. Zero fields have defaults.
type LokiConfig struct {
	// URL is Loki's address, as http://loki:3100.
	URL string
	// Client sends the requests, and adds the tenant and the credentials. The default is
	// http.DefaultClient.
	Client *http.Client
	// Tries is the maximum number of attempts for a retryable request. The default is 5.
	Tries int
	// RequestTimeout bounds one attempt. The default is 30 s.
	RequestTimeout time.Duration
	// Lookback is the time before now in which existing records are searched. The default is 30 days. A
	// longer time costs more, because Loki reads its index for each hour of it.
	Lookback time.Duration
	// Now returns the time. The default is time.Now.
	Now func() time.Time
}

// Loki is the sink for records.
type Loki struct {
	config LokiConfig
	mu     sync.Mutex
	last   int64 // the latest timestamp given, in nanoseconds
}

// Bounds of one request. Loki accepts 4 MB per push and returns 5,000 entries per query.
const (
	maxPushBytes = 1 << 20
	idsPerQuery  = 100
	maxEntries   = 5000
)

// NewLoki returns the sink. It connects when it is first used.
func NewLoki(config LokiConfig) (*Loki, error) {
	u, err := url.Parse(config.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("loki URL %q: want http://host:port or https://host:port", config.URL)
	}
	config.URL = strings.TrimSuffix(config.URL, "/")
	config.Client = cmp.Or(config.Client, http.DefaultClient)
	config.Tries = cmp.Or(config.Tries, 5)
	config.RequestTimeout = cmp.Or(config.RequestTimeout, 30*time.Second)
	config.Lookback = cmp.Or(config.Lookback, 30*24*time.Hour)
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Loki{config: config}, nil
}

// Name returns "loki".
func (l *Loki) Name() string { return "loki" }

// timestamp returns the current time, and never the same time twice: Loki could not return more entries with
// one timestamp than fit into a response.
func (l *Loki) timestamp() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last+1, l.config.Now().UnixNano())
	return time.Unix(0, l.last)
}

// Write files a record for each violation. It sets the filing time of a violation that has
// none. A violation that is written again keeps its filing time, because Loki drops a repeated
// record at most if its timestamp, line and structured metadata are the same.
func (l *Loki) Write(ctx context.Context, vs []evidence.Violation) error {
	var records []lokiRecord
	size := 0
	for i := range vs {
		v := &vs[i]
		if v.FiledAt.IsZero() {
			v.FiledAt = l.timestamp()
		}
		r, err := newLokiRecord(&Item{Kind: KindViolation, ID: v.ID, Violation: v, FiledAt: v.FiledAt})
		if err != nil {
			return err
		}
		records = append(records, r)
		if size += len(r.entry.Line); size > maxPushBytes {
			if err := l.push(ctx, records); err != nil {
				return err
			}
			records, size = nil, 0
		}
	}
	if len(records) == 0 {
		return nil
	}
	return l.push(ctx, records)
}

// push sends records in one request, and again after a temporary failure. Loki may have stored records of a failed
// request, and drops a repeated record only if it was among the last 256 KiB of its stream. So the records that Loki
// has are left out of each further attempt.
func (l *Loki) push(ctx context.Context, records []lokiRecord) error {
	again := false
	failure := retry.Requests(l.config.Tries).Do(ctx, func() (outcome retry.Outcome, err error) {
		if again {
			held, err := l.held(ctx, records)
			if err != nil {
				return retry.Outcome{}, err
			}
			if records = notHeld(records, held); len(records) == 0 {
				return retry.Outcome{}, nil
			}
		}
		again = true
		body, err := pushBody(records)
		if err != nil {
			return retry.Outcome{}, err
		}
		_, outcome.After, outcome.Retry, err = l.try(ctx, func(ctx context.Context) (*http.Request, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.config.URL+"/loki/api/v1/push", bytes.NewReader(body))
			if err == nil {
				req.Header.Set("Content-Type", "application/x-protobuf")
			}
			return req, err
		})
		return outcome, err
	})
	return failure.Request("loki push")
}

// pushBody returns the body of a request that files the records.
func pushBody(records []lokiRecord) ([]byte, error) {
	streams := map[string]int{}
	request := push.PushRequest{}
	for i := range records {
		r := &records[i]
		s, ok := streams[r.labels]
		if !ok {
			s = len(request.Streams)
			streams[r.labels] = s
			request.Streams = append(request.Streams, push.Stream{Labels: r.labels})
		}
		request.Streams[s].Entries = append(request.Streams[s].Entries, r.entry)
	}
	body, err := request.Marshal()
	return snappy.Encode(nil, body), err
}

// Holds returns the IDs of those violations whose record Loki has, filed after since
// or, if that is zero, as far back as Lookback.
func (l *Loki) Holds(ctx context.Context, vs []evidence.Violation, since time.Time) (map[string]bool, error) {
	if since.IsZero() {
		since = l.config.Now().Add(-l.config.Lookback)
	}
	ids := make([]string, len(vs))
	for i := range vs {
		ids[i] = vs[i].ID
	}
	held := map[string]bool{}
	return held, l.addHeldViolations(ctx, ids, since, held)
}

// addHeldViolations adds those IDs of violations to held whose record Loki has, filed after since.
func (l *Loki) addHeldViolations(ctx context.Context, ids []string, since time.Time, held map[string]bool) error {
	for part := range slices.Chunk(ids, idsPerQuery) {
		if err := l.lookBack(ctx, slices.Clone(part), since, held); err != nil {
			return err
		}
	}
	return nil
}

// queryRange is the range of one query. By default, Loki refuses more than 30 days and one hour
// (limits_config.max_query_length).
const queryRange = 30 * 24 * time.Hour

// lookBack queries one range after another, the latest first, until all violations are found.
func (l *Loki) lookBack(ctx context.Context, ids []string, last time.Time, held map[string]bool) error {
	for end := l.config.Now().Add(time.Minute); len(ids) > 0 && end.After(last); end = end.Add(-queryRange) {
		start := end.Add(-queryRange)
		if start.Before(last) {
			start = last
		}
		if err := l.query(ctx, ids, start, end, held); err != nil {
			return err
		}
		ids = slices.DeleteFunc(ids, func(id string) bool { return held[id] })
	}
	return nil
}

// queryAnswer is the part of the response of /loki/api/v1/query_range that is used. Structured metadata is
// returned as labels.
type queryAnswer struct {
	Data struct {
		Result []struct {
			Stream map[string]string `json:"stream"`
			Values []json.RawMessage `json:"values"`
		} `json:"result"`
	} `json:"data"`
}

// query adds the violations that have a record to held.
func (l *Loki) query(ctx context.Context, ids []string, start, end time.Time, held map[string]bool) error {
	values := url.Values{
		"query": {fmt.Sprintf(`{service_name="betrace", betrace_kind="violation"} | violation_id=~"%s"`, strings.Join(ids, "|"))},
		"start": {strconv.FormatInt(start.UnixNano(), 10)},
		"end":   {strconv.FormatInt(end.UnixNano(), 10)},
		"limit": {strconv.Itoa(maxEntries)},
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
	for _, stream := range answer.Data.Result {
		if len(stream.Values) > 0 {
			held[stream.Stream["violation_id"]] = true
		}
	}
	return nil
}

// do sends a request until it succeeds, fails for good, or was tried often enough.
func (l *Loki) do(ctx context.Context, what string, request func(context.Context) (*http.Request, error)) (body []byte, err error) {
	failure := retry.Requests(l.config.Tries).Do(ctx, func() (outcome retry.Outcome, err error) {
		body, outcome.After, outcome.Retry, err = l.try(ctx, request)
		return outcome, err
	})
	if failure != nil {
		return nil, failure.Request(what)
	}
	return body, nil
}

func (l *Loki) try(ctx context.Context, request func(context.Context) (*http.Request, error)) (body []byte, after time.Duration, retryable bool, err error) {
	ctx, cancel := retry.WithTimeout(ctx, l.config.RequestTimeout)
	defer cancel()
	req, err := request(ctx)
	if err != nil {
		return nil, 0, false, err
	}
	resp, err := l.config.Client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the URL with its query says nothing more
		}
		return nil, 0, true, fmt.Errorf("%w: check that Loki is running at %s", err, l.config.URL)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, 0, true, fmt.Errorf("the answer broke off: %w", err)
	}
	if resp.StatusCode < 300 {
		return body, 0, false, nil
	}
	text := strings.TrimSpace(string(body[:min(len(body), 500)]))
	if strings.HasPrefix(text, "<") {
		text = http.StatusText(resp.StatusCode)
	}
	after = retry.After(resp.Header)
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return nil, 0, false, fmt.Errorf("%d %s: check the credentials and the tenant", code, text)
	case code == http.StatusNotFound:
		return nil, 0, false, fmt.Errorf("%d %s: check that %s is Loki's address, without /loki/api", code, text, l.config.URL)
	case code == http.StatusTooManyRequests:
		return nil, after, true, fmt.Errorf("%d %s: raise the tenant's ingestion rate", code, text)
	case code >= 500:
		return nil, after, true, fmt.Errorf("%d %s: see Loki's log", code, text)
	case code == http.StatusBadRequest || code == http.StatusRequestEntityTooLarge:
		return nil, 0, false, refusalOf(fmt.Sprintf("%d %s", code, text), string(body))
	}
	return nil, 0, false, fmt.Errorf("%d %s", resp.StatusCode, text)
}
