package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"github.com/emmansun/gmsm/sm3"

	"github.com/veritrail/veritrail/internal/suite"
)

const (
	messageSize = 400
	messages    = 1000
)

// The lines of the table of digests.
const (
	lineLanes   = "Veritrail, SM3 of many leaves"
	lineGmsm    = "gmsm, SM3 of one after another"
	lineOpenSSL = "OpenSSL, SM3 by EVP"
)

// digestSeries measure SM3 of 400-byte messages, per second of processor time.
func (b *bench) digestSeries() []*series {
	all := []*series{
		{name: lineLanes, turn: b.digest(func(lines []byte, ends []int, out []suite.Hash) { suite.SM3.LeafHashes(out, lines, ends) })},
		{name: "Veritrail, SHA-256 of many leaves", turn: b.digest(func(lines []byte, ends []int, out []suite.Hash) { suite.SHA256.LeafHashes(out, lines, ends) })},
		{name: lineGmsm, turn: b.digest(func(lines []byte, ends []int, out []suite.Hash) {
			start := 0
			for i, end := range ends {
				out[i] = sm3.Sum(lines[start:end])
				start = end + 1
			}
		})},
		{name: lineOpenSSL, turn: b.openssl},
	}
	return all
}

func (b *bench) digest(hash func(lines []byte, ends []int, out []suite.Hash)) func(string) (result, error) {
	return func(string) (result, error) {
		lines := bytes.Repeat([]byte("m"), messages*(messageSize+1))
		ends := make([]int, messages)
		for i := range ends {
			ends[i] = i*(messageSize+1) + messageSize
		}
		out := make([]suite.Hash, messages)
		n, start := 0, startWatch()
		for {
			hash(lines, ends, out)
			n += messages
			if used := start.used(); used >= b.digestTurn {
				return result{events: n, elapsed: used, lineSize: messageSize}, nil
			}
		}
	}
}

// openssl asks the openssl program, which counts processor time as well.
func (b *bench) openssl(string) (result, error) {
	const most = time.Minute
	ctx, cancel := context.WithTimeout(background, most)
	defer cancel()
	name, err := exec.LookPath("openssl")
	if err != nil {
		return result{}, errAbsent
	}
	child := exec.CommandContext(ctx, name, "speed", "-mr", "-evp", "sm3", "-bytes", strconv.Itoa(messageSize), "-seconds", "1") //nolint:gosec // the openssl on PATH
	text, err := child.CombinedOutput()
	if err != nil {
		return result{}, errAbsent // built without SM3, or too old to know these options
	}
	return parseSpeed(text)
}

// parseSpeed reads "+R:<messages>:sm3:<seconds>".
func parseSpeed(text []byte) (result, error) {
	for line := range bytes.Lines(text) {
		parts := bytes.Split(bytes.TrimSpace(line), []byte(":"))
		if len(parts) != 4 || string(parts[0]) != "+R" {
			continue
		}
		n, err := strconv.Atoi(string(parts[1]))
		if err != nil {
			return result{}, err
		}
		seconds, err := strconv.ParseFloat(string(parts[3]), 64)
		if err != nil {
			return result{}, err
		}
		return result{events: n, elapsed: time.Duration(seconds * float64(time.Second)), lineSize: messageSize}, nil
	}
	return result{}, fmt.Errorf("openssl speed: no result in %d bytes of output", len(text))
}
