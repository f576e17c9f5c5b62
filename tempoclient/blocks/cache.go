package blocks

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/betracehq/betrace/trace"
)

// cache keeps data of listed blocks between the listings and readings of a store. Data of a block is valid
// as long as its objects are listed with the same size and modification time. A nil cache keeps nothing.
//
// The contents of meta.json and the times are kept for all listed blocks, whose number each listing bounds.
// Footers, trace IDs and keys are kept for the most recently used blocks.
type cache struct {
	mu sync.Mutex
	// bytes is the approximate memory of the footers, trace IDs and keys, up to maxBytes.
	bytes, maxBytes int64
	// kept counts the blocks with a footer, uses counts all uses of them.
	kept    int
	uses    int64
	tenants map[string]map[string]*cachedBlock // by ID
	// columns are distinct lists of dedicated columns, of which a tenant's blocks have one or two.
	columns [][]DedicatedColumn
}

// cachedBlock is the kept data of a block.
type cachedBlock struct {
	// meta is the content of the meta.json that metaAt identifies.
	meta   Meta
	metaAt stamp
	// times and contents are from the data.parquet that dataAt identifies.
	dataAt   stamp
	times    *BlockTimes // nil: unknown
	contents contents    // without a footer: not kept
	bytes    int64       // of contents
	used     int64       // the number of their last use, or 0
}

// Cache makes the store keep data of listed blocks in memory: the contents of meta.json, footers, and trace
// IDs. Then a listing reads only each meta.json that was not listed before, and a reading opens only blocks
// that were not opened before, or not used for a long time. maxBytes bounds the approximate memory of footers
// and trace IDs; a reading may need as much again for the blocks that it reads. Cache must be called before
// the store is used.
func (s *Store) Cache(maxBytes int64) {
	s.cache = &cache{maxBytes: maxBytes, tenants: map[string]map[string]*cachedBlock{}}
}

// CacheSize returns the number of blocks whose footer is kept, and the approximate memory of the footers and
// trace IDs.
func (s *Store) CacheSize() (blocks int, bytes int64) {
	if s.cache == nil {
		return 0, 0
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	return s.cache.kept, s.cache.bytes
}

// meta returns the content of a listed meta.json.
func (c *cache) meta(tenant, id string, set objectSet) (Meta, bool) {
	if c == nil {
		return Meta{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.tenants[tenant][id]
	if b == nil || b.metaAt != set.meta {
		return Meta{}, false
	}
	return b.meta, true
}

// keepMeta keeps the content of a listed meta.json.
func (c *cache) keepMeta(tenant string, m Meta, set objectSet) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenants[tenant] == nil {
		c.tenants[tenant] = map[string]*cachedBlock{}
	}
	b := c.tenants[tenant][m.ID]
	if b == nil {
		b = &cachedBlock{}
		c.tenants[tenant][m.ID] = b
	}
	if m.Tenant == tenant {
		m.Tenant = tenant // so that the string is stored once
	}
	m.DedicatedColumns = c.sameColumns(m.DedicatedColumns)
	b.meta, b.metaAt = m, set.meta
}

// mostColumns bounds the number of distinct lists of dedicated columns that are compared.
const mostColumns = 100

// sameColumns returns a stored list that is equal to the columns.
func (c *cache) sameColumns(columns []DedicatedColumn) []DedicatedColumn {
	if i := slices.IndexFunc(c.columns, func(known []DedicatedColumn) bool {
		return slices.EqualFunc(known, columns, DedicatedColumn.equal)
	}); i >= 0 {
		return c.columns[i]
	}
	if len(c.columns) < mostColumns {
		c.columns = append(c.columns, columns)
	}
	return columns
}

// retain removes the data of the tenant's blocks that are not listed.
func (c *cache) retain(tenant string, listed map[string]objectSet) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, b := range c.tenants[tenant] {
		if _, ok := listed[id]; !ok {
			c.drop(b)
			delete(c.tenants[tenant], id)
		}
	}
	if len(c.tenants[tenant]) == 0 {
		delete(c.tenants, tenant)
	}
}

// retainTenants removes the data of the tenants that are not listed.
func (c *cache) retainTenants(listed []string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for tenant, blocks := range c.tenants {
		if slices.Contains(listed, tenant) {
			continue
		}
		for _, b := range blocks {
			c.drop(b)
		}
		delete(c.tenants, tenant)
	}
}

// timesOf returns the times of a block if they are known.
func (c *cache) timesOf(m Meta) (BlockTimes, bool) {
	if c == nil {
		return BlockTimes{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.tenants[m.Tenant][m.ID]
	if b == nil || b.times == nil || b.dataAt != m.data {
		return BlockTimes{}, false
	}
	return *b.times, true
}

// contentsOf returns the kept contents of a block, which may be empty.
func (c *cache) contentsOf(m Meta) contents {
	if c == nil {
		return contents{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.tenants[m.Tenant][m.ID]
	if b == nil || b.used == 0 || b.dataAt != m.data {
		return contents{}
	}
	c.uses++
	b.used = c.uses
	return b.contents
}

// keep keeps the contents of a block if it is listed.
func (c *cache) keep(m Meta, in contents) {
	if c == nil || m.data == (stamp{}) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.tenants[m.Tenant][m.ID]
	if b == nil {
		return
	}
	c.drop(b)
	times := in.blockTimes()
	b.dataAt, b.times = m.data, &times
	b.contents, b.bytes = in, in.memory()
	c.uses++
	b.used = c.uses
	c.kept++
	if c.bytes += b.bytes; c.bytes > c.maxBytes {
		c.evict()
	}
}

// evict drops the contents that were not used for the longest time, until there is room for several blocks.
func (c *cache) evict() {
	var kept []*cachedBlock
	for _, blocks := range c.tenants {
		for _, b := range blocks {
			if b.used > 0 {
				kept = append(kept, b)
			}
		}
	}
	slices.SortFunc(kept, func(a, b *cachedBlock) int { return cmp.Compare(a.used, b.used) })
	for _, b := range kept {
		if c.bytes <= c.maxBytes-c.maxBytes/8 {
			return
		}
		c.drop(b)
	}
}

// hasRoom reports whether a reading may hold the trace IDs of so many more rows. held is the memory of those
// that it holds.
func (c *cache) hasRoom(held *atomic.Int64, rows int64) bool {
	if c == nil {
		return false
	}
	bytes := rows * int64(len(trace.ID{}))
	if bytes > c.maxBytes/8 {
		return false // there would be room for few other blocks
	}
	if held.Add(bytes) <= c.maxBytes/2 {
		return true
	}
	held.Add(-bytes)
	return false
}

// drop removes the contents of a block.
func (c *cache) drop(b *cachedBlock) {
	if b.used == 0 {
		return
	}
	c.kept--
	c.bytes -= b.bytes
	b.contents, b.bytes, b.used = contents{}, 0, 0
}
