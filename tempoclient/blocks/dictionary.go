package blocks

import (
	"fmt"
	"sync"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// dictionary are the words of a column's part of a row group. It is not changed.
type dictionary struct {
	bytes []byte
	ends  []uint32 // word i is bytes[ends[i]:ends[i+1]]
}

// len returns how many words there are.
func (d *dictionary) len() int { return max(len(d.ends)-1, 0) }

// word returns word i.
func (d *dictionary) word(i int32) []byte { return d.bytes[d.ends[i]:d.ends[i+1]] }

// has says whether a text is one of the words.
func (d *dictionary) has(text string) bool {
	for i := range d.len() {
		if string(d.word(int32(i))) == text {
			return true
		}
	}
	return false
}

// dictionaries are those of a block that are kept, since each range reads them.
type dictionaries struct {
	mu   sync.Mutex
	kept map[dictionaryKey]*dictionary
}

type dictionaryKey struct{ group, column int }

// words returns a column's dictionary, nil unless all its pages are made of it.
func (l leaf) words(s *segment) (*dictionary, error) {
	c := s.chunk(l)
	if !c.onlyWords {
		return nil, nil
	}
	return l.dictionary(s.b, s.group, s.in, c)
}

// dictionary returns a column's dictionary, which it reads if it is not kept.
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

// decodeDictionary decodes a dictionary's page, and keeps it while there is room.
func (l leaf) decodeDictionary(b *block, group int, in *pageReader, c *chunk, header *format.PageHeader, body []byte) (*dictionary, error) {
	if header.Type != format.DictionaryPage || !header.DictionaryPageHeader.Valid {
		return nil, fmt.Errorf("a page of the type %s stands where its dictionary should", header.Type)
	}
	if l.kind != parquet.ByteArray {
		return nil, fmt.Errorf("values of the type %s in a dictionary are not read", l.kind)
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
		return nil, fmt.Errorf("its dictionary has %d words, and should have %d", d.len(), n)
	}
	size := int64(cap(d.bytes) + 4*cap(d.ends))
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
