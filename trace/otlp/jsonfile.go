package otlp

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/betracehq/betrace/trace/wire"
)

// maxObjectBytes limits the memory for one JSON object. Tests lower it.
var maxObjectBytes = maxMessageBytes

// window is the part of the input that is in memory: buf[from:to].
type window struct {
	r    io.Reader
	buf  []byte
	from int
	to   int
	eof  bool  // the end of the input was reached
	err  error // the error of r, unless io.EOF
	line int   // number of lines before from
}

// more reads at least n more bytes, or up to the end of the input. It returns false if no bytes were left.
func (w *window) more(n int) bool {
	if w.eof {
		return false
	}
	have := w.to - w.from
	if cap(w.buf)-w.to < n {
		buf := w.buf[:cap(w.buf)]
		if have+n > len(buf) {
			buf = make([]byte, max(have+n, 1<<18))
		}
		copy(buf, w.buf[w.from:w.to])
		w.buf, w.from, w.to = buf, 0, have
	}
	w.buf = w.buf[:cap(w.buf)]
	for end := w.to + n; w.to < end && !w.eof; {
		m, err := w.r.Read(w.buf[w.to:])
		w.to += m
		if err != nil {
			w.eof = true
			if !errors.Is(err, io.EOF) {
				w.err = err
			}
		}
	}
	return w.to-w.from > have
}

func (w *window) bytes() []byte { return w.buf[w.from:w.to] }

// advance skips n bytes.
func (w *window) advance(n int) {
	w.line += bytes.Count(w.buf[w.from:w.from+n], []byte{'\n'})
	w.from += n
}

// loadLine reads until the window holds a whole line, and returns the length of the line including its end.
// At the end of the input, or if the line is too long, it returns the number of bytes in the window.
func (w *window) loadLine() int {
	for searched := 0; ; {
		b := w.bytes()
		if i := bytes.IndexByte(b[searched:], '\n'); i >= 0 {
			return searched + i + 1
		}
		if searched = len(b); searched > maxObjectBytes || !w.more(max(1<<16, searched)) {
			return len(w.bytes())
		}
	}
}

// jsonFile reads the objects of a JSON file.
type jsonFile struct {
	f *fileReader
	window
	place string // the place of the length-prefixed message that holds the objects, or ""

	lists  int  // number of open lists
	comma  bool // a comma is required before the next object
	torn   bool // lines were skipped, so lists and commas are no longer checked
	lost   bool // no object was read since then: an object that is not OTLP may be a part of the malformed one
	begun  bool // the line has a byte other than white space
	indent int  // indentation of the line
}

func (f *fileReader) readJSON(r io.Reader) error {
	j := jsonFile{f: f, window: window{r: r}}
	return j.read()
}

// read reads objects up to the end of the input. It returns an error only if reading must stop.
func (j *jsonFile) read() error {
	for {
		c, ok := j.next()
		switch {
		case !ok && j.err != nil:
			return fmt.Errorf("%s: %w", j.at(0), unexpected(j.err))
		case !ok:
			if j.lists > 0 && !j.torn {
				j.f.report.unread(fmt.Errorf("%s: the input ends in the middle of a list", j.at(0)))
			}
			return nil
		case c == '{' && (!j.comma || j.lists == 0 || j.torn):
			if err := j.object(); err != nil {
				return err
			}
			j.comma = true
		case c == '[' && (!j.comma || j.lists == 0 || j.torn):
			j.lists++
			j.comma = false
			j.advance(1)
		case c == ',' && (j.comma && j.lists > 0 || j.torn):
			j.comma = false
			j.advance(1)
		case c == ']' && (j.lists > 0 || j.torn):
			j.lists--
			j.comma = true
			j.advance(1)
		case j.lost:
			j.skipLine(nil)
		default:
			j.skipLine(fmt.Errorf("%s: want an object of OTLP JSON, found %s", j.at(0), describeByte(j.bytes())))
		}
	}
}

// next returns the next byte that is not white space, without consuming it.
func (j *jsonFile) next() (c byte, ok bool) {
	for {
		for j.from < j.to {
			switch c := j.buf[j.from]; c {
			case '\n':
				j.line++
				j.indent, j.begun = 0, false
			case ' ', '\t':
				if !j.begun {
					j.indent++
				}
			case '\r':
			case utf8Mark[0]:
				j.more(len(utf8Mark) - 1)
				if !bytes.HasPrefix(j.bytes(), utf8Mark) {
					return c, true
				}
				j.from += len(utf8Mark) - 1
			default:
				j.begun = true
				return c, true
			}
			j.from++
		}
		if !j.more(1) {
			return 0, false
		}
	}
}

