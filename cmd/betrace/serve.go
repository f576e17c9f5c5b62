package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
	_ "time/tzdata" // schedules have time zones, also where the system has no database of them

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/tempoclient/source"
	"github.com/betracehq/betrace/trace"
	"github.com/betracehq/betrace/trace/columnar"
)

// cachedBytes is the approximate memory for the footers and trace IDs of blocks that are kept between ticks.
const cachedBytes = 64 << 20

func (p *program) serveCommand() *cobra.Command {
	once := false
	deliverFor := 5 * time.Minute
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Judge everything that Tempo stores, on schedule",
		Long: `Judge everything that Tempo stores, on schedule.

Each sweep of the configuration reads the blocks that Tempo has written since its last tick, judges their traces, and
commits the result to the state. Without tempo.blocks and tempo.config, it reads the traces that started since its last
tick by Tempo's API. Violations are then written to Tempo if tempo.otlp is set, and to Loki if loki.url is
set; with neither they are only in the state. The server has /ready, /services, /config and /metrics.

Rule packs and the configuration file are read again when they change, and on SIGHUP. A rule with a mistake keeps its last
good version, and a configuration with a mistake is refused as a whole.

With --once each sweep runs once, until nothing is left to judge, and the command ends. Exit code: 0 no new violation,
1 new violations, 2 incomplete: a sweep failed, a rule was refused, data is missing, or something was not delivered.`,
		Args: noArguments("sweeps are in the configuration file"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.config.load(cmd.Flags()); err != nil {
				return err
			}
			p.limitMemory(blocks.MemoryLimit(int64(p.config.Scan.MemoryBytes)))
			if once {
				return p.serveOnce(cmd.Context(), deliverFor)
			}
			return p.serve(cmd.Context(), cmd.Flags())
		},
	}
	p.config.addFlagsOf(cmd.Flags(), "state", "signing-key", "address", "tempo", "tempo-grpc", "tempo-otlp", "tempo-blocks", "tempo-config",
		"tempo-retention", "loki", "concurrency", "max-trace-duration", "request-timeout", "search-limit", "tries")
	cmd.Flags().BoolVar(&once, "once", false, "run each sweep once, and end")
	cmd.Flags().DurationVar(&deliverFor, "deliver-for", deliverFor, "with --once: time for which the sinks are waited for")
	return cmd
}

// serve runs the service until the context ends. When the configuration changes, it starts the service again with the new one.
func (p *program) serve(ctx context.Context, flags *pflag.FlagSet) error {
	reload := &configReload{file: p.config.file, flags: flags}
	for {
		next, err := p.serveUntilReload(ctx, reload)
		if err != nil || next == nil {
			return err
		}
		p.config = next
	}
}

// serveUntilReload runs the service until the context ends, or until there is another configuration, which it returns.
func (p *program) serveUntilReload(ctx context.Context, reload *configReload) (next *config, err error) {
	s, err := p.newService(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", p.config.Server.Address)
	if err != nil {
		return nil, fmt.Errorf("server.address: %w", err)
	}
	if p.config.Server.TLS.isOn() {
		config, err := p.config.Server.TLS.server()
		if err != nil {
			return nil, errors.Join(err, listener.Close())
		}
		listener = tls.NewListener(listener, config)
	}
	if err := s.service.RecordConfig(ctx); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	running, stop := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if next = reload.wait(running, s); next != nil {
			stop(errors.New("the configuration changed"))
		}
	}()
	err = s.service.Run(running, scheduler.ServerOptions{
		Listener: listener, Gatherer: s.registry, PProf: p.config.Server.PProf, Log: s.log,
		Config: func() ([]byte, error) {
			var text bytes.Buffer
			err := p.config.print(&text)
			return text.Bytes(), err
		},
	})
	stop(nil)
	<-watched
	return next, err
}

// configPoll is the time after which the configuration file is read again.
const configPoll = 10 * time.Second

// configReload reads the configuration again when its file changes, and on SIGHUP.
type configReload struct {
	file  string
	flags *pflag.FlagSet
	// read is the content of the file when it was last read.
	read []byte
}

// wait returns the configuration once it has changed and is valid, or nil when the context ends. SIGHUP also makes the
// service read its packs again.
func (r *configReload) wait(ctx context.Context, s *runningService) *config {
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	poll := time.NewTicker(configPoll)
	defer poll.Stop()
	if r.read == nil && r.file != "" {
		r.read, _ = os.ReadFile(r.file) // it was just loaded; an error is reported at the next reading
	}
	for {
		asked := false
		select {
		case <-ctx.Done():
			return nil
		case <-hangUp:
			asked = true
			s.service.Reload()
		case <-poll.C:
		}
		if r.file == "" {
			continue
		}
		content, err := os.ReadFile(r.file)
		if err == nil && bytes.Equal(content, r.read) && !asked {
			continue
		}
		changed := !bytes.Equal(content, r.read)
		if err == nil {
			r.read = content
			next := newConfig()
			next.file = r.file
			if err = next.load(r.flags); err == nil && changed {
				return next
			}
		}
		s.service.ConfigRead(err)
		if err != nil {
			s.log.ErrorContext(ctx, "configuration refused; the service goes on with the previous one", "file", r.file, "error", err)
		}
	}
}

