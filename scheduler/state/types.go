// Package state is the database of the service: ledgers, coverage, violations, deliveries and signed entries.
//
// One transaction commits a piece of work. The default database is SQLite, in one file. The other one is PostgreSQL, which
// several processes may use.
package state

import (
	"time"

	"github.com/betracehq/betrace/evidence"
	"github.com/betracehq/betrace/trace"
)

// Entry is a signed entry of a tenant's log.
type Entry struct {
	Tenant string
	// Number counts the entries of the tenant, from 1.
	Number int64
	Kind   string
	Time   time.Time
	// Digest is the SHA-256 of the envelope, in hexadecimal. Previous is that of the entry before, or empty.
	Digest, Previous string
	Envelope         []byte
}

// Key is a signing key that the state knows, without its private part.
type Key struct {
	ID string
	// PEM is the public key.
	PEM string
	// Retired is zero for the key that signs.
	Added, Retired time.Time
}

// Ledger records which blocks of a tenant in one storage were judged by the sweeps of one schedule.
type Ledger struct {
	ID                       int64
	Tenant, Source, Schedule string
	// Begins is the start of coverage: blocks with older data only are not judged.
	Begins time.Time
	// Watermark is the end of the last window of trace start that was judged completely, apart from holes.
	Watermark time.Time
	// Frontier is the latest time in the judged blocks, at most the time of their judgement. A rule that is loaded
	// later covers the traces that start from here on.
	Frontier time.Time
	// Listings counts the stable listings. ListedAt is the start of the last one, Created of the first one.
	Listings int64
	ListedAt time.Time
	Created  time.Time
}

// BlockState is the state of a block in a ledger.
type BlockState string

const (
	// BlockWaiting has spans that may not have been judged.
	BlockWaiting BlockState = "waiting"
	// BlockPending may have been written by a compaction of judged blocks, which are not yet marked as compacted.
	BlockPending BlockState = "pending"
	// BlockJudged has only spans that were judged.
	BlockJudged BlockState = "judged"
	// BlockBefore has only data from before the beginning of the ledger, or data that was skipped after missed ticks. Then
	// a hole has its range, and Reason is that of the hole.
	BlockBefore BlockState = "before"
	// BlockAside could not be read several times. It is waiting again once it can be read.
	BlockAside BlockState = "aside"
	// BlockReplaced was compacted before it was judged. The block with its spans has not been judged either.
	BlockReplaced BlockState = "replaced"
)

// Block is the state of one listed block in a ledger.
type Block struct {
	ID    string
	State BlockState
	Level int
	// Start and End are the times in meta.json, which may reflect arrival times.
	Start, End time.Time
	// Earliest and Latest bound the times of its spans. They are zero if they are unknown.
	Earliest, Latest time.Time
	Traces           int
	Bytes            int64
	// FirstListed is the start of the first listing that contained it. Written is the time at which the storage
	// received it, or zero if the storage does not report it.
	FirstListed, Written time.Time
	// Compacted reports that a listing since CompactedAt shows it as compacted.
	Compacted   bool
	CompactedAt time.Time
	// Failures counts the ticks that could not read it since it was last read, and Reason is the last error.
	Failures int
	Reason   string
	// Entry is the number of the entry about its judgement. It is 0 if compaction wrote it from judged blocks.
	Entry int64
}

// SweepState is the state of a sweep of one tenant.
type SweepState struct {
	Sweep, Tenant string
	Ledger        int64
	// LastTick is the scheduled time of the last tick, LastRun the time at which it ended.
	LastTick, LastRun time.Time
	// LastError is the error of the last tick, or empty. LastErrorAt is the time of the last failed tick.
	LastError   string
	LastErrorAt time.Time
	Ticks       int64
	Missed      int64
	Paused      bool
	// HasData reports whether the last listing found a block of the tenant.
	HasData bool
}

// LoadedRule is a version of a rule that judges the blocks of a ledger.
type LoadedRule struct {
	Ledger             int64
	Pack, Rule, Digest string
	Title, Severity    string
	// Begins is the time of trace start from which the rule covers traces.
	Begins time.Time
	// SinceEntry is the number of the first entry with its verdicts.
	SinceEntry int64
	// Ended is the time at which the rule was replaced or removed, or zero.
	Ended time.Time
}

// Hole is a range of trace starts that was not judged completely, by one rule or by all.
type Hole struct {
	ID     int64
	Ledger int64
	// Pack, Rule and Digest are empty if the hole concerns every rule.
	Pack, Rule, Digest string
	From, To           time.Time
	// Reason is one of the reasons of docs/service.md, as "expired" or "error". Subject names the block or the trace.
	Reason, Subject string
	Entry           int64
	// ClosedEntry is the number of the entry that closed the hole, or 0.
	ClosedEntry int64
}

// Statuses of a violation.
const (
	StatusOpen      = "open"
	StatusWithdrawn = "withdrawn"
)

// Violation is a violation with its present state.
type Violation struct {
	evidence.Violation
	Ledger int64
	// Spans is the number of spans of the trace in the judgement that counts.
	Spans int
	// Status is [StatusOpen] or [StatusWithdrawn].
	Status string
	// EntryNumber is the number of the entry that first found it, Ordinal its place among the violations of that entry.
	EntryNumber int64
	Ordinal     int
	// Line is its record, as it is filed.
	Line []byte
	// Sequence is the number of its corrections.
	Sequence int
}

// Correction is a change of the status of a violation.
type Correction struct {
	evidence.Correction
	EntryNumber int64
	Ordinal     int
	// Line is its record, as it is filed.
	Line []byte
}

// ViolationFilter selects violations. Zero fields select all.
type ViolationFilter struct {
	Tenant, Pack, Rule, Severity, Service, Origin, Status string
	// From and To bound the start of the trace: From is inclusive, To is exclusive.
	From, To time.Time
	TraceID  trace.ID
	Limit    int
	// After is the ID of the last violation of the page before.
	After string
}

// Delivery is the part of an entry that one sink still has to receive, or to confirm.
type Delivery struct {
	Tenant string
	Entry  int64
	Sink   string
	Items  int
	// State is one of the delivery states.
	State string
	Tries int
	// NextAt is the time of the next attempt. SentAt is the time at which it was last sent.
	NextAt, SentAt time.Time
	// RefileAt, if not zero, replaces the filing times, because the sink refused them as too old.
	RefileAt time.Time
	Created  time.Time
	Error    string
}

// States of a delivery.
const (
	DeliveryNew     = "new"     // never sent, so the sink is not searched before sending
	DeliverySending = "sending" // an attempt was begun, so the sink may have a part
	DeliverySent    = "sent"    // sent, and to be read back
)

// Refused is an item that a sink refuses for good.
type Refused struct {
	Tenant, Sink, Kind, ID string
	Entry                  int64
	Reason                 string
	At                     time.Time
}

// Pack is the content of a rule pack that was loaded.
type Pack struct {
	Digest, Name, Version, Path string
	Content                     []byte
	LoadedAt                    time.Time
}

// OutboxDepth is the backlog of a sink.
type OutboxDepth struct {
	Deliveries, Items int
	Oldest            time.Time
}
