package blocks

import (
	"fmt"
	"sync"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// dictionary contains the words of a column's part of a row group. It is immutable.
type dictionary struct {
	bytes []byte
	ends  []uint32 // word i is bytes[ends[i]:ends[i+1]]
}

// len returns the number of words.
func (d *dictionary) len() int { return max(len(d.ends)-1, 0) }

// memory returns the memory of the words.
func (d *dictionary) memory() int64 { return int64(cap(d.bytes) + 4*cap(d.ends)) }

// word returns word i.
func (d *dictionary) word(i int32) []byte { return d.bytes[d.ends[i]:d.ends[i+1]] }

// has reports whether a string is one of the words.
func (d *dictionary) has(text string) bool {
	for i := range d.len() {
		if string(d.word(int32(i))) == text {
			return true
		}
	}
	return false
}

// dictionaries are the kept dictionaries of a block. They are kept because each range reads them.
type dictionaries struct {
	mu   sync.Mutex
	kept map[dictionaryKey]*dictionary
}

type dictionaryKey struct{ group, column int }

// words returns a column's dictionary, or nil unless all its pages consist of its words.
func (l leaf) words(s *segment) (*dictionary, error) {
	c := s.chunk(l)
	if !c.onlyWords {
		return nil, nil
	}
	return l.dictionary(s.b, s.group, s.in, c)
}

// dictionary returns a column's dictionary, and reads it unless it is kept.
func (l leaf) dictionary(b *block, group int, in *pageReader, c *chunk) (*dictionary, error) {
	if d := b.keptDictionary(group, l); d != nil {
		return d, nil
	}
	raw, err := in.read(&in.words, c.begin, c.data)
	if err != nil {
		return nil, err
	}
	header, body, _, err := in.next(raw)
	if err != nil {
		return nil, fmt.Errorf("its dictionary: %w", err)
	}
	return l.decodeDictionary(b, group, in, c, header, body)
}

func (b *block) keptDictionary(group int, l leaf) *dictionary {
	b.dictionaries.mu.Lock()
	defer b.dictionaries.mu.Unlock()
	return b.dictionaries.kept[dictionaryKey{group, l.index}]
}

// mostKeys is the largest dictionary of keys that is kept in the cache. Most have a few kilobytes.
const mostKeys = 64 << 10

// keepKeys adds the dictionaries of keys to the block's contents.
func (b *block) keepKeys() {
	b.dictionaries.mu.Lock()
	defer b.dictionaries.mu.Unlock()
	b.keys = map[dictionaryKey]*dictionary{}
	for _, s := range attributeScopes {
		l, ok := b.cols[s.path+"Attrs.Key"]
		if !ok {
			continue
		}
		for g := range b.chunks {
			key := dictionaryKey{g, l.index}
			if d := b.dictionaries.kept[key]; d != nil && d.memory() <= mostKeys {
				b.keys[key] = d
			}
		}
	}
}

// decodeDictionary decodes a dictionary page, and keeps it if there is room.
func (l leaf) decodeDictionary(b *block, group int, in *pageReader, c *chunk, header *format.PageHeader, body []byte) (*dictionary, error) {
	if header.Type != format.DictionaryPage || !header.DictionaryPageHeader.Valid {
		return nil, fmt.Errorf("its first page has the type %s instead of a dictionary", header.Type)
	}
	if l.kind != parquet.ByteArray {
		return nil, fmt.Errorf("values of the type %s in a dictionary are not supported", l.kind)
	}
	data, err := in.decompress(c.codec, body, int(header.UncompressedPageSize))
	if err != nil {
		return nil, fmt.Errorf("its dictionary: %w", err)
	}
	n := int(header.DictionaryPageHeader.V.NumValues)
	d := &dictionary{}
	if d.bytes, d.ends, err = parquet.Plain.DecodeByteArray(make([]byte, 0, len(data)), data, make([]uint32, 0, min(n, len(data)/4)+1)); err != nil {
		return nil, fmt.Errorf("its dictionary: %w", err)
	}
	if d.len() != n {
		return nil, fmt.Errorf("its dictionary has %d words, but must have %d", d.len(), n)
	}
	size := d.memory()
	if b.object.stats.words.Add(size) > b.object.stats.mostWords {
		b.object.stats.words.Add(-size)
		return d, nil
	}
	b.dictionaries.mu.Lock()
	defer b.dictionaries.mu.Unlock()
	key := dictionaryKey{group, l.index}
	if kept := b.dictionaries.kept[key]; kept != nil { // another goroutine was faster
		b.object.stats.words.Add(-size)
		return kept, nil
	}
	if b.dictionaries.kept == nil {
		b.dictionaries.kept = map[dictionaryKey]*dictionary{}
	}
	b.dictionaries.kept[key] = d
	return d, nil
}
