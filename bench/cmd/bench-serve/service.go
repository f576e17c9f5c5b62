package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/betracehq/betrace/evidence/sink"
	"github.com/betracehq/betrace/scheduler"
	"github.com/betracehq/betrace/scheduler/state"
	"github.com/betracehq/betrace/tempoclient/blocks"
	"github.com/betracehq/betrace/trace/tracetest"
)

// cachedBytes is the memory for footers and trace IDs that betrace serve uses.
const cachedBytes = 64 << 20

// service is a service with a state of its own, in a folder.
type service struct {
	*scheduler.Service
	db *state.DB
}

// serviceOptions configure a service.
type serviceOptions struct {
	dir       string // of the state and the rule pack
	store     *blocks.Store
	now       func() time.Time
	start     time.Duration // of the sweep
	limits    scheduler.Limits
	sinks     func(string) ([]sink.EntrySink, error)
	sinkNames []string
	step      func(string)
}

// newService makes a service with one sweep, all, of the rules of [tracetest.Pack].
func newService(ctx context.Context, o serviceOptions) (s *service, err error) {
	if err := os.MkdirAll(o.dir, 0o750); err != nil {
		return nil, err
	}
	pack := filepath.Join(o.dir, "pack.yaml")
	if err := os.WriteFile(pack, []byte(tracetest.Pack), 0o600); err != nil {
		return nil, err
	}
	schedule, err := scheduler.ParseSchedule("*/5 * * * *", "")
	if err != nil {
		return nil, err
	}
	o.store.Clock(o.now)
	o.store.Cache(cachedBytes)
	db, err := state.Open(ctx, state.Options{Path: filepath.Join(o.dir, "state.db")})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	key, err := scheduler.SigningKey(ctx, db, "", o.now())
	if err != nil {
		return nil, err
	}
	made, err := scheduler.New(scheduler.ServiceOptions{
		State: db, Key: key, Store: o.store, Source: o.store.URL(), Now: o.now, Engine: "bench", Step: o.step, Sinks: o.sinks, SinkNames: o.sinkNames,
		Sweeps: []scheduler.Sweep{{
			Name: "all", Schedule: schedule, Tenants: []string{scheduler.AllTenants}, Packs: []string{pack},
			Start: o.start, Settle: scheduler.DefaultSettle, Hold: scheduler.DefaultHold, Limits: o.limits,
		}},
	})
	if err != nil {
		return nil, err
	}
	return &service{made, db}, nil
}

// tick runs one tick, and delivers nothing.
func (s *service) tick(ctx context.Context) (scheduler.Once, error) {
	once, err := s.Once(ctx, time.Minute)
	if err == nil && len(once.Problems) > 0 {
		err = fmt.Errorf("tick: %s", once.Problems[0])
	}
	return once, err
}
