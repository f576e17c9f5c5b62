package blocks

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// CompactedRetention is how long Tempo keeps compacted blocks if it is not told
// otherwise (compactor.compaction.compacted_block_retention).
const CompactedRetention = time.Hour

// Ledger knows which of a tenant's blocks were judged, so that each span is judged, and
// a block that compaction wrote is not read for what was judged before. The zero Ledger
// knows of none.
//
// A caller lists, has [Ledger.Next] take the listing in, reads what [Ledger.New] names
// (with [Request].Listing and [Request].Judged), and gives [Ledger.Judge] the report. After
// a reading with problems all that was new is new still, and what came of it comes again.
// After one that ended with an error Judge is not told; what Next returned is kept.
//
// Ledgers are values: what a method returns shares nothing with its receiver. They are
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
	// Listings counts those taken in; ListedAt is when the last began in which no block
	// was compacted meanwhile.
	Listings int       `json:"listings"`
	ListedAt time.Time `json:"listedAt"`
	// Blocks are those of the last listing, by ID: live, and compacted ones not deleted yet.
	Blocks map[string]LedgerBlock `json:"blocks"`
}

// LedgerBlock is what is known of a block.
type LedgerBlock struct {
	State BlockState `json:"state"`
	// Since is the number of the listing in which it was first seen.
	Since int `json:"since"`
	// Compacted: it is not read any more.
	Compacted bool `json:"compacted,omitempty"`
}

// BlockState says whether a block holds something new.
type BlockState string

const (
	// BlockNew may hold spans that were not judged.
	BlockNew BlockState = "new"
	// BlockImplied holds no span that is not in a judged block, or in a new one that is
	// live and was seen no later.
	BlockImplied BlockState = "implied"
	// BlockJudged holds no span that was not judged.
	BlockJudged BlockState = "judged"
)

// Next takes a listing in. What a compaction wrote is implied by its sources, unless one
// may not have been judged: one that is known and was not, or one that came and went
// since the last listing. Which those are is not known, so it is asked of all that went.
// Retention is how long Tempo keeps compacted blocks, or less (0: [CompactedRetention]):
// after a longer time without a listing, blocks may have gone that nobody saw.
func (l Ledger) Next(listing Listing, retention time.Duration) Ledger {
	next := Ledger{Listings: l.Listings + 1, ListedAt: listing.Began, Blocks: map[string]LedgerBlock{}}
	if listing.Unstable {
		// It may lack blocks, so it is not compared with: it only adds.
		next.ListedAt = l.ListedAt
		maps.Copy(next.Blocks, l.Blocks)
		for _, id := range listing.present() {
			if _, known := next.Blocks[id]; !known {
				next.Blocks[id] = LedgerBlock{State: BlockNew, Since: next.Listings}
			}
		}
		return next
	}

	// lost: spans that were not judged may be in any block that a compaction wrote since.
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
	// gone is the least listing whose implied blocks lost one that implies them.
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
	level := map[string]int{} // of those unread it is not known, and 0
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

// New returns the IDs of the live blocks that hold something new, sorted.
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

// Judged reports whether a block holds nothing new, or nothing that is not in a new
// block, too: it is what [Request].Judged asks for.
func (l Ledger) Judged(id string) bool {
	b, known := l.Blocks[id]
	return known && b.State != BlockNew
}

// Judge notes that all spans of the blocks were judged, by a reading that ended without an
// error. It notes no more than the report bears out: no block that was left unread, and
// none at all if there was a problem, or a trace outside the range.
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
	oldest := l.Listings + 1 // of what is new
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
