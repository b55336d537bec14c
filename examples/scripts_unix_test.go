//go:build unix

package examples

// scripts are the examples that need a shell.
var scripts = []example{
	{"curl", recordsOver(script("curl/record.sh")), []find{
		{[]string{"act=AUTH.LOGIN.OK", "sub.user=u1", "ctx.ip=192.0.2.7"}, 1},
		{[]string{"act=DATA.TRANSFER", "obj.account=62"}, 1},
		{[]string{"act=AUTH.LOGIN.FAIL", "sub.user=u2"}, 2},
		{[]string{"act=TRAIL.EVENT.REJECTED", "obj.path=/sub"}, 1},
	}},
}

func script(path string) func(url, tokenFile string) []string {
	return func(url, tokenFile string) []string { return []string{"sh", path, url, tokenFile} }
}
