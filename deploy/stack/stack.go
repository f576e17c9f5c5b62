package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// readyTimeout bounds the start of a server, grace its end.
const (
	readyTimeout = 5 * time.Minute // for a loaded machine; an idle one needs 20 s
	grace        = 10 * time.Second
)

// CompactedRetention is the time for which a Tempo with Options.Compacting keeps compacted blocks.
const CompactedRetention = 10 * time.Second

// Options select and configure the servers.
type Options struct {
	// Tempo and Loki start these servers. At least one of Tempo, Loki, S3 and Postgres must be set.
	Tempo, Loki bool
	// S3 starts a SeaweedFS with an empty bucket. If Tempo is started too, it stores its blocks there
	// instead of in a folder.
	S3 bool
	// Postgres starts a PostgreSQL.
	Postgres bool
	// Profile is Tempo's configuration. If empty, it is Fast.
	Profile Profile
	// Multitenant makes both servers require a tenant with each request.
	Multitenant bool
	// FlushOnly makes Tempo cut blocks only when Flush is called, and date them by their spans however
	// old these are. Unless Compacting is set, Tempo neither compacts the blocks nor deletes them after their
	// retention, so the stored data is exactly the sent data.
	FlushOnly bool
	// NoBlocks makes Tempo keep traces in its ingester, where search finds them within seconds, and cut
	// no blocks until Flush is called. While Tempo moves a block to its storage, search may find none of
	// the block's traces. Requires the profile Fast.
	NoBlocks bool
	// Compacting makes Tempo look for blocks to compact each second, and delete compacted blocks after
	// [CompactedRetention] instead of an hour.
	Compacting bool
	// Dedicated lists the attributes with dedicated columns, named as in TraceQL and separated by commas:
	// "span.tier,resource.region". These columns hold strings only.
	Dedicated string
	// SelfTrace makes Tempo send the traces of its own work to itself, as the service tempo-all.
	SelfTrace bool
	// Dir is the folder for the servers' data, configuration and logs. If empty, a new folder is made,
	// which Stop removes.
	Dir string
	// Log, if not nil, receives lines of progress.
	Log io.Writer
}

// Stack is a set of running servers. Their addresses are on 127.0.0.1.
type Stack struct {
	// Dir holds data, configuration and logs.
	Dir string
	// TempoURL is Tempo's HTTP API. TempoGRPC is the host:port of its gRPC API (streaming search).
	TempoURL, TempoGRPC string
	// OTLPGRPC is a host:port. OTLPHTTP is a URL without /v1/traces.
	OTLPGRPC, OTLPHTTP string
	// TempoConfig is the path of Tempo's configuration. TempoBlocks is the folder of its object storage,
	// or with Options.S3 the URL of its bucket. Both are empty for a Tempo that was already running.
	TempoConfig, TempoBlocks string
	// S3 is the bucket of Options.S3, or nil.
	S3 *Bucket
	// LokiURL is Loki's HTTP API.
	LokiURL string
	// Postgres is the PostgreSQL of Options.Postgres, or nil.
	Postgres *Postgres

	processes []*process
	sockets   []string // not removed by SeaweedFS
	folders   []string // further folders that Stop removes
	removeDir bool
	stopOnce  sync.Once
	stopErr   error
}

// Start builds missing programs, starts the servers and waits until they are ready. The context bounds
// the start only. The servers end when Stop is called or this process ends.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	if opts.Log == nil {
		opts.Log = io.Discard
	}
	if opts.Profile == "" {
		opts.Profile = Fast
	}
	s := &Stack{Dir: opts.Dir}
	if s.Dir == "" {
		dir, err := os.MkdirTemp("", "betrace-stack-")
		if err != nil {
			return nil, fmt.Errorf("stack: %w", err)
		}
		s.Dir, s.removeDir = dir, true
	}
	var wg sync.WaitGroup
	var tempoErr, lokiErr, postgresErr error
	var mu sync.Mutex
	add := func(p *process) {
		mu.Lock()
		defer mu.Unlock()
		s.processes = append(s.processes, p)
	}
	startTempo := opts.Tempo && !s.runningTempo()
	if startTempo || opts.S3 {
		wg.Go(func() {
			if opts.S3 {
				if tempoErr = s.startS3(ctx, opts, add); tempoErr != nil {
					return
				}
			}
			if startTempo {
				tempoErr = s.startTempo(ctx, opts, add)
			}
		})
	}
	if opts.Loki && !s.runningLoki() {
		wg.Go(func() { lokiErr = s.startLoki(ctx, opts, add) })
	}
	if opts.Postgres {
		wg.Go(func() { postgresErr = s.startPostgres(ctx, opts, add) })
	}
	wg.Wait()
	if err := errors.Join(tempoErr, lokiErr, postgresErr); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// runningTempo uses the Tempo that the environment names, and reports whether there is one. Ports that
