package main

import "os"

// notifyHangup tells of nothing: Windows has no such signal. Closing the
// console ends the program in order, as SIGTERM does elsewhere.
func notifyHangup() <-chan os.Signal { return nil }
