// Konnectivity-client reaches a target through a konnectivity proxy-server, by
// the public Go client package or by CONNECT, and tells what it saw.
//
// dial joins stdin and stdout with one connection and writes an event a line,
// as JSON, to stderr. many makes short connections one after the other and
// writes their count to stdout. Tests drive it; see the Event type for what
// they read.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"k8s.io/klog/v2"
)

const usage = `usage: konnectivity-client dial [FLAG…] HOST:PORT
       konnectivity-client many [FLAG…] COUNT HOST:PORT
`

// atEnd is what happens when stdin ends.
type atEnd string

const (
	// The connection's sending half is closed where the frontend has one,
	// else the whole connection.
	halfClose  atEnd = "half-close"
	closeWhole atEnd = "close"
)

func main() {
	if len(os.Args) < 2 {
		fail(64, usage)
	}
	flags := flag.NewFlagSet("konnectivity-client "+os.Args[1], flag.ExitOnError)
	proxy := proxyFlags(flags)
	timeout := flags.Duration("timeout", 20*time.Second, "limit for a dial")
	end := flags.String("at-end", string(halfClose), "when stdin ends: half-close or close")
	parallel := flags.Int("parallel", 1, "connections at a time (many)")
	_ = flags.Parse(os.Args[2:]) // It exits by itself.

	events := &eventLog{started: time.Now(), out: os.Stderr}
	klog.LogToStderr(false)
	klog.SetOutput(events.logWriter())

	dialer, err := proxy.dialer()
	if err != nil {
		fail(64, "konnectivity-client: %v\n", err)
	}
	dial := func() (tunnelled, error) {
		ctx, cancel := context.WithTimeout(context.Background(), *timeout)
		// Only of the dial: a tunnel outlives it.
		defer cancel()
		return dialer.dial(ctx, flags.Arg(flags.NArg()-1))
	}
	switch {
	case os.Args[1] == "dial" && flags.NArg() == 1:
		if at := atEnd(*end); at == halfClose || at == closeWhole {
			os.Exit(join(dial, at, events))
		}
		fail(64, "konnectivity-client: --at-end=%s is neither half-close nor close\n", *end)
	case os.Args[1] == "many" && flags.NArg() == 2:
		os.Exit(many(dial, flags.Arg(0), *parallel))
	default:
		fail(64, usage)
	}
}

func fail(code int, format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format, arguments...)
	os.Exit(code)
}

// closeWriter is a connection of which one half can be closed.
type closeWriter interface {
	CloseWrite() error
}

// tunnelled is a connection to the target.
type tunnelled interface {
	io.ReadWriteCloser
}
