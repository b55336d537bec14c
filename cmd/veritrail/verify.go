package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/keys"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/verify"
)

type verifyFlags struct {
	checkpoints, keys []string
	token, ca         string
	asJSON            bool
	workers           int
}

func newVerify() *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use:   "verify [DIR|CASE.zip|URL]",
		Short: "Check a trail, exported tiles, a case, or a served log; offline but for a URL",
		Long: `Reads everything again, from the bytes of each event up to the signatures, and says
one of three things:

  intact            all of it holds                                     exit code 0
  contradicted      something was changed, removed, inserted, forged    exit code 1
  could not check   a part is missing or cannot be read                 exit code 3

Give the public keys with --key, from a source of their own: keys that come with
the evidence only show that it agrees with itself. Give checkpoints kept elsewhere
with --checkpoint: nothing else shows that a trail was set back to an older state.
The checkpoint that up and record keep outside of the trail's directory on this
machine is compared without asking.

Without an argument it checks the trail that veritrail up writes by default.`,
		Example: `  veritrail verify trail
  veritrail verify trail --key bank.vkeys --checkpoint last-month.checkpoint
  veritrail verify case.zip --key bank.vkeys
  veritrail verify https://log.example.com --token-file token --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			target := ""
			if len(args) == 1 {
				target = args[0]
			}
			return runVerify(cmd, target, &f)
		},
	}
	c.Flags().StringArrayVar(&f.checkpoints, "checkpoint", nil, "compare with the checkpoint kept in `FILE` (may be repeated)")
	c.Flags().StringArrayVar(&f.keys, "key", nil, "trust this vkey, or those in this `FILE` (may be repeated)")
	c.Flags().StringVar(&f.token, "token-file", "", "`FILE` with the API token, for a URL")
	c.Flags().StringVar(&f.ca, "ca", "", "`FILE` with the certificates (PEM) to trust, for a URL")
	c.Flags().BoolVar(&f.asJSON, "json", false, "the whole report as JSON")
	c.Flags().IntVar(&f.workers, "workers", 0, "hash with so many goroutines (0: one a processor)")
	return c
}

func runVerify(cmd *cobra.Command, target string, f *verifyFlags) error {
	opt := verify.Options{Workers: f.workers}
	for _, name := range f.checkpoints {
		note, err := os.ReadFile(name)
		if err != nil {
			return usageError("--checkpoint: %w", err)
		}
		opt.Checkpoints = append(opt.Checkpoints, verify.Kept{Name: name, Note: note})
	}
	for _, k := range f.keys {
		vkeys, err := keysFrom(k)
		if err != nil {
			return usageError("--key: %w", err)
		}
		opt.Keys = append(opt.Keys, vkeys...)
	}
	p := newProgress("verifying")
	opt.Progress = func(done, total int64) {
		if total > 0 {
			p.show("%d %%", done*100/total)
		}
	}
	report, err := verifyTarget(cmd.Context(), target, f, &opt)
	p.clear()
	if err != nil {
		return err
	}
	if f.asJSON {
		err = printJSON(cmd.OutOrStdout(), report)
	} else {
		err = printReport(cmd.OutOrStdout(), report, len(opt.Checkpoints))
	}
	if err != nil {
		return err
	}
	switch report.Outcome {
	case verify.Intact:
		return nil
	case verify.Contradicted:
		return &coded{exitNotHeld, errReported}
	default:
		return &coded{exitNotDone, errReported}
	}
}

// keysFrom reads a vkey, or a file of vkeys.
func keysFrom(s string) ([]string, error) {
	text := []byte(s)
	if _, err := os.Stat(s); err == nil || !strings.Contains(s, "+") {
		if text, err = os.ReadFile(s); err != nil {
			return nil, err
		}
	}
	verifiers, err := keys.ParseVKeys(text)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, v := range verifiers {
		out = append(out, v.String())
	}
	return out, nil
}

func verifyTarget(ctx context.Context, target string, f *verifyFlags, opt *verify.Options) (*verify.Report, error) {
	if strings.HasPrefix(target, "http://") || strings.HasPrefix(target, "https://") {
		fetcher, err := newHTTPFetcher(target, f.token, f.ca)
		if err != nil {
			return nil, err
		}
		return verify.Tiles(ctx, fetcher, *opt)
	}
	dir, err := dataDir(target)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, explainNoTrail(dir, err)
	}
	if !info.IsDir() {
		file, err := os.Open(dir)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return verify.Case(ctx, file, info.Size(), *opt)
	}
	id, err := trail.ReadIdentity(dir)
	if errors.Is(err, trail.ErrNoTrail) {
		if _, err := os.Stat(filepath.Join(dir, trail.CheckpointFile)); err == nil {
			if _, err := os.Stat(filepath.Join(dir, trail.SegmentsDir)); errors.Is(err, fs.ErrNotExist) {
				return verify.Tiles(ctx, verify.Dir(dir), *opt)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, trail.SegmentsDir)); err != nil {
			return nil, usageError("%s: neither a trail nor exported tiles", dir)
		}
	}
	if err == nil {
		note, name, err := readKept(id)
		if err != nil {
			return nil, fmt.Errorf("the checkpoint kept on this machine: %w", err)
		}
		if note != nil {
			opt.Checkpoints = append(opt.Checkpoints, verify.Kept{Name: name, Note: note})
		}
	}
	return verify.Trail(ctx, dir, *opt)
}

// printReport writes a report for people. It was to be compared with so many
// kept checkpoints.
func printReport(out io.Writer, r *verify.Report, kept int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n", strings.ToUpper(r.Outcome.String()), r.Kind)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", name, safe(fmt.Sprintf(format, args...)))
	}
	if r.Origin != "" {
		row("origin", "%s", r.Origin)
	}
	if r.Kind == verify.KindCase {
		row("events", "%s, of a log of %s", count(r.Events), count(r.Size))
	} else {
		row("size", "%s events (%s bytes)", count(r.Size), count(r.Bytes))
		if r.Size > r.Sealed && r.Outcome != verify.Contradicted {
			row("unsealed", "%s events are durable, not yet sealed", count(r.Size-r.Sealed))
		}
	}
	if r.Root != "" {
		row("root", "%s  (SHA-256, of %s events)", r.Root, count(r.Sealed))
	}
	if r.SM3Root != "" {
		row("", "%s  (SM3)", r.SM3Root)
	}
	for _, k := range r.Keys {
		signed := "signed"
		if !k.Signed {
			signed = "did not sign"
		}
		row("key", "%s  (%s, %s)", k.VKey, k.Algorithm, signed)
	}
	if !r.KeysPinned {
		row("", "these keys came with the evidence: compare them with ones you got elsewhere (--key)")
	}
	for _, name := range r.Compared {
		row("compared", "%s agrees", name)
	}
	if kept == 0 {
		row("compared", "with no kept checkpoint: an older state of the same log would look just as intact (--checkpoint)")
	}
	if r.Lost > 0 {
		row("lost", "%s events were refused or not made durable, by the trail's own account", count(r.Lost))
	}
	if !r.FirstTime.IsZero() {
		row("written", "%s to %s", r.FirstTime.Format(time.RFC3339), r.LastTime.Format(time.RFC3339))
	}
	row("took", "%s", time.Duration(r.Elapsed).Round(time.Millisecond))
	if len(r.Findings) > 0 {
		b.WriteString("\nfindings\n")
		for _, finding := range r.Findings {
			fmt.Fprintf(&b, "  %s\n", safe(finding.String()))
		}
		if r.Omitted > 0 {
			fmt.Fprintf(&b, "  and %s more\n", count(r.Omitted))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// httpFetcher reads a served log.
type httpFetcher struct {
	base   *url.URL
	client *http.Client
	token  string
}

// maxResource is more than the largest thing a tlog-tiles log serves: an entry
// bundle of 256 leaves of 64 KiB.
const maxResource = 32 << 20

func newHTTPFetcher(base, tokenFile, caFile string) (*httpFetcher, error) {
	u, err := url.Parse(strings.TrimSuffix(base, "/"))
	if err != nil || u.Host == "" {
		return nil, usageError("%.200q is not a URL", base)
	}
	f := &httpFetcher{base: u}
	if tokenFile != "" {
		if f.token, err = readToken(tokenFile); err != nil {
			return nil, err
		}
	}
	f.client, err = newHTTPClient(caFile)
	return f, err
}

func newHTTPClient(caFile string) (*http.Client, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: 30 * time.Second, MaxIdleConnsPerHost: 8,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, usageError("--ca: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usageError("--ca: %s: no certificate in it", caFile)
		}
	}
	return &http.Client{Transport: transport, Timeout: 2 * time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("redirected: name the address it leads to") // a token must not follow
	}}, nil
}

// Fetch implements verify.Fetcher.
func (f *httpFetcher) Fetch(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base.JoinPath(path).String(), nil)
	if err != nil {
		return nil, err
	}
	if f.token != "" {
		req.Header.Set("Authorization", "Bearer "+f.token)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	default:
		return nil, fmt.Errorf("%s: the server answers %s", path, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxResource+1))
	if err == nil && len(b) > maxResource {
		err = fmt.Errorf("%s: more than %d bytes", path, maxResource)
	}
	return b, err
}

func readToken(name string) (string, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return "", usageError("token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", usageError("token: %s: want one line without white space", name)
	}
	return token, nil
}
