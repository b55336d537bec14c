package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"
)

// cursor is where a search goes on: the leaves that are left of those there
// were when it began, and the times that "24h" and the like meant then. So the
// pages of one search fit together however the trail grows.
//
// Clients get it as text that only this trail's server can make (a MAC under a
// key made of the token), and that fits only the query it was made for.
type cursor struct {
	first, end   uint64
	newest       bool
	since, until time.Time // zero when open
}

const (
	cursorVersion = 1
	cursorMAC     = 16
	cursorSize    = 2 + 8 + 8 + 12 + 12 + cursorMAC

	cursorNewest = 1 << iota >> 1
	cursorSince
	cursorUntil
)

var errCursor = errors.New("not a cursor of this trail and this search")

// cursorEncoding takes no second spelling of the same bytes.
var cursorEncoding = base64.RawURLEncoding.Strict()

// cursorKey is the key of a trail's cursors. They end with the token.
func cursorKey(token string) []byte {
	mac := hmac.New(sha256.New, []byte(token))
	_, _ = mac.Write([]byte("veritrail cursor"))
	return mac.Sum(nil)
}

// text is the cursor for clients; query is what the search was asked for.
func (c *cursor) text(key, query []byte) string {
	b := make([]byte, 0, cursorSize)
	b = append(b, cursorVersion, 0)
	b = binary.BigEndian.AppendUint64(b, c.first)
	b = binary.BigEndian.AppendUint64(b, c.end)
	for i, t := range []time.Time{c.since, c.until} {
		if t.IsZero() {
			b = append(b, make([]byte, 12)...)
			continue
		}
		b[1] |= []byte{cursorSince, cursorUntil}[i]
		b = binary.BigEndian.AppendUint64(b, uint64(t.Unix()))
		b = binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
	}
	if c.newest {
		b[1] |= cursorNewest
	}
	return cursorEncoding.EncodeToString(append(b, sumCursor(b, key, query)...))
}

func sumCursor(b, key, query []byte) []byte {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write(b)
	_, _ = mac.Write(query)
	return mac.Sum(nil)[:cursorMAC]
}

// parseCursor is the inverse of text.
func parseCursor(text string, key, query []byte) (cursor, error) {
	var c cursor
	if len(text) != cursorEncoding.EncodedLen(cursorSize) {
		return c, errCursor
	}
	b, err := cursorEncoding.DecodeString(text)
	if err != nil || len(b) != cursorSize {
		return c, errCursor
	}
	b, mac := b[:cursorSize-cursorMAC], b[cursorSize-cursorMAC:]
	if !hmac.Equal(mac, sumCursor(b, key, query)) || b[0] != cursorVersion {
		return c, errCursor
	}
	c.newest = b[1]&cursorNewest != 0
	c.first, c.end = binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint64(b[10:])
	for i, t := range []*time.Time{&c.since, &c.until} {
		if at := b[18+12*i:]; b[1]&[]byte{cursorSince, cursorUntil}[i] != 0 {
			*t = time.Unix(int64(binary.BigEndian.Uint64(at)), int64(binary.BigEndian.Uint32(at[8:]))).UTC()
		}
	}
	return c, nil
}
