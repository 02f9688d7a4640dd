package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// bearer is a hub user's token on every call.
type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// callGRPC calls everything that gRPC's interoperability tests call, with the
// prefix of a proxied Service in front of each method. What fails of those ends
// the program.
func callGRPC(ctx context.Context, server, ca, prefix, tokenFile string) error {
	address, err := url.Parse(server)
	if err != nil {
		return err
	}
	tls, err := credentials.NewClientTLSFromFile(ca, "")
	if err != nil {
		return err
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return err
	}
	// A grpc-go client has no setting for a path in front of methods.
	connection, err := grpc.NewClient("passthrough:///"+address.Host,
		grpc.WithTransportCredentials(tls),
		grpc.WithPerRPCCredentials(bearer(strings.TrimSpace(string(token)))),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn,
			invoker grpc.UnaryInvoker, options ...grpc.CallOption) error {
			return invoker(ctx, prefix+method, request, reply, cc, options...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, description *grpc.StreamDesc, cc *grpc.ClientConn,
			method string, streamer grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
			return streamer(ctx, description, cc, prefix+method, options...)
		}),
	)
	if err != nil {
		return err
	}
	defer connection.Close()

	client := testpb.NewTestServiceClient(connection)
	interop.DoEmptyUnaryCall(ctx, client)
	interop.DoLargeUnaryCall(ctx, client)
	interop.DoClientStreaming(ctx, client)
	interop.DoServerStreaming(ctx, client)
	interop.DoPingPong(ctx, client)
	interop.DoEmptyStream(ctx, client)
	interop.DoTimeoutOnSleepingServer(ctx, client)
	interop.DoCancelAfterBegin(ctx, client)
	interop.DoCancelAfterFirstResponse(ctx, client)
	// Metadata and trailers both ways.
	interop.DoCustomMetadata(ctx, client)
	interop.DoStatusCodeAndMessage(ctx, client)
	interop.DoSpecialStatusMessage(ctx, client)
	interop.DoUnimplementedMethod(ctx, connection)

	if err := deadline(ctx, client); err != nil {
		return fmt.Errorf("deadline: %w", err)
	}
	if err := checkHealth(ctx, healthpb.NewHealthClient(connection)); err != nil {
		return fmt.Errorf("health: %w", err)
	}
	fmt.Println("all of it works")
	return nil
}

// deadline waits for an answer that comes too late, and sees that the
// connection lives on.
func deadline(ctx context.Context, client testpb.TestServiceClient) error {
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	stream, err := client.StreamingOutputCall(short, &testpb.StreamingOutputCallRequest{
		ResponseParameters: []*testpb.ResponseParameters{{Size: 1}, {Size: 1, IntervalUs: 20_000_000}},
	})
	if err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return fmt.Errorf("the first message, which is in time: %w", err)
	}
	_, err = stream.Recv()
	if took := time.Since(begun); status.Code(err) != codes.DeadlineExceeded || took > 5*time.Second {
		return fmt.Errorf("after %v: %v", took, err)
	}
	_, err = client.EmptyCall(ctx, &testpb.Empty{})
	return err
}

// checkHealth asks once, for a service that is not there, and watches.
func checkHealth(ctx context.Context, client healthpb.HealthClient) error {
	answer, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if answer.Status != healthpb.HealthCheckResponse_SERVING {
		return errors.New(answer.Status.String())
	}
	_, err = client.Check(ctx, &healthpb.HealthCheckRequest{Service: "none"})
	if status.Code(err) != codes.NotFound || status.Convert(err).Message() != "unknown service" {
		return fmt.Errorf("a service that is not there: %v", err)
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Watch(watch, &healthpb.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if answer, err = stream.Recv(); err != nil {
		return err
	}
	cancel()
	if _, err = stream.Recv(); status.Code(err) != codes.Canceled {
		return fmt.Errorf("a watch that was given up: %v", err)
	}
	return nil
}
