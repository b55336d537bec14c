package evidence

import (
	"archive/zip"
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// The parts of a ZIP that archive/zip reads past (APPNOTE.TXT §4.3).
const (
	localHeaderSig   = 0x04034b50
	descriptorSig    = 0x08074b50
	directoryEndSig  = 0x06054b50
	directory64Sig   = 0x06064b50
	locator64Sig     = 0x07064b50
	localHeaderLen   = 30
	directoryEndLen  = 22
	directory64Len   = 56
	locator64Len     = 20
	maxDirectory     = 64 << 10
	maxExtra         = 64
	maxDeflateRatio  = 1032 // what DEFLATE can reach at most
	flagEncrypted    = 0x1 | 0x40 | 0x2000
	flagDescriptor   = 0x8
	maxFilesInCase   = 7 + maxSchemas
	uint16max        = 1<<16 - 1
	uint32max        = 1<<32 - 1
	unknownZIPLayout = "has bytes that belong to no file"
)

type corruptInput = flate.CorruptInputError

func sortedNames(files map[string]FileInfo) []string { return slices.Sorted(maps.Keys(files)) }

// openZIP reads the directory of a ZIP and accepts one that can be read in one
// way only: names of a case, each once, each the same at both places where a
// ZIP keeps it, one file behind the other with nothing before, between or
// after them. Two programs then cannot find different files in it.
func openZIP(r io.ReaderAt, size int64) (map[string]*zip.File, error) {
	dirStart, err := findDirectory(r, size)
	if err != nil {
		return nil, err
	}
	z, err := zip.NewReader(r, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		if errors.Is(err, zip.ErrFormat) || errors.Is(err, zip.ErrAlgorithm) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, &Malformed{Problem: "its directory is damaged"}
		}
		return nil, fmt.Errorf("case: %w", err)
	}
	if z.Comment != "" {
		return nil, &Malformed{Problem: unknownZIPLayout}
	}
	files := make(map[string]*zip.File, len(z.File))
	for _, f := range z.File {
		if err := checkEntry(f); err != nil {
			return nil, err
		}
		if files[f.Name] != nil {
			return nil, &Malformed{File: f.Name, Problem: "twice in the case"}
		}
		files[f.Name] = f
	}
	return files, checkLayout(r, z.File, dirStart)
}

// checkEntry judges a file by what the directory says of it. A quoted name is
// cut, since nothing is known of it.
func checkEntry(f *zip.File) error {
	limit := maxBytes(f.Name)
	if limit == 0 {
		return &Malformed{Problem: fmt.Sprintf("%.64q is no file of a case", f.Name)}
	}
	bad := func(problem string) error { return &Malformed{File: f.Name, Problem: problem} }
	switch {
	case f.Flags&flagEncrypted != 0:
		return bad("encrypted")
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return bad(fmt.Sprintf("compression method %d is neither stored nor deflate", f.Method))
	case !f.Mode().IsRegular():
		return bad("not a regular file")
	case f.Comment != "" || len(f.Extra) > maxExtra:
		return bad(unknownZIPLayout)
	case f.UncompressedSize64 > limit:
		return bad(fmt.Sprintf("larger than %d bytes", limit))
	case f.Method == zip.Store && f.UncompressedSize64 != f.CompressedSize64:
		return bad("stored, but in another size than its own")
	case f.UncompressedSize64/maxDeflateRatio > f.CompressedSize64:
		return bad("its size is more than its compressed data can hold")
	}
	return nil
}

