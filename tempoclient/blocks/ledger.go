package blocks

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// CompactedRetention is Tempo's default time for which compacted blocks are kept
// (compactor.compaction.compacted_block_retention).
const CompactedRetention = time.Hour

// Ledger records which of a tenant's blocks were judged. It ensures that each span is judged, and that a
// block written by a compaction is not read only for spans that were judged before. The zero Ledger
// contains no block.
//
// A caller lists the blocks, calls [Ledger.Next] with the listing, reads the blocks of [Ledger.New] (with
// [Request].Listing and [Request].Judged), and calls [Ledger.Judge] with the report. After a reading with
// problems the blocks stay new and are judged again. After a reading that ended with an error the caller
// does not call Judge, and keeps the result of Next.
//
// Ledgers are values: the result of a method shares no memory with its receiver. They are stored as JSON,
// and contain only the blocks of the last listing.
// kept as JSON, and know of no blocks but those of the last listing.
//
//	            first seen                      Judge
//	level 0, or ─────────────────────▶ new ────────────────▶ judged
//	a source was not judged             ▲                       ▲
//	                    a source is     │                       │
//	                    compacted and   │                       │
//	            first   was not judged  │     the sources were  │
//	otherwise ───────────────────────▶ implied ─────────────────┘
type Ledger struct {
	// Listings counts the listings passed to Next. ListedAt is the start of the last listing during which
	// no block was compacted.
	Listings int       `json:"listings"`
	ListedAt time.Time `json:"listedAt"`
	// Blocks are the blocks of the last listing, by ID: live blocks, and compacted ones that are not yet
	// deleted.
	Blocks map[string]LedgerBlock `json:"blocks"`
}

// LedgerBlock is the state of a block.
type LedgerBlock struct {
	State BlockState `json:"state"`
	// Since is the number of the listing in which it was first seen.
	Since int `json:"since"`
	// Compacted reports that the block is no longer read.
	Compacted bool `json:"compacted,omitempty"`
}

// BlockState reports whether a block contains new spans.
type BlockState string

const (
	// BlockNew may contain spans that were not judged.
	BlockNew BlockState = "new"
	// BlockImplied contains only spans that are in a judged block, or in a new one that is live and was
	// not seen later.
	BlockImplied BlockState = "implied"
	// BlockJudged contains only spans that were judged.
	BlockJudged BlockState = "judged"
)

// Next returns the ledger after a listing. A block written by a compaction is implied by its sources,
// unless one of them may not have been judged: a known block that was not judged, or a block that was
// written and deleted since the last listing. The sources are unknown, so all removed blocks are
// considered. retention is at most the time for which Tempo keeps compacted blocks; if 0, it is
// [CompactedRetention]. If more time has passed without a listing, blocks may have been deleted that no
// listing contained.
func (l Ledger) Next(listing Listing, retention time.Duration) Ledger {
	next := Ledger{Listings: l.Listings + 1, ListedAt: listing.Began, Blocks: map[string]LedgerBlock{}}
	if listing.Unstable {
		// The listing may lack blocks, so blocks are only added, and no conclusions are drawn from it.
		next.ListedAt = l.ListedAt
		maps.Copy(next.Blocks, l.Blocks)
		for _, id := range listing.present() {
			if _, known := next.Blocks[id]; !known {
				next.Blocks[id] = LedgerBlock{State: BlockNew, Since: next.Listings}
			}
		}
		return next
	}

	// lost: any block that a compaction wrote since may contain spans that were not judged.
	lost := l.ListedAt.IsZero() || listing.Ended.Sub(l.ListedAt) >= cmp.Or(retention, CompactedRetention)
	for _, id := range listing.Compacted {
		b, known := l.Blocks[id]
		if !known {
			b = LedgerBlock{State: BlockNew, Since: next.Listings}
			lost = true
		}
		b.Compacted = true
		next.Blocks[id] = b
	}
	present := listing.present()
	for _, id := range present {
		if b, known := l.Blocks[id]; known {
			next.Blocks[id] = b
		}
	}
	// gone is the least number of a listing whose implied blocks lost a block that implies them.
	gone := next.Listings
	for id, b := range l.Blocks {
		if now, there := next.Blocks[id]; b.State == BlockNew && !b.Compacted && (!there || now.Compacted) {
			lost = true
			gone = min(gone, b.Since)
		}
	}
	for id, b := range next.Blocks {
		if b.State == BlockImplied && b.Since >= gone {
			b.State = BlockNew
			next.Blocks[id] = b
		}
	}
	level := map[string]int{} // unknown and 0 for unread blocks
	for _, m := range listing.Live {
		level[m.ID] = m.CompactionLevel
	}
	for _, id := range present {
		if _, known := next.Blocks[id]; known {
			continue
		}
		b := LedgerBlock{State: BlockNew, Since: next.Listings}
		if level[id] > 0 && !lost {
			b.State = BlockImplied
		}
		next.Blocks[id] = b
	}
	next.conclude()
	return next
}

// present returns the IDs of all blocks that are not compacted.
func (l *Listing) present() []string {
	ids := slices.Clone(l.Unread)
	for _, m := range l.Live {
		ids = append(ids, m.ID)
	}
	return ids
}

// New returns the sorted IDs of the live blocks with new spans.
func (l Ledger) New() []string {
	var ids []string
	for id, b := range l.Blocks {
		if b.State == BlockNew && !b.Compacted {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Judged reports whether a block contains no new spans, or only new spans that are in a new block, too.
// It is meant for [Request].Judged.
func (l Ledger) Judged(id string) bool {
	b, known := l.Blocks[id]
	return known && b.State != BlockNew
}

// Judge records that all spans of the blocks were judged, by a reading that ended without an error. It
// records only what the report supports: no block that was not read, and no block at all if there was a
// problem or a trace outside the range.
func (l Ledger) Judge(report Report, ids ...string) Ledger {
	next := l
	next.Blocks = maps.Clone(l.Blocks)
	if len(report.Problems) > 0 || report.OutsideRange > 0 {
		return next
	}
	for _, m := range report.Blocks {
		if b, known := next.Blocks[m.ID]; known && slices.Contains(ids, m.ID) {
			b.State = BlockJudged
			next.Blocks[m.ID] = b
		}
	}
	next.conclude()
	return next
}

// conclude finds the implied blocks whose sources were all judged.
func (l *Ledger) conclude() {
	oldest := l.Listings + 1 // of the new blocks
	for _, b := range l.Blocks {
		if b.State == BlockNew && !b.Compacted {
			oldest = min(oldest, b.Since)
		}
	}
	for id, b := range l.Blocks {
		if b.State == BlockImplied && b.Since < oldest {
			b.State = BlockJudged
			l.Blocks[id] = b
		}
	}
}
