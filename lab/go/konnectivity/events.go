package main

import (
	"encoding/json"
	"io"
	"strings"
	"sync"
	"time"
)

// Event is one line on stderr. Name is one of dialed, dial-failed,
// input-ended, write-failed, output-ended, closed, log.
type Event struct {
	Name string `json:"event"`
	// Milliseconds since the program began.
	At int64 `json:"ms"`
	// Bytes that went this way by then: to the target for input-ended and
	// write-failed, from it for output-ended.
	Bytes int64 `json:"bytes"`
	// What happened at input-ended: half-close or close.
	Did atEnd `json:"did,omitempty"`
	// The error's text; none is a clean end.
	Error string `json:"error,omitempty"`
	// The answer to CONNECT, where there was one.
	Status int `json:"status,omitempty"`
	// Why the Go client's dial failed, in its own words.
	Reason string `json:"reason,omitempty"`
	// A line of the client package's log.
	Text string `json:"text,omitempty"`
}

type eventLog struct {
	started time.Time
	mutex   sync.Mutex
	out     io.Writer
}

func (l *eventLog) write(event Event) {
	event.At = time.Since(l.started).Milliseconds()
	line, err := json.Marshal(event)
	if err != nil {
		panic(err) // Strings and numbers always marshal.
	}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	// Whoever reads no events has gone, and the connection is what counts.
	_, _ = l.out.Write(append(line, '\n'))
}

func (l *eventLog) logWriter() io.Writer { return logWriter{l} }

type logWriter struct{ events *eventLog }

func (w logWriter) Write(text []byte) (int, error) {
	w.events.write(Event{Name: "log", Text: strings.TrimSpace(string(text))})
	return len(text), nil
}

func text(err error) string {
	if err == nil || err == io.EOF {
		return ""
	}
	return err.Error()
}
