package tempoclient

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Config configures the Tempo that is read, and the load on it. Zero fields have defaults.
type Config struct {
	// URL is Tempo's HTTP API, such as http://tempo:3200, with the path before /api if there is one.
	URL string
	// GRPCAddr is the host:port of its gRPC API, for streaming search. The default is that of URL, which
	// serves gRPC if Tempo's stream_over_http_enabled is set. If gRPC is not available, searches use
	// HTTP.
	GRPCAddr string
	Access   Access
	// Concurrency bounds the number of concurrent requests. Default 8. There are fewer while Tempo is
	// overloaded.
	Concurrency int
	// MaxRequestsPerSecond and MaxBytesPerSecond bound the average rates of requests to Tempo and of its
	// answers. If 0, there is no bound.
	MaxRequestsPerSecond, MaxBytesPerSecond float64
	// PlainAttributes are keys of attributes whose value is always one string, number or boolean, and, if
	// Tempo has a dedicated column for them, of the column's type. They are never a list, a map or bytes,
	// and no span has such a key twice. "*" means all keys. Search returns the values of these attributes
	// as they were sent, which it may not for others.
	PlainAttributes []string
	// SearchLimit is the maximum number of traces in the answer to one search. Default 5,000.
	SearchLimit int
	// MaxTraceDuration is the maximum duration of a trace. Search extends this far beyond the end of a
	// range, because a match may be late in a trace. Default 1 h.
	MaxTraceDuration time.Duration
	// SearchAgainAfter is the pause before the second search of a range that has not settled. Default 5 s.
	SearchAgainAfter time.Duration
	// RequestTimeout bounds one attempt of a request. Default 1 min.
	RequestTimeout time.Duration
	// Tries is the maximum number of attempts for a retryable request. Default 5.
	Tries int
	// MaxTraceBytes bounds one trace. Default 1 GiB.
	MaxTraceBytes int64
}

func (c Config) withDefaults() (Config, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return c, fmt.Errorf("tempo URL %q: use http://host:port or https://host:port", c.URL)
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	if c.GRPCAddr == "" {
		c.GRPCAddr = u.Host
		if u.Port() == "" {
			c.GRPCAddr += map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
		}
	}
	c.Access.PlainText = c.Access.PlainText || u.Scheme == "http"
	c.Concurrency = cmp.Or(c.Concurrency, 8)
	c.SearchLimit = cmp.Or(c.SearchLimit, 5000)
	c.MaxTraceDuration = cmp.Or(c.MaxTraceDuration, time.Hour)
	c.SearchAgainAfter = cmp.Or(c.SearchAgainAfter, 5*time.Second)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, time.Minute)
	c.Tries = cmp.Or(c.Tries, 5)
	c.MaxTraceBytes = cmp.Or(c.MaxTraceBytes, 1<<30)
	if c.MaxRequestsPerSecond < 0 || c.MaxBytesPerSecond < 0 {
		return c, errors.New("tempo: requests and bytes per second must be 0 or more")
	}
	if c.Concurrency < 0 || c.SearchLimit < 0 || c.Tries < 0 || c.MaxTraceDuration < 0 || c.SearchAgainAfter < 0 || c.RequestTimeout < 0 {
		return c, errors.New("tempo: concurrency, search limit, tries and durations must be above 0")
	}
	return c, nil
}