// serveOnce runs each sweep once and prints the result.
func (p *program) serveOnce(ctx context.Context, deliverFor time.Duration) (err error) {
	s, err := p.newService(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.service.RecordConfig(ctx); err != nil {
		return err
	}
	once, err := s.service.Once(ctx, deliverFor)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s, %s\n", counted(once.Ticks, "tick"), counted(once.Violations, "new violation"))
	for _, problem := range once.Problems {
		fmt.Fprintln(p.stderr, "betrace:", problem)
	}
	switch {
	case len(once.Problems) > 0:
		return exitError{exitFailed}
	case once.Violations > 0:
		return exitError{exitViolations}
	}
	return nil
}

// runningService is the service with the resources that it uses.
type runningService struct {
	service  *scheduler.Service
	registry *prometheus.Registry
	log      *slog.Logger
	closers  []func() error
}

// newService opens the storage and the state, and makes the service.
func (p *program) newService(ctx context.Context) (s *runningService, err error) {
	c := p.config
	sweeps, err := c.sweeps()
	switch {
	case err != nil:
		return nil, err
	case len(sweeps) == 0:
		return nil, errors.New("no sweeps: add them to the configuration file, as shown in docs/service.md")
	case c.State == "":
		return nil, errors.New("no state: set state to the name of a file, which is made if it does not exist, or to the URL of a PostgreSQL database")
	}
	s = &runningService{registry: prometheus.NewRegistry()}
	opened := s // s is nil when an error is returned
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	if s.log, err = c.logger(p.stderr); err != nil {
		return nil, err
	}
	store, err := c.openBlocks(ctx)
	if err != nil {
		return nil, err
	}
	api := &apiReaders{config: c, byTenant: map[string]*source.Source{}}
	s.closers = append(s.closers, api.close)
	place := c.Tempo.URL // traces are read by the API
	if store != nil {
		s.closers = append(s.closers, store.Close)
		store.Cache(cachedBytes)
		place = store.URL()
	}
	db, err := state.Open(ctx, state.Options{Path: c.State, Shared: true, Log: s.log})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, db.Close)
	key, err := scheduler.SigningKey(ctx, db, c.Signing.KeyFile, time.Now())
	if err != nil {
		return nil, err
	}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	tracer, endTraces, err := c.Tracing.tracer(ctx, s.log)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() error {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracesTimeout)
		defer cancel()
		if err := endTraces(ending); err != nil {
			s.log.Warn("traces of the service are lost", "error", err)
		}
		return nil
	})
	sinks := &tenantSinks{config: c, byTenant: map[string][]sink.EntrySink{}}
	s.closers = append(s.closers, sinks.close)
	s.service, err = scheduler.New(scheduler.ServiceOptions{
		State: db, Key: key, Store: store, ReadWindow: api.read, Source: place, Sweeps: sweeps, Rules: c.ruleOptions(),
		Sinks: sinks.of, Send: sinks.send, SinkNames: sinks.names(), OutboxItems: c.Outbox.MaxItems, ResendAfter: c.Outbox.ResendAfter,
		MaxTraceDuration: c.Scan.MaxTraceDuration, MemoryBytes: int64(c.Scan.MemoryBytes), CompactedRetention: c.Tempo.CompactedRetention,
		Retention: c.tenantRetention(ctx, s.log), Engine: engineVersion(), Log: s.log, Registerer: s.registry, Step: p.step, Tracer: tracer,
	})
	return s, err
}

