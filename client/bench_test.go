package client

import (
	"fmt"
	"testing"
)

// BenchmarkRecordJSON sends events of some 200 bytes to a server in the same
// process, over loopback, and waits for the last of them.
func BenchmarkRecordJSON(b *testing.B) {
	s := newSite(b)
	c := open(b, Config{URL: "http://" + s.addr, Token: testToken})
	var texts [1024][]byte
	for i := range texts {
		texts[i] = fmt.Appendf(nil, `{"sev":"INFO","sub":{"user":"u%05d","role":"teller"},"act":"AUTH.LOGIN.OK",`+
			`"obj":{"type":"account","id":"acct-%08d"},"ctx":{"ip":"192.0.2.%d","request_id":"req-%010d","branch":"b-%03d"}}`, i, i*7919, i%256, i, i%300)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := c.RecordJSON(b.Context(), texts[i%len(texts)]); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	if st := c.Stats(); st.Retries > 0 || st.Failed+st.Rejected > 0 {
		b.Fatalf("got %+v", st)
	}
}
