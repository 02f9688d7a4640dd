package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"sigs.k8s.io/apiserver-network-proxy/konnectivity-client/pkg/client"
)

// The longest body of a refusal that is told.
const maxRefusal = 4096

type proxyConfig struct {
	mode, address, ca, cert, key string
}

func proxyFlags(flags *flag.FlagSet) *proxyConfig {
	config := &proxyConfig{}
	flags.StringVar(&config.mode, "mode", "grpc", "grpc, http-connect or http2-connect")
	flags.StringVar(&config.address, "proxy", "127.0.0.1:8090", "the proxy-server: host:port (mTLS), or unix:PATH (no TLS)")
	flags.StringVar(&config.ca, "ca", "", "CA that signed the proxy-server's certificate")
	flags.StringVar(&config.cert, "cert", "", "certificate to show")
	flags.StringVar(&config.key, "key", "", "its private key")
	return config
}

// refusal is an answer to CONNECT that is not 200.
type refusal struct {
	status int
	body   string
}

func (r *refusal) Error() string { return r.body }

type dialer struct {
	mode, network, address string
	// Without it there is no TLS.
	tls *tls.Config
}

func (c *proxyConfig) dialer() (*dialer, error) {
	switch c.mode {
	case "grpc", "http-connect", "http2-connect":
	default:
		return nil, fmt.Errorf("--mode=%s is not known", c.mode)
	}
	if path, isUnix := strings.CutPrefix(c.address, "unix:"); isUnix {
		return &dialer{mode: c.mode, network: "unix", address: path}, nil
	}
	host, _, err := net.SplitHostPort(c.address)
	if err != nil {
		return nil, fmt.Errorf("--proxy: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("--cert, --key: %w", err)
	}
	pem, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca %s: no certificate", c.ca)
	}
	return &dialer{mode: c.mode, network: "tcp", address: c.address, tls: &tls.Config{
		Certificates: []tls.Certificate{pair},
		RootCAs:      roots,
		ServerName:   host,
		MinVersion:   tls.VersionTLS12,
	}}, nil
}

func (d *dialer) dial(ctx context.Context, target string) (tunnelled, error) {
	switch d.mode {
	case "grpc":
		return d.grpc(ctx, target)
	case "http-connect":
		return d.connect(ctx, target)
	default:
		return d.connectStream(ctx, target)
	}
}

// grpc uses the client package as kube-apiserver's egress selector does: a
// tunnel for each connection.
func (d *dialer) grpc(ctx context.Context, target string) (tunnelled, error) {
	transport := insecure.NewCredentials()
	if d.tls != nil {
		transport = credentials.NewTLS(d.tls)
	}
	// gRPC would resolve an address by itself; a socket's path is none.
	connect := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, d.network, d.address)
	})
	address := d.address
	if d.network == "unix" {
		address = "passthrough:///" + address
	}
	tunnel, err := client.CreateSingleUseGrpcTunnelWithContext(ctx, context.Background(), address,
		connect,
		grpc.WithBlock(),                 //nolint:staticcheck // As kube-apiserver does.
		grpc.WithReturnConnectionError(), //nolint:staticcheck // As kube-apiserver does.
		grpc.WithTransportCredentials(transport))
	if err != nil {
		return nil, err
	}
	return tunnel.DialContext(ctx, "tcp", target)
}

// plain is a connection to the proxy-server, with TLS where that has it.
func (d *dialer) plain(ctx context.Context, alpn ...string) (net.Conn, error) {
	if d.tls == nil {
		return (&net.Dialer{}).DialContext(ctx, d.network, d.address)
	}
	config := d.tls.Clone()
	config.NextProtos = alpn
	return (&tls.Dialer{Config: config}).DialContext(ctx, d.network, d.address)
}

// connect is CONNECT of HTTP/1.1.
func (d *dialer) connect(ctx context.Context, target string) (tunnelled, error) {
	conn, err := d.plain(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		_ = conn.Close()
		return nil, err
	}
	reader := bufio.NewReader(conn)
	answer, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("no answer to CONNECT: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		defer conn.Close()
		return nil, refused(answer, reader)
	}
	return &buffered{conn, reader}, nil
}

// refused tells of an answer. Go takes a CONNECT's answer for one without a
// body, so it is read from what follows.
func refused(answer *http.Response, body io.Reader) error {
	length := int64(maxRefusal)
	if answer.ContentLength >= 0 {
		length = min(length, answer.ContentLength)
	}
	words, _ := io.ReadAll(io.LimitReader(body, length))
	return &refusal{status: answer.StatusCode, body: strings.TrimSpace(string(words))}
}

// buffered reads what came with the answer first.
type buffered struct {
	net.Conn
	reader *bufio.Reader
}

func (b *buffered) Read(into []byte) (int, error) { return b.reader.Read(into) }

func (b *buffered) CloseWrite() error {
	if half, ok := b.Conn.(closeWriter); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("%T has no half to close", b.Conn)
}

// connectStream is CONNECT of HTTP/2 (RFC 9113, section 8.5).
func (d *dialer) connectStream(ctx context.Context, target string) (tunnelled, error) {
	conn, err := d.plain(ctx, http2.NextProtoTLS)
	if err != nil {
		return nil, err
	}
	link, err := (&http2.Transport{}).NewClientConn(conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	body, input := io.Pipe()
	// The stream outlives the dial's context.
	streamContext, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, cancel)
	request := (&http.Request{
		Method:        http.MethodConnect,
		URL:           &url.URL{Host: target},
		Host:          target,
		Header:        http.Header{},
		Body:          body,
		ContentLength: -1,
	}).WithContext(streamContext)
	answer, err := link.RoundTrip(request)
	stop()
	if err != nil {
		cancel()
		_ = conn.Close()
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		defer conn.Close()
		defer cancel()
		words, _ := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
		told := strings.TrimSpace(string(words))
		if status := answer.Header.Get("Proxy-Status"); status != "" {
			told = strings.TrimSpace(status + " " + told)
		}
		return nil, &refusal{status: answer.StatusCode, body: told}
	}
	return &stream{output: answer.Body, input: input, link: link, cancel: cancel, conn: conn}, nil
}

// stream is a stream of HTTP/2 on a connection of its own.
type stream struct {
	output io.ReadCloser
	input  *io.PipeWriter
	link   *http2.ClientConn
	cancel context.CancelFunc
	conn   net.Conn
}

// How long Close waits for the other end before it resets the stream.
const closeLimit = 2 * time.Second

func (s *stream) Read(into []byte) (int, error)  { return s.output.Read(into) }
func (s *stream) Write(from []byte) (int, error) { return s.input.Write(from) }
func (s *stream) CloseWrite() error              { return s.input.Close() }

// Close ends the stream as a socket's close does: the end is told, what still
// comes is thrown away. HTTP/2 by itself would cancel the stream at once, which
// is an abort.
func (s *stream) Close() error {
	_ = s.input.Close()
	timer := time.AfterFunc(closeLimit, s.cancel)
	defer timer.Stop()
	_, err := io.Copy(io.Discard, s.output)
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	// Until the end of the input is sent, too.
	err = errors.Join(err, s.link.Shutdown(ctx))
	s.cancel()
	_ = s.conn.Close()
	return err
}
