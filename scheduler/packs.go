package scheduler

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/betracehq/betrace/rules"
	"github.com/betracehq/betrace/scheduler/state"
)

// ruleSet are the rules of a sweep.
type ruleSet struct {
	packs []*rules.Pack
	rules []*rules.Rule
	// problems are the mistakes in the packs, one line each. A refused rule is represented by its last good version, if
	// there is one.
	problems    []string
	fingerprint string
	// number is that of the set in the state, if replicas share it.
	number int64
}

// digests returns the digests of the packs.
func (s *ruleSet) digests() []string {
	var all []string
	for _, p := range s.packs {
		all = append(all, p.Digest)
	}
	return all
}

// rule returns the rule of a pack, or nil.
func (s *ruleSet) rule(pack, id string) *rules.Rule {
	for _, r := range s.rules {
		if r.Pack.Name == pack && r.ID == id {
			return r
		}
	}
	return nil
}

// ruleLoader loads the packs of sweeps, and again when they change.
type ruleLoader struct {
	options rules.Options
	state   *state.DB
	now     func() time.Time
	log     *slog.Logger
	mu      sync.Mutex
	sets    map[string]*ruleSet // by sweep
	files   map[string]*ruleSet // as they were last read, by their paths
	posted  map[string][]string // digests of the packs on the disk of this replica when it last posted or compared them, by sweep
	forget  atomic.Bool         // read the files at the next calls, even if they seem unchanged
}

// load returns the rules of a sweep, and whether they changed since the last call. It reads the files only if one of them
// changed. A refused rule keeps its last good version, and a pack that cannot be read keeps its rules, also those that
// the state has from before a restart.
func (l *ruleLoader) load(ctx context.Context, s *Sweep) (set *ruleSet, changed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.forget.Swap(false) {
		clear(l.files)
		for _, set := range l.sets {
			set.fingerprint = ""
		}
	}
	before := l.sets[s.Name]
	fingerprint, err := rules.Fingerprint(s.Packs)
	switch {
	case err != nil && before != nil:
		l.log.ErrorContext(ctx, "packs cannot be read; the loaded rules go on", "sweep", s.Name, "error", err)
		problems := []string{err.Error()}
		set = &ruleSet{packs: before.packs, rules: before.rules, problems: problems}
		l.sets[s.Name] = set
		return set, !slices.Equal(before.problems, problems), nil
	case err == nil && before != nil && before.fingerprint == fingerprint:
		return l.current(ctx, s, before)
	}
	set = &ruleSet{fingerprint: fingerprint}
	set.packs, set.problems = l.read(s.Packs, fingerprint)
	if !l.state.Shared() {
		return set, true, l.use(ctx, s, set, before)
	}
	set, err = l.agree(ctx, s, set, before)
	return set, true, err
}

// read returns the packs in files and folders, and their mistakes. Sweeps with the same paths share the packs.
func (l *ruleLoader) read(paths []string, fingerprint string) (packs []*rules.Pack, problems []string) {
	key := strings.Join(paths, "\n")
	known := l.files[key]
	if known == nil || known.fingerprint != fingerprint || fingerprint == "" {
		packs, err := rules.Load(paths, l.options)
		known = &ruleSet{packs: packs, fingerprint: fingerprint}
		if err != nil {
			known.problems = strings.Split(err.Error(), "\n")
		}
		l.files[key] = known
	}
	return slices.Clone(known.packs), slices.Clone(known.problems)
}

// Replicas may have different packs on their disks, as during the deployment of a new version. All use those that the state
// names. A replica posts its own there when it starts, and when they change.

