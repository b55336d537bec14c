// Package interop holds the tests in which software written by others reads a Veritrail trail.
//
// A trail exports and serves itself as a C2SP tlog-tiles log (https://c2sp.org/tlog-tiles) under a C2SP
// tlog-checkpoint (https://c2sp.org/tlog-checkpoint). Two readers that share no code with us must accept it:
//
//   - fsck of Tessera, which rebuilds the whole tree from the entry bundles and compares every tile and the root
//     with what the log publishes;
//   - the client of Torchwood, which starts from the signed checkpoint, authenticates each tile that it reads, and
//     checks inclusion of single entries.
//
// The same readers must refuse a log in which one byte was changed; otherwise their agreement would mean nothing.
// The harness is itself tested against a log made by Tessera's own POSIX driver, so that what fails later is ours.
//
// This is a module of its own: its dependencies are no part of the product. It knows the product only as the built
// program and the bytes that come out of it, and imports no package of it.
package interop
