package main

import (
	"errors"
	"io"
	"os"
	"sync/atomic"

	"sigs.k8s.io/apiserver-network-proxy/konnectivity-client/pkg/client"
)

// join dials once, and copies stdin and stdout until both ways are done or
// the connection was closed. It returns the exit code: 1 for a failed dial.
func join(dial func() (tunnelled, error), end atEnd, events *eventLog) int {
	conn, err := dial()
	if err != nil {
		events.write(failedDial(err))
		return 1
	}
	events.write(Event{Name: "dialed"})

	var received atomic.Int64
	outputDone := make(chan struct{})
	go func() {
		defer close(outputDone)
		n, err := io.Copy(counted{os.Stdout, &received}, conn)
		// The reader's end is told by the end of stdout, too.
		_ = os.Stdout.Close()
		events.write(Event{Name: "output-ended", Bytes: n, Error: text(err)})
	}()

	sent, err := io.Copy(writeOnly{conn}, readOnly{os.Stdin})
	if err != nil {
		events.write(Event{Name: "write-failed", Bytes: sent, Error: text(err)})
		end = closeWhole
	}
	half, halves := conn.(closeWriter)
	if end == halfClose && halves {
		err := half.CloseWrite()
		events.write(Event{Name: "input-ended", Bytes: sent, Did: halfClose, Error: text(err)})
		<-outputDone
	} else {
		events.write(Event{Name: "input-ended", Bytes: sent, Did: closeWhole})
	}
	events.write(Event{Name: "closed", Bytes: received.Load(), Error: text(conn.Close())})
	<-outputDone
	return 0
}

func failedDial(err error) Event {
	event := Event{Name: "dial-failed", Error: text(err)}
	var refused *refusal
	if errors.As(err, &refused) {
		event.Status = refused.status
	}
	if isDial, reason := client.GetDialFailureReason(err); isDial {
		event.Reason = string(reason)
	}
	return event
}

// readOnly and writeOnly hide shortcuts of io.Copy: each piece is one read and
// one write.
type readOnly struct{ io.Reader }
type writeOnly struct{ io.Writer }

type counted struct {
	out   io.Writer
	count *atomic.Int64
}

func (c counted) Write(from []byte) (int, error) {
	n, err := c.out.Write(from)
	c.count.Add(int64(n))
	return n, err
}
