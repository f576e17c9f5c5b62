package dataset

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/betracehq/betrace/deploy/stack"
)

// SendRecent sends whole traces of the kind that the sets contain. The traces start one after another,
// beginning at from. If the server throttles, it waits. It returns the number of spans.
func SendRecent(ctx context.Context, server *stack.Stack, traces int, from time.Time, during time.Duration) (spans int, err error) {
	conn, err := grpc.NewClient(server.OTLPGRPC, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // all answers were received
	g := newGenerator(Set{Name: "recent", Spans: traces * 25, Blocks: 1, Seed: 1})
	var request []byte
	for i := range traces {
		g.make(i)
		shift := uint64(from.Add(during/time.Duration(traces)*time.Duration(i)).UnixNano()) - g.spans[0].start
		for k := range g.spans {
			g.spans[k].start += shift
			g.spans[k].end += shift
		}
		spans += len(g.spans)
		request = g.appendRequest(request, g.spans)
		if i%perRequest != perRequest-1 && i != traces-1 {
			continue
		}
		for try := 0; ; try++ {
			err := export(ctx, conn, request)
			if status.Code(err) == codes.ResourceExhausted && try < 20 {
				time.Sleep(time.Second) // the tenant's rate limit
				continue
			}
			if err != nil {
				return 0, fmt.Errorf("send traces: %w", err)
			}
			break
		}
		request = request[:0]
	}
	return spans, nil
}