// the environment does not set have Tempo's defaults.
func (s *Stack) runningTempo() bool {
	s.TempoURL = os.Getenv("TEMPO_URL")
	u, err := url.Parse(s.TempoURL)
	if s.TempoURL == "" || err != nil {
		return s.TempoURL != ""
	}
	at := func(port string) string { return net.JoinHostPort(u.Hostname(), port) }
	s.TempoGRPC = cmp.Or(os.Getenv("TEMPO_GRPC"), at("9095"))
	s.OTLPGRPC = cmp.Or(os.Getenv("TEMPO_OTLP_GRPC"), at("4317"))
	s.OTLPHTTP = cmp.Or(os.Getenv("TEMPO_OTLP_HTTP"), "http://"+at("4318"))
	return true
}

func (s *Stack) runningLoki() bool {
	s.LokiURL = os.Getenv("LOKI_URL")
	return s.LokiURL != ""
}

func (s *Stack) startTempo(ctx context.Context, opts Options, add func(*process)) error {
	program, err := Build(ctx, Tempo, opts.Log)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.Dir, "tempo")
	p, err := s.launch(ctx, opts, dir, "tempo.yaml.tmpl", func(c settings, config string) (*process, string, error) {
		c.Fast = opts.Profile == Fast
		var env []string
		if opts.SelfTrace {
			env = []string{
				"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_TRACES_SAMPLER=always_on",
				fmt.Sprintf("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:%d", c.OTLPGRPC),
			}
		}
		s.TempoURL = fmt.Sprintf("http://127.0.0.1:%d", c.HTTP)
		s.TempoGRPC = fmt.Sprintf("127.0.0.1:%d", c.GRPC)
		s.OTLPGRPC = fmt.Sprintf("127.0.0.1:%d", c.OTLPGRPC)
		s.OTLPHTTP = fmt.Sprintf("http://127.0.0.1:%d", c.OTLPHTTP)
		s.TempoConfig, s.TempoBlocks = config, filepath.Join(dir, "blocks")
		if s.S3 != nil {
			s.TempoBlocks = s.S3.URL()
		}
		p, err := start("tempo", filepath.Join(dir, "tempo.log"), env, program, "-config.file="+config)
		return p, s.TempoURL + "/ready", err
	})
	if p != nil {
		add(p)
	}
	return err
}

func (s *Stack) startLoki(ctx context.Context, opts Options, add func(*process)) error {
	program, err := Build(ctx, Loki, opts.Log)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.Dir, "loki")
	p, err := s.launch(ctx, opts, dir, "loki.yaml.tmpl", func(c settings, config string) (*process, string, error) {
		s.LokiURL = fmt.Sprintf("http://127.0.0.1:%d", c.HTTP)
		p, err := start("loki", filepath.Join(dir, "loki.log"), nil, program, "-config.file="+config)
		return p, s.LokiURL + "/ready", err
	})
	if p != nil {
		add(p)
	}
	return err
}

// launch writes a configuration with free ports, starts the server and waits until it is ready. If
// another program took one of the ports meanwhile, it tries again with other ports.
func (s *Stack) launch(ctx context.Context, opts Options, dir, tmpl string, run func(c settings, config string) (p *process, readyURL string, err error)) (*process, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	dedicated, err := parseDedicated(opts.Dedicated)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("no answer after %s", readyTimeout))
	defer cancel()
	for try := 1; ; try++ {
		ports, err := freePorts(ctx, 8)
		if err != nil {
			return nil, err
		}
		c := settings{
			Dir: dir, Fast: opts.Profile == Fast, Multitenant: opts.Multitenant, FlushOnly: opts.FlushOnly, NoBlocks: opts.NoBlocks, Compacting: opts.Compacting, Dedicated: dedicated,
			HTTP: ports[0], GRPC: ports[1], OTLPGRPC: ports[2], OTLPHTTP: ports[3], Gossip: ports[4], Ports: ports,
			S3: s.S3,
		}
		text, err := render(tmpl, c)
		if err != nil {
			return nil, err
		}
		config := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil { // may hold credentials
			return nil, fmt.Errorf("stack: %w", err)
		}
		p, url, err := run(c, config)
		if err != nil {
			return nil, err
		}
		err = p.waitReady(ctx, url)
		if err == nil || !p.lostPort() || try == 3 {
			return p, err
		}
	}
}

// Flush makes Tempo cut the data in memory into a block for each tenant, and store it. Search finds the
// block after Tempo has polled its storage.
func (s *Stack) Flush(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.TempoURL+"/flush", nil)
	if err != nil {
		return fmt.Errorf("flush tempo: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("flush tempo: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("flush tempo: %s", resp.Status)
	}
	return nil
}

// Started reports whether Start started any servers. Servers that were already running do not count.
func (s *Stack) Started() bool { return len(s.processes) > 0 }

// Stop ends the servers that Start started, and removes their folder if Start made it. Further calls
// return the error of the first call.
func (s *Stack) Stop() error {
	s.stopOnce.Do(func() {
		errs := make([]error, len(s.processes)+1)
		var wg sync.WaitGroup
		for i, p := range s.processes {
			wg.Go(func() { errs[i] = p.stop(grace) })
		}
		wg.Wait()
		errs[len(s.processes)] = s.removeSockets()
		for _, dir := range s.folders {
			errs = append(errs, os.RemoveAll(dir))
		}
		if s.removeDir {
			errs = append(errs, os.RemoveAll(s.Dir))
		}
		s.stopErr = errors.Join(errs...)
	})
	return s.stopErr
}
