package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/betracehq/betrace/deploy/stack"
	"github.com/betracehq/betrace/tempoclient/blocks"
)

// senders is the number of concurrent requests, perRequest the number of traces in each.
const (
	senders    = 3
	perRequest = 50
)

// storeTimeout bounds the time until Tempo has stored a block after it was cut.
const storeTimeout = 5 * time.Minute

// Make returns the set's data. The first call starts a Tempo of its own, which stores the traces. This
// takes minutes for millions of spans; log receives lines of progress.
func Make(ctx context.Context, s Set, log io.Writer) (Data, error) {
	return cached(s.key(), func(dir string) (Manifest, error) {
		o := stack.Options{Tempo: true, FlushOnly: true, Dir: filepath.Join(dir, "server"), Log: log}
		if s.Dedicated {
			o.Dedicated = strings.Join(Dedicated, ",")
		}
		server, err := stack.Start(ctx, o)
		if err != nil {
			return Manifest{}, err
		}
		if server.TempoBlocks == "" {
			return Manifest{}, errors.New("TEMPO_URL names a running Tempo whose storage is unknown: unset it")
		}
		m, err := s.store(ctx, server, log)
		if err := errors.Join(err, server.Stop()); err != nil {
			return Manifest{}, err
		}
		if err := os.Rename(server.TempoBlocks, filepath.Join(dir, blocksName)); err != nil {
			return Manifest{}, err
		}
		return m, os.RemoveAll(o.Dir)
	})
}

// store sends the traces, cuts each block, and waits until all blocks are stored.
func (s Set) store(ctx context.Context, server *stack.Stack, log io.Writer) (Manifest, error) {
	conn, err := grpc.NewClient(server.OTLPGRPC, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
	if err != nil {
		return Manifest{}, err
	}
	defer conn.Close() //nolint:errcheck // all answers were received
	m := Manifest{Traces: s.traces(), Blocks: s.Blocks}
	began := time.Now()
	for block := range s.Blocks {
		sent, err := s.send(ctx, conn, block)
		if err != nil {
			return Manifest{}, fmt.Errorf("send block %d of %d: %w", block+1, s.Blocks, err)
		}
		m.Spans += sent
		if err := server.Flush(ctx); err != nil {
			return Manifest{}, err
		}
		// At most one block is stored while the next is sent, which bounds Tempo's memory.
		stored, err := wait(ctx, server.TempoBlocks, block)
		if err != nil {
			return Manifest{}, err
		}
		fmt.Fprintf(log, "data set %s: %d of %d spans sent in %d of %d blocks, %d stored, %s\n", s.Name, m.Spans, s.Spans, block+1, s.Blocks, stored, time.Since(began).Round(time.Second))
	}
	stored, err := wait(ctx, server.TempoBlocks, s.Blocks)
	if err != nil {
		return Manifest{}, err
	}
	if stored != m.Spans {
		return Manifest{}, fmt.Errorf("tempo stored %d of %d spans: see the log of Tempo", stored, m.Spans)
	}
	for i := range m.Traces {
		if relationOf(i) == above {
			m.Structural++
		}
		if hasName(i) {
			m.RareNames++
		}
		if hasValue(i) {
			m.RareValues++
		}
	}
	m.From, m.To = start, start.Add(duration+time.Minute)
	return m, nil
}

// wait waits until n blocks are stored, and returns the number of their spans.
func wait(ctx context.Context, dir string, n int) (spans int64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, storeTimeout, fmt.Errorf("%d blocks were not stored within %s", n, storeTimeout))
	defer cancel()
	for {
		var live []blocks.Meta
		live, spans, err = inspect(ctx, dir)
		if err == nil && len(live) >= n {
			return spans, nil
		}
		select { // an error usually means that a block is being written
		case <-ctx.Done():
			return 0, errors.Join(context.Cause(ctx), err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// send sends the traces of a block, and the later halves of some traces of the previous block.
func (s Set) send(ctx context.Context, conn *grpc.ClientConn, block int) (spans int64, err error) {
	first := func(block int) int { return s.traces() * block / s.Blocks }
	from := first(max(block-1, 0))
	var next, sent atomic.Int64
	next.Store(int64(from))
	group, ctx := errgroup.WithContext(ctx)
	for range senders {
		group.Go(func() error {
			g := newGenerator(s)
			var request []byte
			for {
				chunk := int(next.Add(perRequest)) - perRequest
				if chunk >= first(block+1) {
					return nil
				}
				request = request[:0]
				for i := chunk; i < min(chunk+perRequest, first(block+1)); i++ {
					own := i >= first(block)
					if !own && !isSplit(i) {
						continue
					}
					g.make(i)
					now, later := g.halves(i)
					switch {
					case !own:
						now, later = later, nil
					case block < s.Blocks-1:
						later = nil // sent with the next block
					}
					request = g.appendRequest(g.appendRequest(request, now), later)
					sent.Add(int64(len(now) + len(later)))
				}
				if err := export(ctx, conn, request); err != nil {
					return err
				}
			}
		})
	}
	err = group.Wait()
	return sent.Load(), err
}

// export sends an encoded ExportTraceServiceRequest.
func export(ctx context.Context, conn *grpc.ClientConn, request []byte) error {
	if len(request) == 0 {
		return nil
	}
	var response []byte
	if err := conn.Invoke(ctx, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", request, &response); err != nil {
		return err
	}
	if len(response) > 2 { // an empty partial_success has two bytes
		return fmt.Errorf("tempo refused spans: %q", response)
	}
	return nil
}

// bytesCodec passes encoded messages through.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("message of type %T is not encoded", v)
	}
	return b, nil
}

func (bytesCodec) Unmarshal(b []byte, v any) error {
	to, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("message cannot be stored in a %T", v)
	}
	*to = append((*to)[:0], b...)
	return nil
}
