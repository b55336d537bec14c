package server

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/veritrail/veritrail/recorder"
)

// pack compresses as a client would.
func pack(t testing.TB, coding string, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case codingGzip:
		w = gzip.NewWriter(&b)
	case codingZstd:
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	default:
		return text
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(t testing.TB, coding string, packed []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(packed)
	var err error
	switch coding {
	case codingGzip:
		r, err = gzip.NewReader(r)
	case codingZstd:
		r, err = zstd.NewReader(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *site) postPacked(coding string, body io.Reader) posted {
	s.t.Helper()
	return parsePosted(s.t, s.do(http.MethodPost, "/v1/events", body, "Content-Type", "application/x-ndjson", "Content-Encoding", coding))
}

func TestPostTakesCompressedBodies(t *testing.T) {
	for _, coding := range []string{"gzip", "zstd", "GZIP", " zstd", "x-gzip", "identity"} {
		s := newSite(t)
		name := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(coding)), "x-")
		var all []posted
		for i := range 3 { // decoders are used again
			p := s.postPacked(coding, bytes.NewReader(pack(t, name, []byte(events(i*500, 500)+bad+"\n"))))
			if p.status != http.StatusMultiStatus || p.Accepted != 500 || p.Rejected != 1 {
				t.Fatalf("%s: got %d: %.300s", coding, p.status, p.body)
			}
			all = append(all, p)
		}
		s.checkRecorded(all...)
	}
}

func TestPostRefusesOtherCodings(t *testing.T) {
	s := newSite(t)
	for _, coding := range []string{"br", "deflate", "gzip, gzip", "gzip, zstd", "zip"} {
		r := s.do(http.MethodPost, "/v1/events", strings.NewReader(event(1)), "Content-Encoding", coding)
		if r.status != http.StatusUnsupportedMediaType || r.header.Get("Accept-Encoding") != "gzip, zstd" {
			t.Errorf("%s: got %d, accept %q", coding, r.status, r.header.Get("Accept-Encoding"))
		}
	}
	if got := s.rec.Stats().Size; got != 0 {
		t.Errorf("%d events in the log", got)
	}
}

// Whatever is wrong with a compressed body, what was recorded before is told.
func TestPostRefusesBrokenCompression(t *testing.T) {
	text := []byte(events(0, 3000))
	for _, coding := range []string{codingGzip, codingZstd} {
		packed := pack(t, coding, text)
		flipped := bytes.Clone(packed)
		flipped[len(flipped)/2] ^= 0x55
		sum := bytes.Clone(packed) // the checksum behind the last event
		sum[len(sum)-1] ^= 1
		if coding == codingGzip {
			sum = bytes.Clone(packed)
			sum[len(sum)-8] ^= 1
		}
		for _, c := range []struct {
			name, code string
			body       []byte
		}{
			{"not compressed", "not_encoded", text},
			{"cut", "body_ended", packed[:len(packed)/2]},
			{"cut in the header", "body_ended", packed[:3]},
			{"changed", "not_encoded", flipped},
			{"a wrong checksum", "not_encoded", sum},
			{"something behind it", "not_encoded", append(bytes.Clone(packed), "and more of it"...)},
			{"nothing", "no_event", nil},
		} {
			s := newSite(t)
			p := s.postPacked(coding, bytes.NewReader(c.body))
			if c.name == "changed" && p.code() == "body_ended" {
				continue // a wrong length in it looks like that
			}
			if p.status != http.StatusBadRequest || p.code() != c.code {
				t.Errorf("%s, %s: got %d %q, want %q", coding, c.name, p.status, p.code(), c.code)
			}
			s.checkRecorded(p)
		}
	}
}

func TestPostRefusesBombs(t *testing.T) {
	zeros := bytes.Repeat([]byte("\n"), 64<<20)
	long := `{"act":"APP.TEST","sub":{"user":"u1"},"obj":{"x":"` + strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz", 1200) + `"}}` + "\n"
	same := bytes.Repeat([]byte(long), 5<<20/len(long))
	for _, coding := range []string{codingGzip, codingZstd} {
		for _, c := range []struct {
			name, code string
			max        int64
			body       []byte
		}{
			{"64 MiB of newlines", "body_ratio", 0, pack(t, coding, zeros)},
			{"one event again and again", "body_ratio", 0, pack(t, coding, same)},
			{"larger than a body may be", "body_size", 100 << 10, pack(t, coding, []byte(events(0, 10_000)))},
			{"twice compressed", "not_json", 0, pack(t, coding, pack(t, coding, zeros))},
		} {
			if len(c.body)*maxRatio > len(same) && c.name == "one event again and again" {
				continue // gzip does not come near the bound with it
			}
			s := newSite(t, func(rc *recorder.Config, sc *Config) { rc.Ack, sc.MaxBody = recorder.AckBuffered, c.max })
			kind := "application/x-ndjson"
			if c.code == "not_json" {
				kind = "application/json"
			}
			p := parsePosted(t, s.do(http.MethodPost, "/v1/events", bytes.NewReader(c.body), "Content-Type", kind, "Content-Encoding", coding))
			want := http.StatusRequestEntityTooLarge
			if c.code == "not_json" {
				want = http.StatusBadRequest
			}
			if p.status != want || p.code() != c.code {
				t.Errorf("%s, %s: got %d %q, want %q", coding, c.name, p.status, p.code(), c.code)
			}
			if int(s.rec.Stats().Leaves) < p.Accepted {
				t.Errorf("%s, %s: %d accepted, %d in the log", coding, c.name, p.Accepted, s.rec.Stats().Leaves)
			}
		}
	}
}

// A frame may ask for a window of many gigabytes before it says anything else.
func TestZstdWindowIsBounded(t *testing.T) {
	frame := binary.LittleEndian.AppendUint32(nil, 0xFD2FB528)
	frame = append(frame, 0x00, 0xF8, 1, 0, 0) // window 2^41 bytes, an empty last block
	s := newSite(t)
	if p := s.postPacked(codingZstd, bytes.NewReader(frame)); p.status != http.StatusBadRequest || p.code() != "not_encoded" {
		t.Errorf("got %d: %s", p.status, p.body)
	}
}

// Events of a real program do not come near the bound of the ratio.
func TestEventsThatDifferAreNoBomb(t *testing.T) {
	s := newSite(t, func(rc *recorder.Config, _ *Config) { rc.Ack = recorder.AckBuffered })
	const n = 6000
	random := rand.New(rand.NewPCG(1, 2))
	var text []byte
	for range n {
		var detail [400]byte
		for i := range detail {
			detail[i] = byte(random.Uint32())
		}
		text = fmt.Appendf(text, `{"act":"APP.TEST","sub":{"user":"u1"},"obj":{"detail":"%x"}}`+"\n", detail)
	}
	if len(text) < freeText {
		t.Fatalf("only %d bytes", len(text))
	}
	for _, coding := range []string{codingGzip, codingZstd} {
		packed := pack(t, coding, text)
		if p := s.postPacked(coding, bytes.NewReader(packed)); p.status != http.StatusCreated || p.Accepted != n {
			t.Errorf("%s, 1 to %d: got %d: %.300s", coding, len(text)/len(packed), p.status, p.body)
		}
	}
}

func TestLargeAnswersAreCompressedForThoseWhoAsk(t *testing.T) {
	s := newSite(t)
	s.fill(600)
	for accept, want := range map[string]string{
		"gzip": "gzip", "zstd": "zstd", "gzip, zstd": "zstd", "zstd;q=0, gzip;q=0.5": "gzip", "gzip;q=0": "", "gzip; q=0.000": "", "*": "gzip",
		"br": "", "identity": "",
	} {
		for _, path := range []string{"/v1/events?limit=300", "/v1/tile/entries/000", "/v1/events?limit=1"} {
			plain := s.get(path, "Accept-Encoding", "identity")
			r := s.get(path, "Accept-Encoding", accept)
			expect := want
			if strings.HasSuffix(path, "=1") {
				expect = "" // too small
			}
			got := r.header.Get("Content-Encoding")
			if got != expect || r.status != http.StatusOK || !strings.Contains(strings.Join(r.header.Values("Vary"), ","), "Accept-Encoding") {
				t.Errorf("%s with %q: got %d, %q, vary %q", path, accept, r.status, got, r.header.Values("Vary"))
			}
			if !bytes.Equal(unpack(t, got, r.body), plain.body) {
				t.Errorf("%s with %q: another content", path, accept)
			}
			if got != "" && len(r.body)*2 > len(plain.body) {
				t.Errorf("%s with %q: %d bytes of %d", path, accept, len(r.body), len(plain.body))
			}
		}
	}
	lines := s.get("/v1/events", "Accept-Encoding", "zstd", "Accept", typeNDJSON)
	if got := lines.header.Get("Content-Encoding"); got != "zstd" || bytes.Count(unpack(t, got, lines.body), []byte("\n")) != 601 {
		t.Errorf("lines: %q", got)
	}
	answer := s.do(http.MethodPost, "/v1/events", strings.NewReader(events(0, 500)), "Accept-Encoding", "gzip")
	if got := answer.header.Get("Content-Encoding"); got != "gzip" {
		t.Errorf("the answer to a large POST: %q", got)
	}
	answer.body = unpack(t, "gzip", answer.body)
	if p := parsePosted(t, answer); p.status != http.StatusCreated || p.Accepted != 500 {
		t.Errorf("got %d, %d accepted", p.status, p.Accepted)
	}
}
