package scheduler

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"time"

	"github.com/grafana/dskit/services"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/betracehq/betrace/evidence"

	"github.com/betracehq/betrace/scheduler/state"
)

// ServerOptions configure the HTTP server of the service.
type ServerOptions struct {
	// Listener accepts the connections. The server closes it.
	Listener net.Listener
	// Config returns the configuration as YAML, without secrets.
	Config func() ([]byte, error)
	// Gatherer has the metrics.
	Gatherer prometheus.Gatherer
	// PProf serves /debug/pprof.
	PProf bool
	Log   *slog.Logger
}

// stopTimeout bounds the time for which the server waits for requests at the end.
const stopTimeout = 10 * time.Second

// Run runs the sweeps, the deliveries and the server until the context ends or the server fails. If the state fails, as on
// a full disk, sweeps and deliveries try again. A tick that is under way
// at the end is dropped as a whole.
//
//	New ─▶ Starting ─▶ Running ─▶ Stopping ─▶ Terminated     (each service; github.com/grafana/dskit/services)
//	                      └──────────┴──────▶ Failed
func (s *Service) Run(ctx context.Context, server ServerOptions) error {
	// The sweeps stop first, then deliveries, then the server, so that the end can be watched.
	sweeps := services.NewBasicService(nil, s.runSweeps, nil).WithName("sweeps")
	outbox := services.NewBasicService(nil, s.outbox.run, nil).WithName("outbox")
	all := []services.Service{sweeps, outbox}
	if s.claims != nil {
		all = append(all, services.NewBasicService(nil, s.claims.run, nil).WithName("replica"))
		defer s.claims.leave(ctx)
	}
	manager, err := services.NewManager(all...)
	if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	web := s.webService(server, func() []services.Service { return all })
	all = append(all, web)
	if err := services.StartAndAwaitRunning(ctx, web); err != nil {
		return fmt.Errorf("http server: %w", err)
	}
	watcher := services.NewFailureWatcher()
	defer watcher.Close()
	watcher.WatchManager(manager)
	watcher.WatchService(web)
	err = services.StartManagerAndAwaitHealthy(context.WithoutCancel(ctx), manager)
	if err == nil {
		s.step("started")
		s.log.InfoContext(ctx, "started", "address", server.Listener.Addr().String(), "sweeps", len(s.sweeps))
		select {
		case <-ctx.Done():
			s.log.InfoContext(ctx, "stopping", "reason", context.Cause(ctx))
		case err = <-watcher.Chan():
		}
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	for _, service := range all {
		if stopErr := services.StopAndAwaitTerminated(stopCtx, service); stopErr != nil && err == nil {
			err = fmt.Errorf("%s: %w", services.DescribeService(service), stopErr)
		}
	}
	return err
}

// webService returns the HTTP server as a service.
func (s *Service) webService(opts ServerOptions, all func() []services.Service) services.Service {
	server := &http.Server{Handler: s.handler(opts, all), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(opts.Log.Handler(), slog.LevelWarn)}
	run := func(ctx context.Context) error {
		failed := make(chan error, 1)
		go func() { failed <- server.Serve(opts.Listener) }()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err := server.Shutdown(ctx)
		if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}
	return services.NewBasicService(nil, run, nil).WithName("server")
}

// handler returns the pages of the server.
func (s *Service) handler(opts ServerOptions, all func() []services.Service) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		for _, service := range all() {
			if service.State() != services.Running {
				http.Error(w, services.DescribeService(service)+" is "+service.State().String(), http.StatusServiceUnavailable)
				return
			}
		}
		if problems := s.health.problems(); problems != "" {
			http.Error(w, problems, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.HandleFunc("GET /services", func(w http.ResponseWriter, _ *http.Request) {
		for _, service := range all() {
			fmt.Fprintf(w, "%s: %s\n", services.DescribeService(service), service.State())
		}
	})
	mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) {
		text, err := opts.Config()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/yaml")
		w.Write(text) //nolint:errcheck // the client has gone
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(opts.Gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("POST /api/v1/sweeps/{name}/{action}", s.sweepAction)
	mux.HandleFunc("POST /api/v1/mutes", s.mute)
	mux.HandleFunc("POST /api/v1/mutes/{id}/end", s.endMute)
	if opts.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// sweepAction runs, pauses or resumes a sweep.
func (s *Service) sweepAction(w http.ResponseWriter, r *http.Request) {
	name, action := r.PathValue("name"), r.PathValue("action")
	if !slices.ContainsFunc(s.sweeps, func(sweep Sweep) bool { return sweep.Name == name }) {
		http.Error(w, fmt.Sprintf("there is no sweep %s", name), http.StatusNotFound)
		return
	}
	var err error
	switch action {
	case "run":
		err = s.runSoon(r.Context(), name)
	case "pause", "resume":
		err = SetPaused(r.Context(), s.state, s.key, s.engine, s.now(), name, action == "pause")
	default:
		http.Error(w, fmt.Sprintf("there is no action %s: want run, pause or resume", action), http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.signal()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"sweep": name, "action": action}) //nolint:errcheck // the client has gone
}

// runSoon makes each pass of a sweep due.
func (s *Service) runSoon(ctx context.Context, name string) error {
	passes, err := s.passes(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range passes {
		if slices.Contains(p.names(), name) {
			s.runNow[name+" "+p.tenant] = true
		}
	}
	return nil
}

// SetPaused pauses or resumes a sweep for every tenant, and appends an event to the log of each tenant that it has judged.
func SetPaused(ctx context.Context, db *state.DB, key *evidence.Key, engine string, now time.Time, name string, paused bool) error {
	return db.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
		all, err := tx.Sweeps(ctx)
		if err != nil {
			return err
		}
		st := state.SweepState{Sweep: name, Tenant: AllTenants}
		var tenants []string
		for _, known := range all {
			switch {
			case known.Sweep != name:
			case known.Tenant == AllTenants:
				st = known
			default:
				tenants = append(tenants, evidenceTenant(known.Tenant))
			}
		}
		if st.Paused == paused {
			return nil
		}
		st.Paused = paused
		if err := tx.PutSweep(ctx, st); err != nil {
			return err
		}
		event := evidence.Event{Name: evidence.EventSweepResumed, Details: map[string]string{"sweep": name}}
		if paused {
			event.Name = evidence.EventSweepPaused
		}
		for _, tenant := range tenants {
			if err := appendEvent(ctx, tx, key, tenant, event, engine, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// RecordConfig appends an event to the log of each tenant if the sweeps differ from those that the state has.
func (s *Service) RecordConfig(ctx context.Context) error {
	details := map[string]string{}
	for i := range s.sweeps {
		details["sweep "+s.sweeps[i].Name] = s.sweeps[i].describe()
	}
	text, err := json.Marshal(details) // with sorted keys
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(text))
	return s.state.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
		before, err := tx.Config(ctx)
		if err != nil || before == digest {
			return err
		}
		if err := tx.PutConfig(ctx, digest); err != nil {
			return err
		}
		tenants, err := tx.Tenants(ctx)
		if err != nil {
			return err
		}
		event := evidence.Event{Name: evidence.EventConfigLoaded, Details: details}
		for _, tenant := range tenants {
			if err := appendEvent(ctx, tx, s.key, tenant, event, s.engine, s.now()); err != nil {
				return err
			}
		}
		return nil
	})
}

// Reload makes the service read its rule packs again soon, even if their files seem unchanged.
func (s *Service) Reload() {
	s.rules.forget.Store(true)
	s.signal()
}

// signal makes the sweeps look at once whether they are due.
func (s *Service) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// ConfigRead sets the metric about the last reading of the configuration, which failed if the error is not nil.
func (s *Service) ConfigRead(err error) {
	success := 1.0
	if err != nil {
		success = 0
	}
	s.metrics.configSuccess.Set(success)
}