// close closes the resources, the last one first.
func (s *runningService) close() error {
	var errs []error
	for _, end := range slices.Backward(s.closers) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// tenantRetention returns a function with the time for which Tempo keeps the blocks of a tenant.
func (c *config) tenantRetention(ctx context.Context, log *slog.Logger) func(string) time.Duration {
	return func(tenant string) time.Duration {
		if c.Tempo.Retention > 0 || c.Tempo.Config == "" {
			return c.Tempo.Retention
		}
		retention, err := blocks.TempoConfigRetention(c.Tempo.Config, tenant)
		if err != nil {
			log.WarnContext(ctx, "retention of blocks is unknown", "tenant", tenant, "error", err)
		}
		return retention
	}
}

// apiReaders makes the readers of Tempo's API for each tenant when they are first used.
type apiReaders struct {
	config *config

	mu       sync.Mutex
	byTenant map[string]*source.Source
	closers  []func() error
}

// read reads the traces of a tenant in a window.
func (a *apiReaders) read(ctx context.Context, tenant string, w scheduler.APIWindow, deliver func(*columnar.Batch) error) (trace.Reading, error) {
	s, err := a.of(tenant)
	if err != nil {
		return trace.Reading{}, err
	}
	return s.Read(ctx, source.Request{From: w.From, To: w.To, SettledBefore: w.SettledBefore, Needs: w.Needs, Filter: w.Filter}, deliver)
}

func (a *apiReaders) of(tenant string) (*source.Source, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s, made := a.byTenant[tenant]; made {
		return s, nil
	}
	c := *a.config
	if tenant != "" {
		c.Tenant = tenant
	}
	settings, err := c.tempoClient()
	if err != nil {
		return nil, err
	}
	client, err := tempoclient.New(settings)
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, client.Close)
	s, err := source.New(source.Options{
		Mode: source.API, Client: client, Tenant: c.Tenant, MaxTraceDuration: c.Scan.MaxTraceDuration, OwnAttributes: evidence.OwnAttributes,
	})
	if err == nil {
		a.byTenant[tenant] = s
	}
	return s, err
}

func (a *apiReaders) close() error {
	var errs []error
	for _, end := range a.closers {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// tenantSinks makes the sinks of each tenant when they are first used. In contrast to scan, no sink is implied.
type tenantSinks struct {
	config *config

	mu       sync.Mutex
	byTenant map[string][]sink.EntrySink
	closers  []func() error
}

// names returns the names of the sinks.
func (s *tenantSinks) names() []string {
	var names []string
	if s.config.Tempo.OTLP != "" {
		names = append(names, "tempo")
	}
	if s.config.Loki.URL != "" {
		names = append(names, "loki")
	}
	return names
}

// of returns the sinks of a tenant.
func (s *tenantSinks) of(tenant string) ([]sink.EntrySink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sinks, made := s.byTenant[tenant]; made {
		return sinks, nil
	}
	c := *s.config
	if tenant != "" {
		c.Tenant = tenant
	}
	var sinks []sink.EntrySink
	if c.Tempo.OTLP != "" {
		tempo, closers, err := c.tempoSink()
		s.closers = append(s.closers, closers...)
		if err != nil {
			return nil, fmt.Errorf("tempo: %w", err)
		}
		sinks = append(sinks, tempo)
	}
	if c.Loki.URL != "" {
		loki, err := c.lokiSink()
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, loki)
	}
	s.byTenant[tenant] = sinks
	return sinks, nil
}

// send writes spans to the Tempo of a tenant.
func (s *tenantSinks) send(ctx context.Context, tenant string, spans ptrace.Traces) error {
	sinks, err := s.of(tenant)
	if err != nil {
		return err
	}
	for _, to := range sinks {
		if tempo, ok := to.(*sink.Tempo); ok {
			return tempo.Export(ctx, spans)
		}
	}
	return errors.New("tempo.otlp is not set")
}

func (s *tenantSinks) close() error {
	var errs []error
	for _, end := range s.closers {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// tempoSink returns the sink for spans, and the functions that close its connections.
func (c *config) tempoSink() (*sink.Tempo, []func() error, error) {
	api, err := c.tempoClient()
	if err != nil {
		return nil, nil, err
	}
	client, err := tempoclient.New(api)
	if err != nil {
		return nil, nil, err
	}
	closers := []func() error{client.Close}
	otlp, err := c.otlpWriter()
	if err != nil {
		return nil, closers, err
	}
	writer, err := tempoclient.NewWriter(otlp)
	if err != nil {
		return nil, closers, err
	}
	closers = append(closers, writer.Close)
	return &sink.Tempo{
		Export: writer.Export, Read: client.Trace, NotFound: tempoclient.ErrNotFound, Search: client.Select, LimitRefused: tempoclient.ErrSearchLimit,
		SearchLimit: c.Scan.SearchLimit, Concurrency: c.Scan.Concurrency,
	}, closers, nil
}

// lokiSink returns the sink for records.
func (c *config) lokiSink() (*sink.Loki, error) {
	access, err := c.access("loki", &c.Loki.Access)
	if err != nil {
		return nil, err
	}
	client, err := access.HTTPClient()
	if err != nil {
		return nil, fmt.Errorf("loki: %w", err)
	}
	return sink.NewLoki(sink.LokiConfig{URL: c.Loki.URL, Client: client, Lookback: c.Loki.Lookback, Tries: c.Scan.Tries})
}
