package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/betracehq/betrace/bench/dataset"
	"github.com/betracehq/betrace/bench/packs"
	"github.com/betracehq/betrace/bench/reading"
	"github.com/betracehq/betrace/trace/columnar"
)

// The numbers of messages, one for each trace, of traces in a batch, and of rounds over all messages.
const (
	protobufTraces = 4000
	protobufBatch  = 200
	protobufRounds = 10
)

// fillProtobuf compares filling batches from traces as Tempo returns them by ID with unmarshalling the
// same bytes into Tempo's own structs.
func fillProtobuf(ctx context.Context, b *bench) (err error) {
	pack, err := packs.Full(100)
	if err != nil {
		return err
	}
	messages := dataset.Messages(dataset.A(b.spans), protobufTraces)
	ours := newProtobufFilling(packs.Needs(pack), messages)
	spans, err := ours.round(1)
	if err != nil {
		return err
	}
	bytes := 0
	for _, m := range messages {
		bytes += len(m)
	}
	b.progress("  %d traces of %.1f spans, %.0f bytes a span", len(messages), float64(spans)/float64(len(messages)), float64(bytes)/float64(spans))
	tempos, err := startUnmarshalling(ctx, messages)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tempos.stop()) }()
	all := func(round func(times int) (int64, error)) func() error {
		return func() error {
			seen, err := round(protobufRounds)
			if err == nil && seen != protobufRounds*spans {
				err = fmt.Errorf("%d of %d spans were delivered", seen, protobufRounds*spans)
			}
			return err
		}
	}
	unmarshal, fill, ratio, err := b.inTurn(ctx, all(tempos.round), all(ours.round))
	if err != nil {
		return err
	}
	b.print("protobuf_fill_vs_tempopb_unmarshal", ratio, "ratio")
	b.print("protobuf_fill_spans_per_second", float64(protobufRounds*spans)/fill, "spans/s")
	b.print("tempopb_unmarshal_spans_per_second", float64(protobufRounds*spans)/unmarshal, "spans/s")
	return nil
}

// protobufFilling fills batches from messages on all cores.
type protobufFilling struct {
	batches [][][]byte
	fillers [reading.Cores]*columnar.Filler
}

func newProtobufFilling(needs columnar.Needs, messages [][]byte) *protobufFilling {
	f := &protobufFilling{batches: slices.Collect(slices.Chunk(messages, protobufBatch))}
	for i := range f.fillers {
		f.fillers[i] = columnar.NewFiller(needs)
	}
	return f
}

// round fills all batches this many times, and returns the number of spans.
func (f *protobufFilling) round(times int) (int64, error) {
	var next, seen atomic.Int64
	var g errgroup.Group
	for _, filler := range f.fillers {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= times*len(f.batches) {
					return nil
				}
				b, err := filler.FillOTLP(f.batches[i%len(f.batches)]...)
				if err != nil {
					return err
				}
				seen.Add(int64(b.NumSpans()))
			}
		})
	}
	err := g.Wait()
	return seen.Load(), err
}

// unmarshalling is a running instance of the program bench/tempopb.
type unmarshalling struct {
	dir     string
	cmd     *exec.Cmd
	orders  io.WriteCloser
	answers *bufio.Reader
}

func startUnmarshalling(ctx context.Context, messages [][]byte) (u *unmarshalling, err error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return nil, errors.New("bench/tempopb: the source folder is unknown: build without -trimpath")
	}
	u = &unmarshalling{}
	if u.dir, err = os.MkdirTemp("", "bench-tempopb-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(u.dir))
		}
	}()
	program, path := filepath.Join(u.dir, "tempopb"), filepath.Join(u.dir, "messages")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	build.Dir = filepath.Join(filepath.Dir(file), "..", "..", "tempopb")
	build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false -mod=readonly")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build in bench/tempopb: %w\n%s", err, out)
	}
	var all []byte
	for _, m := range messages {
		all = append(binary.BigEndian.AppendUint32(all, uint32(len(m))), m...)
	}
	if err := os.WriteFile(path, all, 0o600); err != nil {
		return nil, err
	}
	u.cmd = exec.CommandContext(ctx, program, path)
	u.cmd.Stderr = os.Stderr
	answers, err := u.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	u.answers = bufio.NewReader(answers)
	if u.orders, err = u.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := u.cmd.Start(); err != nil {
		return nil, err
	}
	_, err = u.round(1) // after the first round it has read the messages
	return u, err
}

// round makes the program unmarshal all messages this many times, and returns the number of spans.
func (u *unmarshalling) round(times int) (spans int64, err error) {
	if _, err := fmt.Fprintln(u.orders, times); err != nil {
		return 0, fmt.Errorf("bench/tempopb: %w", err)
	}
	if _, err := fmt.Fscanln(u.answers, &spans); err != nil {
		return 0, fmt.Errorf("bench/tempopb: %w", err)
	}
	return spans, nil
}

// stop ends the program.
func (u *unmarshalling) stop() error {
	return errors.Join(u.orders.Close(), u.cmd.Wait(), os.RemoveAll(u.dir))
}