// findDirectory reads the end of the ZIP and returns where its directory
// begins. It holds archive/zip to a directory of bounded size, and leaves no
// room between the directory and the end.
func findDirectory(r io.ReaderAt, size int64) (uint64, error) {
	bad := func(problem string) (uint64, error) { return 0, &Malformed{Problem: problem} }
	if size < directoryEndLen {
		return bad("too short for a ZIP")
	}
	var end [directoryEndLen]byte
	at := uint64(size) - directoryEndLen
	if err := readAt(r, end[:], at); err != nil {
		return 0, err
	}
	le := binary.LittleEndian
	if le.Uint32(end[:]) != directoryEndSig || le.Uint16(end[20:]) != 0 {
		return bad("does not end like a ZIP without a comment; cut off?")
	}
	if le.Uint16(end[4:]) != 0 || le.Uint16(end[6:]) != 0 {
		return bad("in several volumes")
	}
	records, dirLen, start := uint64(le.Uint16(end[10:])), uint64(le.Uint32(end[12:])), uint64(le.Uint32(end[16:]))
	if at >= locator64Len+directory64Len {
		var locator [locator64Len]byte
		if err := readAt(r, locator[:], at-locator64Len); err != nil {
			return 0, err
		}
		if le.Uint32(locator[:]) == locator64Sig {
			at -= locator64Len + directory64Len
			var end64 [directory64Len]byte
			if err := readAt(r, end64[:], at); err != nil {
				return 0, err
			}
			if le.Uint64(locator[8:]) != at || le.Uint32(end64[:]) != directory64Sig || le.Uint64(end64[4:]) != directory64Len-12 {
				return bad("its ZIP64 end is damaged")
			}
			// Otherwise the two ends could lead two programs to two directories.
			if records != uint16max || dirLen != uint32max || start != uint32max {
				return bad("its two ends disagree")
			}
			records, dirLen, start = le.Uint64(end64[32:]), le.Uint64(end64[40:]), le.Uint64(end64[48:])
		}
	}
	if records > maxFilesInCase || dirLen > maxDirectory {
		return bad(fmt.Sprintf("more than %d files", maxFilesInCase))
	}
	if start > at || at-start != dirLen {
		return bad(unknownZIPLayout)
	}
	return start, nil
}

// checkLayout walks the files as they lie one behind the other up to the directory.
func checkLayout(r io.ReaderAt, files []*zip.File, dirStart uint64) error {
	type placed struct {
		*zip.File
		data uint64
	}
	var order []placed
	for _, f := range files {
		data, err := f.DataOffset()
		if err != nil {
			return readError(f.Name, err)
		}
		if data < 0 {
			return &Malformed{File: f.Name, Problem: unknownZIPLayout}
		}
		order = append(order, placed{f, uint64(data)})
	}
	slices.SortStableFunc(order, func(a, b placed) int { return cmp.Compare(a.data, b.data) })
	var at uint64
	for _, f := range order {
		bad := func(problem string) error { return &Malformed{File: f.Name, Problem: problem} }
		le := binary.LittleEndian
		header := make([]byte, localHeaderLen+len(f.Name))
		if err := readAt(r, header, at); err != nil {
			return err
		}
		extra := uint64(le.Uint16(header[28:]))
		switch {
		case le.Uint32(header) != localHeaderSig,
			extra > maxExtra,
			at+localHeaderLen+uint64(le.Uint16(header[26:]))+extra != f.data:
			return bad("before it the ZIP " + unknownZIPLayout)
		case int(le.Uint16(header[26:])) != len(f.Name), !bytes.Equal(header[localHeaderLen:], []byte(f.Name)),
			le.Uint16(header[6:]) != f.Flags, le.Uint16(header[8:]) != f.Method:
			return bad("its header says otherwise than the directory")
		}
		if f.CompressedSize64 > dirStart {
			return bad("reaches past the end of the files")
		}
		at = f.data + f.CompressedSize64
		if f.Flags&flagDescriptor != 0 {
			want := le.AppendUint32(nil, descriptorSig)
			want = le.AppendUint32(want, f.CRC32)
			if f.CompressedSize64 >= uint32max || f.UncompressedSize64 >= uint32max {
				want = le.AppendUint64(le.AppendUint64(want, f.CompressedSize64), f.UncompressedSize64)
			} else {
				want = le.AppendUint32(le.AppendUint32(want, uint32(f.CompressedSize64)), uint32(f.UncompressedSize64))
			}
			got := make([]byte, len(want))
			if err := readAt(r, got, at); err != nil {
				return err
			}
			if !bytes.Equal(got, want) {
				return bad("what stands behind it says otherwise than the directory")
			}
			at += uint64(len(want))
		}
	}
	if at != dirStart {
		return &Malformed{Problem: unknownZIPLayout}
	}
	return nil
}

// readAt fills b from an offset that the ZIP gave, which may lie outside of it.
func readAt(r io.ReaderAt, b []byte, at uint64) error {
	if at > 1<<62 {
		return &Malformed{Problem: "cut off"}
	}
	n, err := r.ReadAt(b, int64(at))
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return &Malformed{Problem: "cut off"}
	}
	return fmt.Errorf("case: %w", err)
}