// agree posts the packs of this replica's disk if they changed, and returns the set to use.
func (l *ruleLoader) agree(ctx context.Context, s *Sweep, disk, before *ruleSet) (*ruleSet, error) {
	digests := disk.digests() // without packs that are kept because their files cannot be used
	inUse, err := l.state.RuleSet(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	if posted, again := l.posted[s.Name]; again && slices.Equal(digests, posted) && inUse.Number != before.number {
		set, err := l.fromState(ctx, disk, inUse)
		if err != nil {
			return nil, err
		}
		return set, l.use(ctx, s, set, before)
	}
	if err := l.use(ctx, s, disk, before); err != nil {
		return nil, err
	}
	l.posted[s.Name] = digests
	if disk.number = inUse.Number; slices.Equal(disk.digests(), inUse.Packs) {
		return disk, nil
	}
	return disk, l.state.Write(ctx, func(ctx context.Context, tx *state.Tx) error {
		inUse, err := tx.RuleSet(ctx, s.Name)
		if err != nil {
			return err
		}
		for _, p := range disk.packs {
			if err := tx.PutPack(ctx, state.Pack{Digest: p.Digest, Name: p.Name, Version: p.Version, Path: p.Path, Content: p.Content, LoadedAt: l.now()}); err != nil {
				return err
			}
		}
		disk.number = inUse.Number + 1
		return tx.PutRuleSet(ctx, s.Name, state.RuleSet{Number: disk.number, Packs: disk.digests()})
	})
}

// current returns the set that was loaded, or a later one that another replica posted.
func (l *ruleLoader) current(ctx context.Context, s *Sweep, loaded *ruleSet) (set *ruleSet, changed bool, err error) {
	if !l.state.Shared() {
		return loaded, false, nil
	}
	inUse, err := l.state.RuleSet(ctx, s.Name)
	if err != nil || inUse.Number == loaded.number {
		return loaded, false, err
	}
	if set, err = l.fromState(ctx, loaded, inUse); err != nil {
		return nil, false, err
	}
	l.log.InfoContext(ctx, "another replica has posted other packs", "sweep", s.Name, "packs", len(set.packs))
	return set, true, l.use(ctx, s, set, loaded)
}

// fromState returns the set with the packs that the state names.
func (l *ruleLoader) fromState(ctx context.Context, loaded *ruleSet, inUse state.RuleSet) (*ruleSet, error) {
	set := &ruleSet{fingerprint: loaded.fingerprint, number: inUse.Number}
	for _, digest := range inUse.Packs {
		stored, err := l.state.Pack(ctx, digest)
		if err != nil {
			return nil, err
		}
		pack, err := rules.Parse(stored.Path, stored.Content, l.options)
		if err != nil {
			set.problems = append(set.problems, strings.Split(err.Error(), "\n")...)
		}
		if pack != nil {
			set.packs = append(set.packs, pack)
		}
	}
	return set, nil
}

// use selects the rules of a set, keeps the last good versions of refused ones, and makes it that of the sweep.
func (l *ruleLoader) use(ctx context.Context, s *Sweep, set, before *ruleSet) (err error) {
	for _, pack := range set.packs {
		selected, err := s.selected(pack.Rules)
		if err != nil {
			return fmt.Errorf("sweep %s: %w", s.Name, err)
		}
		set.rules = append(set.rules, selected...)
	}
	if len(set.problems) > 0 {
		if before == nil {
			if before, err = l.stored(ctx, s); err != nil {
				return err
			}
		}
		set.keep(before)
	}
	for _, problem := range set.problems {
		l.log.ErrorContext(ctx, "rule refused", "sweep", s.Name, "problem", problem)
	}
	if len(set.rules) == 0 && len(set.problems) == 0 && s.Select != nil {
		return fmt.Errorf("sweep %s: select %q matches no rule in %s", s.Name, s.Select, strings.Join(s.Packs, ", "))
	}
	if len(set.rules) == 0 {
		return fmt.Errorf("sweep %s: no usable rule in %s: %w", s.Name, strings.Join(s.Packs, ", "), errors.New(strings.Join(set.problems, "; ")))
	}
	l.sets[s.Name] = set
	return nil
}

// problems returns the mistakes in the packs of a sweep that was loaded, one line each.
func (l *ruleLoader) problems(sweep string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sets[sweep].problems
}

// keep adds the last good versions of refused rules, and the packs whose files exist but cannot be used.
func (s *ruleSet) keep(before *ruleSet) {
	for _, pack := range slices.Clone(s.packs) {
		for _, id := range pack.Refused {
			if r := before.rule(pack.Name, id); r != nil {
				s.rules = append(s.rules, r)
			}
		}
	}
	for _, old := range before.packs {
		if slices.ContainsFunc(s.packs, func(p *rules.Pack) bool { return p.Path == old.Path || p.Name == old.Name }) {
			continue
		}
		if _, err := os.Stat(old.Path); errors.Is(err, fs.ErrNotExist) {
			continue // removed
		}
		s.packs = append(s.packs, old)
		for _, r := range before.rules {
			if r.Pack.Name == old.Name {
				s.rules = append(s.rules, r)
			}
		}
	}
}

// stored returns the rules of the packs in the state that were loaded from the sweep's files or folders, as far as they
// are valid.
func (l *ruleLoader) stored(ctx context.Context, s *Sweep) (*ruleSet, error) {
	packs, err := l.state.Packs(ctx)
	if err != nil {
		return nil, err
	}
	set := &ruleSet{}
	for _, p := range packs {
		if !slices.ContainsFunc(s.Packs, func(path string) bool { return p.Path == path || strings.HasPrefix(p.Path, path+"/") }) {
			continue
		}
		pack, err := rules.Parse(p.Path, p.Content, l.options)
		if pack == nil {
			l.log.DebugContext(ctx, "stored pack cannot be used", "pack", p.Name, "digest", p.Digest, "error", err)
			continue
		}
		// The state has several versions, the latest first. The last good version of a rule may be in an older one.
		latest := pack
		if i := slices.IndexFunc(set.packs, func(known *rules.Pack) bool { return known.Name == pack.Name }); i >= 0 {
			latest = set.packs[i]
		} else {
			set.packs = append(set.packs, pack)
		}
		selected, err := s.selected(pack.Rules)
		if err != nil {
			return nil, fmt.Errorf("sweep %s: %w", s.Name, err)
		}
		for _, r := range selected {
			if (latest == pack || slices.Contains(latest.Refused, r.ID)) && set.rule(pack.Name, r.ID) == nil {
				set.rules = append(set.rules, r)
			}
		}
	}
	return set, nil
}
