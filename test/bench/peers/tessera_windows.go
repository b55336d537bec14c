package main

const tesseraName = "Tessera, POSIX"

func tesseraSettings(int) string { return "" }

// tessera has no turn: Tessera's POSIX driver does not compile for Windows.
func (b *bench) tessera(int) func(string) (result, error) { return nil }
