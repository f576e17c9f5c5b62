package blocks

import "github.com/betracehq/betrace/trace/columnar"

// texts reads a required string column into the rows of its elements. The empty string counts as absent.
func (f *filling) texts(s *segment, path string, to *columnar.TextColumn, rows []int32) error {
	f.codes.reset()
	return s.required(path, len(rows), func(p *page, at int) error {
		if p.dict == nil {
			for i := range len(p.ends) - 1 {
				if row, text := rows[at+i], p.text(i); row >= 0 && len(text) > 0 {
					to.Codes[row] = to.InternLikely(text)
				}
			}
			return nil
		}
		known := f.codes.of(p.dict)
		rows := rows[at : at+len(p.codes)]
		for i, word := range p.codes {
			row := rows[i]
			if row < 0 {
				continue
			}
			code := known[word]
			if code == 0 {
				code = f.codes.add(word, to, false)
			}
			to.Codes[row] = code - 1
		}
		return nil
	})
}

// translator converts the words of one dictionary to codes of one column.
type translator struct {
	dict  *dictionary
	codes []uint32 // by word: 1 + its code; 0 if it has not occurred
}

func (t *translator) reset() { t.dict = nil }

// manyWords is the size from which the words of a dictionary are not searched for among the words of
// other dictionaries. Most of them are rare then, and would not be found.
const manyWords = 4096

func (t *translator) of(dict *dictionary) []uint32 {
	if t.dict != dict {
		t.dict = dict
		t.codes = sized(t.codes, dict.len())
		clear(t.codes)
	}
	return t.codes
}

// add adds a word to the column. The empty word gets code 0 if it counts as absent.
func (t *translator) add(word int32, to *columnar.TextColumn, emptyToo bool) uint32 {
	text := t.dict.word(word)
	code := uint32(0)
	switch {
	case len(text) == 0 && !emptyToo:
	case len(t.codes) > manyWords:
		code = to.Add(text)
	default:
		code = to.Intern(text)
	}
	t.codes[word] = code + 1
	return code + 1
}

// scopes reads the names and versions of instrumentation scopes.
func (f *filling) scopes(s *segment, place []int32) error {
	for _, c := range []struct {
		path string
		to   *columnar.TextColumn
	}{{pathScope + "Name", &f.batch.Scopes}, {pathScope + "Version", &f.batch.ScopeVersions}} {
		codes := make([]uint32, len(s.scope))
		one := columnar.TextColumn{Codes: codes}
		rows := make([]int32, len(s.scope))
		for i := range rows {
			rows[i] = int32(i)
		}
		if err := f.texts(s, c.path, &one, rows); err != nil {
			return err
		}
		known := make([]uint32, one.NumTexts()+1)
		for scope, code := range codes {
			if code == 0 {
				continue
			}
			if known[code] == 0 {
				known[code] = c.to.Intern(one.Bytes(code))
			}
			from, to := s.of(s.scope, scope)
			for _, row := range place[from:to] {
				if row >= 0 {
					c.to.Codes[row] = known[code]
				}
			}
		}
	}
	return nil
}
