package sink

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/betracehq/betrace/evidence"
)

// The kinds of items.
const (
	KindViolation  = "violation"
	KindCorrection = "correction"
	KindStatement  = "statement"
)

// Item is a part of an entry that is filed: one of a violation, a correction and the entry's own envelope.
type Item struct {
	Kind string
	// ID is unique among the items of its kind.
	ID         string
	Violation  *evidence.Violation
	Correction *evidence.Correction
	Statement  *Statement
	// Line is the record of a violation or correction as it was committed. If it is nil, it is made anew.
	Line []byte
	// FiledAt is the time under which the item is filed, regardless of the time in the violation or correction. Within
	// an entry the times differ by a nanosecond at least, because a sink may return its items in pages by time.
	FiledAt time.Time
}

// Statement is an entry's envelope, with the data that is filed beside it.
type Statement struct {
	// Entry is the name of the entry.
	Entry, Kind string
	Sweeps      []string
	Envelope    []byte
}

// EntrySink stores the items of entries. [Tempo] and [Loki] are such sinks.
type EntrySink interface {
	// Name returns the name of the sink in reports and errors.
	Name() string
	// Takes reports whether the sink stores items of a kind.
	Takes(kind string) bool
	// Send sends the items. A nil error does not prove that they are stored. An error may contain a [*RefusedError]
	// and a [*TooOldError]. Items that neither concerns may be stored despite the error, so that the items are
	// searched before they are sent again.
	Send(ctx context.Context, items []Item) error
	// Held returns the IDs of those items of an entry that the sink has. It finds them with one search, or a few for
	// thousands of items.
	// It searches from the oldest filing time of the items until now. After filing times were
	// moved, the items need their first ones, because some may be stored under these.
	Held(ctx context.Context, entry string, items []Item) (map[string]bool, error)
}

// RefusedError reports items that a sink will never store.
type RefusedError struct {
	Sink string
	// Reasons holds the sink's reason by the ID of the item.
	Reasons map[string]string
}

// Error returns the number of the items, and the reason for the first.
func (e *RefusedError) Error() string {
	first := slices.Min(slices.Collect(maps.Keys(e.Reasons)))
	return fmt.Sprintf("%s refused %d records for good, the first is %s: %s", e.Sink, len(e.Reasons), first, e.Reasons[first])
}

// TooOldError reports that a sink refuses a filing time, because it is too old in itself or for its stream. A later
// filing time is needed for the items that the sink does not hold.
type TooOldError struct{ Reason string }

// Error returns the reason of the sink.
func (e *TooOldError) Error() string { return e.Reason + ": check this machine's clock" }