// at returns the place n bytes after the current position, for messages.
func (j *jsonFile) at(n int) string {
	line := fmt.Sprintf("line %d", j.line+1+bytes.Count(j.bytes()[:min(n, j.to-j.from)], []byte{'\n'}))
	if j.place != "" {
		return j.place + ": " + line
	}
	return line
}

// object reads the object at the current position.
func (j *jsonFile) object() error {
	j.loadLine()
	t := &j.f.json
	if other := j.decode(); t.err == nil {
		return j.add(other)
	}
	// The object spans several lines, or cannot be read. Find its end.
	var whole jsonLexer
	for {
		whole = jsonLexer{b: j.bytes()}
		whole.skip()
		if loaded := len(whole.b); !errors.Is(whole.err, errJSONCut) || loaded > maxObjectBytes || !j.more(max(1<<16, loaded)) {
			break
		}
	}
	if errors.Is(t.err, errJSONCut) && whole.err == nil {
		if other := j.decode(); t.err == nil {
			return j.add(other)
		}
	}
	if whole.err == nil {
		if no := new(notOTLPError); !j.lost || !errors.As(t.err, no) {
			j.f.report.unread(fmt.Errorf("%s: %w", j.at(t.at), t.err))
		}
		j.advance(whole.i)
		return nil
	}
	switch {
	case !errors.Is(whole.err, errJSONCut):
		j.skipLine(fmt.Errorf("%s: malformed JSON: %w", j.at(whole.at), whole.err))
	case j.err != nil:
		return fmt.Errorf("%s: %w", j.at(0), unexpected(j.err))
	case !j.eof:
		j.skipLine(fmt.Errorf("%s: an object has more than %d bytes: write smaller objects", j.at(0), maxObjectBytes))
	default:
		j.skipLine(fmt.Errorf("%s: the input ends in the middle of an object", j.at(0)))
	}
	return nil
}

// decode reads the object from the window and returns the number of objects of other signals in it.
func (j *jsonFile) decode() (otherSignals int) {
	t := &j.f.json
	t.jsonLexer = jsonLexer{b: j.bytes(), scratch: t.scratch}
	t.out, t.path, t.values, t.ignored = t.out[:0], t.path[:0], 0, nil
	return t.jsonObject()
}

// add passes the decoded object, which has been converted to protobuf, to the caller and skips it.
func (j *jsonFile) add(otherSignals int) error {
	report, b, end := &j.f.report, j.f.json.out, j.f.json.i
	report.OtherSignals += otherSignals
	if otherSignals > 0 && len(b) == 0 {
		j.advance(end)
		return nil
	}
	td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b)
	if err == nil {
		err = wire.CheckIDs(td)
	}
	if err != nil {
		report.unread(fmt.Errorf("%s: %w", j.at(0), err))
		j.advance(end)
		return nil
	}
	if err := j.f.add(td); err != nil {
		return fmt.Errorf("%s: %w", j.at(0), err)
	}
	report.Objects++
	report.ignore(j.f.json.ignored)
	j.lost = false
	j.advance(end)
	return nil
}

// skipLine counts a malformed part, unless it belongs to an object that has already been counted (then err is
// nil), and skips to the next line that may begin an object. Such a line begins with an object or a list and
// is not indented deeper than the current line. Parts of a malformed object are usually indented deeper;
// otherwise they are read only if they are complete ResourceSpans or more.
func (j *jsonFile) skipLine(err error) {
	if err != nil {
		j.f.report.unread(err)
	}
	j.torn, j.lost = true, true
	indent := j.indent
	for {
		j.advance(j.loadLine())
		j.indent, j.begun = 0, false
		if j.loadLine() == 0 {
			return
		}
		line := bytes.TrimPrefix(j.bytes(), utf8Mark)
		plain := bytes.TrimLeft(line, " \t")
		if len(plain) > 0 && (plain[0] == '{' || plain[0] == '[') && len(line)-len(plain) <= indent {
			return
		}
	}
}
