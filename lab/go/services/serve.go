package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

const (
	webPort     = ":8080"
	grpcPort    = ":9000"
	grpcTLSPort = ":9443"
)

// serve listens until one of the listeners fails.
func serve(folder, certificate, key string) error {
	tls, err := credentials.NewServerTLSFromFile(certificate, key)
	if err != nil {
		return err
	}
	ended := make(chan error)
	go func() { ended <- http.ListenAndServe(webPort, site(folder)) }()
	go func() { ended <- listenGRPC(grpcPort) }()
	go func() { ended <- listenGRPC(grpcTLSPort, grpc.Creds(tls)) }()
	return <-ended
}

// listenGRPC serves gRPC's own interoperability service and health checks.
func listenGRPC(address string, options ...grpc.ServerOption) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer(options...)
	testpb.RegisterTestServiceServer(server, interop.NewTestServer())
	healthpb.RegisterHealthServer(server, health.NewServer())
	return server.Serve(listener)
}

func site(folder string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(folder)))
	mux.HandleFunc("GET /headers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(r.Header)
	})
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, _ *http.Request) {
		// As an application sets it that has a host of its own.
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "of-this-site", Path: "/", HttpOnly: true})
	})
	mux.HandleFunc("GET /echo", echo)
	mux.HandleFunc("GET /bytes/{count}", func(w http.ResponseWriter, r *http.Request) {
		count, err := strconv.ParseInt(r.PathValue("count"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", r.PathValue("count"))
		_, _ = io.Copy(w, bytesOf(count))
	})
	mux.HandleFunc("GET /digest/{count}", func(w http.ResponseWriter, r *http.Request) {
		count, err := strconv.ParseInt(r.PathValue("count"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		digest := sha256.New()
		_, _ = io.Copy(digest, bytesOf(count))
		fmt.Fprintf(w, "%x", digest.Sum(nil))
	})
	return mux
}

// bytesOf gives the same bytes each time, and no two blocks of them alike.
func bytesOf(count int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{}), count)
}

// echo sends back each message as it came. The first one has the cookies that
// the handshake brought, so that a page sees what its WebSocket carries.
func echo(w http.ResponseWriter, r *http.Request) {
	// The default check wants Origin and Host to be of one host.
	upgrader := websocket.Upgrader{}
	connection, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer connection.Close()
	if err := connection.WriteMessage(websocket.TextMessage, []byte("cookies: "+r.Header.Get("Cookie"))); err != nil {
		return
	}
	for {
		kind, message, err := connection.ReadMessage()
		if err != nil || connection.WriteMessage(kind, message) != nil {
			return
		}
	}
}
