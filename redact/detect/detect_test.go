package detect

import (
	"fmt"
	"strings"
	"testing"
)

func mustNew(t testing.TB, cfg Config) *Detector {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// show writes findings as class:text.
func show(value string, found []Finding) string {
	var out []string
	for _, f := range found {
		out = append(out, fmt.Sprintf("%s:%s", f.Class, value[f.Start:f.End]))
	}
	return strings.Join(out, " | ")
}

func TestFindKnowsTheBuiltInClasses(t *testing.T) {
	d := mustNew(t, Config{})
	for _, c := range []struct{ value, want string }{
		{"13800138000", "phone:13800138000"},
		{"call +86 138-0013-8000 now", "phone:138-0013-8000"},
		{"8613800138000", "phone:13800138000"},
		{"手机１３８００１３８０００。", "phone:１３８００１３８０００"},
		{"138\u200b0013\u200b8000", "phone:138\u200b0013\u200b8000"},
		{"1 3 8 0 0 1 3 8 0 0 0", "phone:1 3 8 0 0 1 3 8 0 0 0"},
		{"13800138000 13900139000", "phone:13800138000 | phone:13900139000"},
		{"010-62771234", "landline:010-62771234"},
		{"(0755)2345678", "landline:(0755)2345678"},
		{"11010519491231002X", "id_card:11010519491231002X"}, // the worked example of GB 11643
		{"身份证 110105 19491231 002x", "id_card:110105 19491231 002x"},
		{"110105194912310021", ""},
		{"4111111111111111", "bank_card:4111111111111111"},
		{"4111 1111 1111 1111", "bank_card:4111 1111 1111 1111"},
		{"4111111111111112", ""},
		{"411111111111111111111111", ""},
		{"378282246310005", "bank_card:378282246310005"},
		{"91350100M000100Y43", "uscc:91350100M000100Y43"}, // the worked example of GB 32100
		{"91350100M000100Y44", ""},
		{"passport E12345678", "passport:E12345678"},
		{"E12345678", ""},
		{"京A12345 粤B·D12345", "plate:京A12345 | plate:粤B·D12345"},
		{"mail zhang.san@example.com.cn, ok", "email:zhang.san@example.com.cn"},
		{"13800138000@qq.com", "email:13800138000@qq.com"},
		{"from 192.168.1.20:8080", "ipv4:192.168.1.20"},
		{"version 1.2.3.4", ""},
		{"1.2.3", ""},
		{"2001:db8::1 fe80::1%eth0", "ipv6:2001:db8::1 | ipv6:fe80::1"},
		{"::ffff:10.0.0.1", "ipv6:::ffff:10.0.0.1"},
		{"10:30:00 std::string 00:1a:2b:3c:4d:5e", ""},
		{"GB82 WEST 1234 5698 7654 32", "iban:GB82 WEST 1234 5698 7654 32"},
		{"DE89370400440532013000", "iban:DE89370400440532013000"},
		{"DE88370400440532013000", ""},
		{"219-09-9999", "us_ssn:219-09-9999"},
		{"666-12-3456 000-12-3456", ""},
		{"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "jwt:eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"},
		{"Authorization: Bearer abcdef0123456789", "credential:abcdef0123456789"},
		{"Authorization: Basic dXNlcjpwYXNz", "credential:dXNlcjpwYXNz"},
		{"postgres://app:s3cr3t@db.example.com/x", "url_userinfo:app:s3cr3t"},
		{"AKIA" + "IOSFODNN7EXAMPLE", "api_key:AKIA" + "IOSFODNN7EXAMPLE"},
		{"password=hunter22&x=1", "credential:hunter22"},
		{"password=vt1:hunter22", "credential:vt1:hunter22"},
		{"password=****** pwd=null", ""},
		{`{"password":"correct horse"}`, "credential:correct horse"},
		{"密码：Abc12345", "credential:Abc12345"},
		{"姓名：张三，地址：北京市朝阳区建国路1号", "name:张三 | address:北京市朝阳区建国路1号"},
		{"-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----", "private_key:-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----"},
	} {
		if got := show(c.value, d.Find(nil, c.value)); got != c.want {
			t.Errorf("Find(%q):\n got %s\nwant %s", c.value, got, c.want)
		}
	}
}

// What every event carries must not be found: identifiers, times, digests, versions.
var clean = []string{
	"919108f7-52d1-4320-9bac-f847db4148a8", "2026-03-01T09:30:00.250000000Z", "AUTH.LOGIN.FAIL", "/v1/login",
	"4bf92f3577b34da6a3ce929d0e0e4736", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "1709285400",
	"1709285400123", "go1.26.8", "v1.20.3", "teller", "core-ledger-7d9f", "20260301093000", "00:1a:2b:3c:4d:5e",
	"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "转账失败：余额不足", "18446744073709551615",
}

func TestFindLeavesOrdinaryValuesAlone(t *testing.T) {
	d := mustNew(t, Config{})
	for _, v := range clean {
		if got := d.Find(nil, v); len(got) > 0 {
			t.Errorf("Find(%q): got %s, want nothing", v, show(v, got))
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, v := range clean {
			// Memory for folding comes from a pool, of which the race detector takes away at random.
			if !strings.Contains(v, "：") {
				d.Find(nil, v)
			}
		}
	}); n > 0 {
		t.Errorf("clean values: got %v allocations, want none", n)
	}
}

// Twice the length may cost twice the work, whatever the value: bytes that are looked at are counted.
func TestFindIsLinearOnHostileValues(t *testing.T) {
	d := mustNew(t, Config{})
	for _, unit := range []string{
		"1", "1 ", "@", "a@", "a@a.", "eyJ", "eyJ.", "eyJ ", "1 1 1 1 ", "::", "1:", "a:", "://", "://a:", "password=", "password:\"",
		"-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "sk-", "sk- ", "ghp_", "Bearer ", "Basic ", "京A", "1a", "4111 ", "AKIA", "1.", "１", "：", "GB82 ", "(010", "0",
	} {
		work := func(n int) int {
			_, steps := d.find(nil, strings.Repeat(unit, n/len(unit)))
			return steps + n
		}
		const n = 512 << 10
		one, two := work(n), work(2*n)
		if two > 2*one+one/4 || two > 400*2*n {
			t.Errorf("%q: %d bytes cost %d steps, %d bytes %d", unit, n, one, 2*n, two)
		}
	}
}

func TestLabelReadsKeysInAnySpelling(t *testing.T) {
	d := mustNew(t, Config{Labels: []Label{{"sub.badge", "badge"}, {"*.name", NotSensitive}, {"ctx.*", Confidential}}})
	for _, c := range []struct {
		part, key string
		want      Class
	}{
		{"sub", "idCard", IDCard}, {"sub", "id_card", IDCard}, {"obj", "ID-CARD", IDCard}, {"obj", "customer_phone", Phone},
		{"obj", "oldPassword", Credential}, {"sub", "身份证", IDCard}, {"obj", "table_name", ""}, {"obj", "ip_address", ""},
		{"sub", "Badge", "badge"}, {"obj", "badge", ""}, {"sub", "name", NotSensitive}, {"ctx", "x", Confidential}, {"sub", "user", ""},
	} {
		got, ok := d.Label(c.part, c.key)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("Label(%s, %s): got %q %v, want %q", c.part, c.key, got, ok, c.want)
		}
	}
	if got, ok := d.PairLabel("obj", "sensitivity", "secret"); got != Confidential || !ok {
		t.Errorf("PairLabel: got %q %v", got, ok)
	}
	if n := testing.AllocsPerRun(100, func() { d.Label("obj", "customerPhoneNumber") }); n > 0 {
		t.Errorf("Label: got %v allocations, want none", n)
	}
}

func TestRulesAreHeldToTheirExamples(t *testing.T) {
	good := Rule{Name: "staff", Class: "staff_id", Pattern: `\bEMP-\d{6}\b`, Match: []string{"EMP-123456"}, NoMatch: []string{"EMP-12"}}
	d := mustNew(t, Config{Rules: []Rule{good}})
	if got, want := show("by EMP-123456.", d.Find(nil, "by EMP-123456.")), "staff_id:EMP-123456"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	bad := good
	bad.NoMatch = []string{"x", "EMP-654321"}
	err := bad.Check()
	if err == nil || !strings.Contains(err.Error(), "no match 2") || strings.Contains(err.Error(), "654321") {
		t.Errorf("got %v, want an error that names the example without its text", err)
	}
}

func FuzzFind(f *testing.F) {
	for _, v := range clean {
		f.Add(v)
	}
	f.Add("a@b.cn １３８ 0013 8000 eyJ.a.b ://u:p@h 京A12345 password:\"\\\"")
	d := mustNew(f, Config{})
	f.Fuzz(func(t *testing.T, v string) {
		end := 0
		for _, g := range d.Find(nil, v) {
			if g.Start < end || g.End <= g.Start || g.End > len(v) || g.Class == "" || g.Rule == "" {
				t.Fatalf("%+v behind %d in %d bytes", g, end, len(v))
			}
			end = g.End
		}
	})
}
