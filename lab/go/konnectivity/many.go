package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
)

// manyResult is what many writes to stdout.
type manyResult struct {
	OK int `json:"ok"`
	// How many failed, by the error's text.
	Failed map[string]int `json:"failed"`
}

// many dials count times, each time sends some bytes to a target that echoes
// them, reads them back and closes.
func many(dial func() (tunnelled, error), count string, parallel int) int {
	total, err := strconv.Atoi(count)
	if err != nil || total < 1 || parallel < 1 {
		fail(64, usage)
	}
	work := make(chan int)
	result := manyResult{Failed: map[string]int{}}
	var mutex sync.Mutex
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for number := range work {
				err := short(dial, number)
				mutex.Lock()
				if err == nil {
					result.OK++
				} else {
					result.Failed[err.Error()]++
				}
				mutex.Unlock()
			}
		})
	}
	for number := range total {
		work <- number
	}
	close(work)
	workers.Wait()
	line, err := json.Marshal(result)
	if err != nil {
		panic(err) // Strings and numbers always marshal.
	}
	fmt.Fprintln(os.Stdout, string(line))
	if result.OK < total {
		return 1
	}
	return 0
}

func short(dial func() (tunnelled, error), number int) error {
	conn, err := dial()
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	message := fmt.Appendf(nil, "connection %8d", number)
	if _, err := conn.Write(message); err != nil {
		_ = conn.Close()
		return fmt.Errorf("write: %w", err)
	}
	echo := make([]byte, len(message))
	if _, err := io.ReadFull(conn, echo); err != nil {
		_ = conn.Close()
		return fmt.Errorf("read: %w", err)
	}
	if !bytes.Equal(echo, message) {
		_ = conn.Close()
		return fmt.Errorf("the echo differs")
	}
	if err := conn.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
