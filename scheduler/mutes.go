package scheduler

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/scheduler/state"
)

// MuteRequest is the body of POST /api/v1/mutes.
type MuteRequest struct {
	// Tenant is a tenant, or [AllTenants].
	Tenant string `json:"tenant"`
	Pack   string `json:"pack"`
	Rule   string `json:"rule"`
	// Service is empty for all services.
	Service string    `json:"service"`
	Reason  string    `json:"reason"`
	Actor   string    `json:"actor"`
	Until   time.Time `json:"until"`
}

// Errors about a request to mute a rule, or to end a mute.
var (
	errInvalidMute = errors.New("the mute is invalid")
	errNoMute      = errors.New("there is no such mute")
)

// maxReason bounds the length of a reason in bytes.
const maxReason = 2000

// Mute keeps the violations of a rule that the next ticks find out of alerts, until a time. It appends an event to the log
// of each tenant that it concerns.
func Mute(ctx context.Context, db *state.DB, key *evidence.Key, engine string, now time.Time, r MuteRequest) (state.Mute, error) {
	m := state.Mute{
		ID: randomHex(4), Tenant: r.Tenant, Pack: r.Pack, Rule: r.Rule, Service: r.Service, Reason: r.Reason, Actor: r.Actor, Salt: randomHex(16),
		Created: stamp(now), Until: stamp(r.Until),
	}
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", errInvalidMute, fmt.Sprintf(format, args...))
	}
	switch {
	case strings.TrimSpace(m.Reason) == "" || len(m.Reason) > maxReason:
		return m, invalid("reason: want 1 to %d bytes that say why", maxReason)
	case m.Actor == "":
		return m, invalid("actor: want the name of the person or program that mutes the rule")
	case !m.Until.After(m.Created):
		return m, invalid("until %s: want a time in the future", m.Until.Format(time.RFC3339))
	}
	err := db.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
		known, err := knownRules(ctx, tx)
		if err != nil {
			return err
		}
		if name := m.Pack + "/" + m.Rule; !slices.Contains(known, name) {
			return invalid("rule %s is not loaded; loaded rules: %s", name, someOf(known))
		}
		if err := tx.PutMute(ctx, m); err != nil {
			return err
		}
		return muteEvent(ctx, tx, key, engine, now, &m, evidence.Event{Name: evidence.EventRuleMuted, Details: map[string]string{
			"mute": m.ID, "rule": m.Pack + "/" + m.Rule, "service": m.Service, "until": m.Until.Format(time.RFC3339),
			"text": evidence.TextDigest(m.Salt, m.Actor, m.Reason),
		}})
	})
	return m, err
}

// EndMute ends a mute before its time, and appends an event as [Mute] does.
func EndMute(ctx context.Context, db *state.DB, key *evidence.Key, engine string, now time.Time, id, actor string) (m state.Mute, err error) {
	if actor == "" {
		return m, fmt.Errorf("%w: actor: want the name of the person or program that ends it", errInvalidMute)
	}
	err = db.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
		var ok bool
		if m, ok, err = tx.Mute(ctx, id); err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: %s", errNoMute, id)
		}
		if !m.Active(now) {
			return fmt.Errorf("%w: mute %s is not in force any more", errInvalidMute, id)
		}
		m.Ended, m.EndedBy = stamp(now), actor
		if err := tx.EndMute(ctx, id, m.Ended, actor); err != nil {
			return err
		}
		return muteEvent(ctx, tx, key, engine, now, &m, evidence.Event{Name: evidence.EventRuleUnmuted, Details: map[string]string{
			"mute": m.ID, "rule": m.Pack + "/" + m.Rule, "text": evidence.TextDigest(m.Salt, actor),
		}})
	})
	return m, err
}

// muteEvent appends an event about a mute to the logs of its tenants.
func muteEvent(ctx context.Context, tx *state.Tx, key *evidence.Key, engine string, now time.Time, m *state.Mute, event evidence.Event) error {
	if event.Details["service"] == "" {
		delete(event.Details, "service")
	}
	tenants := []string{m.Tenant}
	if m.Tenant == AllTenants {
		var err error
		if tenants, err = tx.Tenants(ctx); err != nil {
			return err
		}
	}
	for _, tenant := range tenants {
		if err := appendEvent(ctx, tx, key, tenant, event, engine, now); err != nil {
			return err
		}
	}
	return nil
}

// knownRules returns the names of the rules that any ledger has loaded, as pack/rule, sorted.
func knownRules(ctx context.Context, tx *state.Tx) ([]string, error) {
	ledgers, err := tx.Ledgers(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range ledgers {
		loaded, err := tx.LoadedRules(ctx, l.ID)
		if err != nil {
			return nil, err
		}
		for _, r := range loaded {
			if r.Ended.IsZero() {
				names = append(names, r.Pack+"/"+r.Rule)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// someOf lists names for an error.
func someOf(names []string) string {
	const most = 20
	if len(names) == 0 {
		return "none yet"
	}
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// mutes are the mutes in force.
type mutes []state.Mute

// mutesAt returns the mutes that are in force for a tenant at a time.
func mutesAt(ctx context.Context, tx *state.Tx, tenant string, at time.Time) (mutes, error) {
	all, err := tx.Mutes(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(m state.Mute) bool {
		return !m.Active(at) || m.Tenant != AllTenants && m.Tenant != tenant
	}), nil
}

// apply reports whether a violation is muted.
func (all mutes) apply(v *evidence.Violation) bool {
	return slices.ContainsFunc(all, func(m state.Mute) bool {
		return m.Pack == v.Pack && m.Rule == v.RuleID && (m.Service == "" || slices.Contains(v.Services, m.Service))
	})
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// mute serves POST /api/v1/mutes.
func (s *Service) mute(w http.ResponseWriter, r *http.Request) {
	var request MuteRequest
	if !readBody(w, r, &request) {
		return
	}
	m, err := Mute(r.Context(), s.state, s.key, s.engine, s.now(), request)
	s.answerMute(w, r, m, err, "rule muted")
}

// endMute serves POST /api/v1/mutes/ID/end.
func (s *Service) endMute(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Actor string `json:"actor"`
	}
	if !readBody(w, r, &request) {
		return
	}
	m, err := EndMute(r.Context(), s.state, s.key, s.engine, s.now(), r.PathValue("id"), request.Actor)
	s.answerMute(w, r, m, err, "rule unmuted")
}

func (s *Service) answerMute(w http.ResponseWriter, r *http.Request, m state.Mute, err error, message string) {
	switch {
	case errors.Is(err, errInvalidMute):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case errors.Is(err, errNoMute):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		s.log.InfoContext(r.Context(), message, "mute", m.ID, "rule", m.Pack+"/"+m.Rule, "service", m.Service, "tenant", m.Tenant, "until", m.Until)
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]string{"id": m.ID, "rule": m.Pack + "/" + m.Rule}) //nolint:errcheck,errchkjson // the client has gone
	}
}

// maxBody bounds the body of a request.
const maxBody = 1 << 16

// readBody reads a body in JSON. If it is invalid, readBody answers, and returns false.
func readBody(w http.ResponseWriter, r *http.Request, to any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(to); err != nil {
		http.Error(w, "the body is not valid: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}
