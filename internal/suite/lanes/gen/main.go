// Gen writes the kernels of package lanes in Go assembly:
//
//	go run . DIR
//
// It is run by go generate in the directory above. TestKernelsAreAsGenerated
// holds the committed files to what it writes.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

// kernels are the files, by name.
var kernels = map[string]func(*build.Context){
	"sm3_avx2_amd64.s":   sm3AVX2,
	"sm3_avx512_amd64.s": sm3AVX512,
	"sha256_ni_amd64.s":  sha256NI,
}

// Where the fields of a program lie, in bytes: see program.go, which refuses to
// compile when they lie elsewhere.
const (
	fieldV      = 0
	fieldW      = 512
	fieldHead   = 1536
	fieldPrefix = 1600
	fieldOffset = 1664
	fieldReset  = 5760
	fieldOut    = 7808
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: gen DIR")
	}
	for name := range kernels {
		text, err := generate(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(args[0], name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func generate(name string) ([]byte, error) {
	c := build.NewContext()
	c.ConstraintExpr("amd64")
	kernels[name](c)
	f, err := c.Result()
	if err != nil {
		return nil, err
	}
	if err := pass.Compile.Execute(f); err != nil {
		return nil, err
	}
	return printer.NewGoAsm(printer.Config{Name: "gen", Argv: []string{"go", "generate"}}).Print(f)
}

// words is a read-only table, each word written copies times.
func words(c *build.Context, name string, copies int, values []uint32) operand.Mem {
	m := c.StaticGlobal(name)
	c.DataAttributes(attr.RODATA | attr.NOPTR)
	n := 0
	for _, v := range values {
		for range copies {
			c.AddDatum(4*n, operand.U32(v))
			n++
		}
	}
	return m
}

// function begins a kernel. Its first argument is a *program, which avo does not know.
func function(c *build.Context, name, doc string) {
	c.Function(name)
	c.Attributes(attr.NOSPLIT)
	c.SignatureExpr("func(p, lines *byte, steps int)")
	c.Doc(doc)
}

func must(ok bool, format string, args ...any) {
	if !ok {
		panic(fmt.Sprintf(format, args...))
	}
}
