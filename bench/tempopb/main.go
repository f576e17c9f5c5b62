// Command tempopb unmarshals OTLP protobuf messages into Tempo's own structs; bench-read measures it. It
// is a program in a module of its own, like the servers of deploy/stack, because pkg/tempopb links code
// under the AGPL, see docs/adr/0002.
//
// Its argument is a file of messages, each preceded by its length in four bytes, big-endian. For each
// line on standard input, which is a number of rounds, it unmarshals all messages that many times on all
// its cores, and prints the number of spans.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/grafana/tempo/pkg/tempopb"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "tempopb:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: tempopb FILE")
	}
	messages, err := read(os.Args[1])
	if err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		rounds, err := strconv.Atoi(in.Text())
		if err != nil {
			return err
		}
		spans, err := unmarshal(messages, rounds)
		if err != nil {
			return err
		}
		fmt.Println(spans)
	}
	return in.Err()
}

func read(path string) (messages [][]byte, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for len(b) >= 4 {
		n := int(binary.BigEndian.Uint32(b))
		if b = b[4:]; n > len(b) {
			break
		}
		messages = append(messages, b[:n])
		b = b[n:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%s ends within a message", path)
	}
	return messages, nil
}

// atOnce is the number of messages that a core takes at a time.
const atOnce = 200

func unmarshal(messages [][]byte, rounds int) (spans int64, err error) {
	var next, seen atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for failed.Load() == nil {
				from := int(next.Add(atOnce) - atOnce)
				if from >= rounds*len(messages) {
					return
				}
				for i := from; i < min(from+atOnce, rounds*len(messages)); i++ {
					var t tempopb.Trace
					if err := t.Unmarshal(messages[i%len(messages)]); err != nil {
						failed.Store(&err)
						return
					}
					seen.Add(count(&t))
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return seen.Load(), nil
}

func count(t *tempopb.Trace) (spans int64) {
	for _, rs := range t.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			spans += int64(len(ss.Spans))
		}
	}
	return spans
}
