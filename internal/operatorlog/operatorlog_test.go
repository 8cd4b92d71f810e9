package operatorlog

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// here is the database of the tests.
var here = Database{SystemID: 7, Timeline: 1, DatabaseID: 16384, TableID: 16400}

// chained links entries and sets their hashes.
func chained(entries []Entry) []Entry {
	var previous Hash
	for i := range entries {
		e := &entries[i]
		e.Seq, e.Previous = int64(i+1), previous
		e.Hash = e.Sum()
		previous = e.Hash
	}
	return entries
}

// log returns a whole log with n rows.
func log(n int) []Entry {
	entries := make([]Entry, n)
	for i := range entries {
		entries[i] = Entry{
			Format: Format, At: time.UnixMicro(1_700_000_000_000_000 + int64(i)).UTC(), Database: here,
			Role: "ops", ClientAddress: "10.0.0.1",
			Operator: Operator{OSUser: "root", Host: "ops-1", Version: "v1", Command: "partitions halt"},
			Action:   "partitions halt", Phase: Done, Arguments: json.RawMessage(`{"partition":3}`),
			Before: json.RawMessage(`null`), After: json.RawMessage(`null`),
		}
	}
	return chained(entries)
}

func verify(entries []Entry, head *Head, kept *Head, at Database) Report {
	v := NewVerifier(kept)
	for _, e := range entries {
		if !v.Add(e) {
			break
		}
	}
	return v.Report(head, at)
}

// TestSum has the hash of a fixed row, computed in Python from the documented encoding. Stored
// hashes depend on it: it never changes.
func TestSum(t *testing.T) {
	e := log(1)[0]
	const want = "ebf70304521187439020293be2609012da06dcb9739d7a314e93749f5200761b"
	if got := e.Sum().String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSum_Fields: each member of a row changes the hash.
func TestSum_Fields(t *testing.T) {
	original := log(1)[0]
	seen := map[Hash]string{original.Sum(): "nothing"}
	for name, change := range map[string]func(*Entry){
		"seq":            func(e *Entry) { e.Seq++ },
		"at":             func(e *Entry) { e.At = e.At.Add(time.Microsecond) },
		"system":         func(e *Entry) { e.Database.SystemID++ },
		"timeline":       func(e *Entry) { e.Database.Timeline++ },
		"database":       func(e *Entry) { e.Database.DatabaseID++ },
		"table":          func(e *Entry) { e.Database.TableID++ },
		"role":           func(e *Entry) { e.Role += "x" },
		"client address": func(e *Entry) { e.ClientAddress += "x" },
		"os user":        func(e *Entry) { e.OSUser += "x" },
		"host":           func(e *Entry) { e.Host += "x" },
		"version":        func(e *Entry) { e.Version += "x" },
		"command":        func(e *Entry) { e.Command += "x" },
		"action":         func(e *Entry) { e.Action += "x" },
		"phase":          func(e *Entry) { e.Phase = Ended },
		"begun":          func(e *Entry) { e.Begun++ },
		"result":         func(e *Entry) { e.Result = Failed },
		"arguments":      func(e *Entry) { e.Arguments = json.RawMessage(`{"partition": 3}`) },
		"before":         func(e *Entry) { e.Before = json.RawMessage(`{}`) },
		"after":          func(e *Entry) { e.After = json.RawMessage(`{}`) },
		"previous":       func(e *Entry) { e.Previous[0]++ },
		// Text that moves from one member to the next.
		"border": func(e *Entry) { e.OSUser, e.Host = "roo", "tops-1" },
	} {
		e := original
		change(&e)
		if other, ok := seen[e.Sum()]; ok {
			t.Errorf("%s: got the same hash as with %s changed, want another", name, other)
		}
		seen[e.Sum()] = name
	}
}

// TestVerifier finds each kind of tampering and names the first bad row. The untouched log is the
// control.
func TestVerifier(t *testing.T) {
	const rows = 9
	for name, row := range map[string]struct {
		tamper   func([]Entry) []Entry
		firstBad int64
		fault    string
	}{
		"untouched": {func(l []Entry) []Entry { return l }, 0, ""},
		"changed": {func(l []Entry) []Entry {
			l[4].Arguments = json.RawMessage(`{"partition":4}`)
			return l
		}, 5, "does not have the content that was hashed"},
		"changed and hashed again": {func(l []Entry) []Entry {
			l[4].Arguments = json.RawMessage(`{"partition":4}`)
			l[4].Hash = l[4].Sum()
			return l
		}, 5, "row 5 is not the row that row 6 continues"},
		"the last changed and hashed again": {func(l []Entry) []Entry {
			l[8].Role = "another"
			l[8].Hash = l[8].Sum()
			return l
		}, 9, "row 9 is not the row that the log ends with"},
		"removed":       {func(l []Entry) []Entry { return slices.Delete(l, 4, 5) }, 5, "row 5 is missing"},
		"first removed": {func(l []Entry) []Entry { return l[1:] }, 1, "row 1 is missing"},
		"removed, the others moved up": {func(l []Entry) []Entry {
			l = slices.Delete(l, 4, 5)
			for i := range l {
				l[i].Seq = int64(i + 1)
			}
			return l
		}, 5, "does not have the content"},
		"swapped": {func(l []Entry) []Entry {
			l[4], l[5] = l[5], l[4]
			l[4].Seq, l[5].Seq = 5, 6
			return l
		}, 5, "does not have the content"},
		"inserted": {func(l []Entry) []Entry {
			l = slices.Insert(l, 4, l[3])
			for i := range l {
				l[i].Seq = int64(i + 1)
			}
			return l
		}, 5, "does not have the content"},
		"appended": {
			func(l []Entry) []Entry { return chained(append(l, l[0])) },
			10, "row 10 was not written by a command",
		},
		"cut":     {func(l []Entry) []Entry { return l[:6] }, 7, "rows 7 to 9 are cut off"},
		"emptied": {func([]Entry) []Entry { return nil }, 1, "rows 1 to 9 are cut off"},
		"begins with another row": {func(l []Entry) []Entry {
			l[0].Previous[0]++
			l[0].Hash = l[0].Sum()
			return l
		}, 1, "row 1"},
		"unknown format": {func(l []Entry) []Entry {
			l[4].Format++
			return l
		}, 5, "format 2"},
	} {
		entries := log(rows)
		head := entries[rows-1].Head()
		r := verify(row.tamper(entries), &head, nil, here)
		want := Tampered
		if row.firstBad == 0 {
			want = Intact
		}
		if r.Verdict != want || r.FirstBad != row.firstBad || !strings.Contains(r.Fault, row.fault) {
			t.Errorf("%s: got %s, row %d, %q; want %s, row %d, %q", name, r.Verdict, r.FirstBad, r.Fault,
				want, row.firstBad, row.fault)
		}
	}
	if r := verify(log(rows), nil, nil, here); r.Verdict != Tampered {
		t.Errorf("without the head's row: got %s, want %s", r.Verdict, Tampered)
	}
	if r := verify(nil, &Head{}, nil, here); r.Verdict != Intact || r.Rows != 0 {
		t.Errorf("an empty log: got %+v, want an intact one", r)
	}
}

// TestVerifier_Kept: a head that was kept elsewhere shows what the log alone does not: a tail that
// was cut off with the head, a chain that was rewritten, and a copy that was restored.
func TestVerifier_Kept(t *testing.T) {
	const rows = 9
	whole := log(rows)
	rewritten := log(rows)
	rewritten[4].Role = "another"
	chained(rewritten)
	promoted := here
	promoted.Timeline++
	restored := here
	restored.TableID++
	writtenOn := append(slices.Clone(whole[:6]), whole[6:8]...)
	for i := range writtenOn[6:] {
		writtenOn[6+i].Database = restored
	}
	chained(writtenOn)
	kept := whole[7].Head()
	for name, row := range map[string]struct {
		entries  []Entry
		at       Database
		verdict  Verdict
		firstBad int64
		moves    int
	}{
		"whole":                     {whole, here, Intact, 0, 0},
		"whole, after failover":     {whole, promoted, Intact, 0, 1},
		"cut":                       {whole[:6], here, Tampered, 7, 0},
		"rewritten":                 {rewritten, here, Tampered, 8, 0},
		"older copy":                {whole[:6], restored, OtherCopy, 0, 1},
		"older copy, point in time": {whole[:6], promoted, OtherCopy, 0, 1},
		"older copy, written on":    {writtenOn, restored, OtherCopy, 0, 1},
		"emptied":                   {nil, here, Tampered, 1, 0},
	} {
		head := Head{}
		if n := len(row.entries); n > 0 {
			head = row.entries[n-1].Head()
		}
		if r := verify(row.entries, &head, nil, row.at); r.Verdict != Intact {
			t.Errorf("%s, no head kept: got %s, %q; want %s: the case shows nothing", name, r.Verdict, r.Fault, Intact)
		}
		r := verify(row.entries, &head, &kept, row.at)
		if r.Verdict != row.verdict || r.FirstBad != row.firstBad || r.MovesTotal != row.moves {
			t.Errorf("%s: got %s, row %d, %d moves, %q; want %s, row %d, %d moves", name, r.Verdict, r.FirstBad,
				r.MovesTotal, r.Fault, row.verdict, row.firstBad, row.moves)
		}
	}
}

// TestVerifier_Unended counts operations that began and did not end.
func TestVerifier_Unended(t *testing.T) {
	entries := log(4)
	entries[0].Phase, entries[1].Phase = Begun, Begun
	entries[2].Phase, entries[2].Begun, entries[2].Result = Ended, 1, Succeeded
	chained(entries)
	head := entries[3].Head()
	if r := verify(entries, &head, nil, here); r.Verdict != Intact || r.Unended != 1 {
		t.Errorf("got %s, %d unended; want %s, 1", r.Verdict, r.Unended, Intact)
	}
}

// TestHead_Text: a head is read as it is printed, and nothing else is.
func TestHead_Text(t *testing.T) {
	want := log(3)[2].Head()
	var got Head
	if err := got.UnmarshalText([]byte(" " + want.String() + "\n")); err != nil || got != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	digits := strings.Repeat("0a", 32)
	for _, text := range []string{
		"", "3", "3:", ":" + digits, "0:" + digits, "-1:" + digits, "3:" + digits + "00", "3:0a",
		"3:" + digits[1:] + "g",
	} {
		if err := got.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "17:") {
			t.Errorf("%q: got %v, want an error that shows the form", text, err)
		}
	}
}

// TestBounded: what the program reports of itself always fits the log.
func TestBounded(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"root", "root"},
		{"", "unknown"},
		{"a\x00b\xff", "a?b?"},
		{"12345678", "1234567"},
		{"123456ü", "123456"},
	} {
		if got := bounded(row.text, 7); got != row.want {
			t.Errorf("%q: got %q, want %q", row.text, got, row.want)
		}
	}
	o := ThisProcess(strings.Repeat("c", 100))
	if len(o.Command) != commandBytesMax || o.OSUser == "" || o.Host == "" || o.Version == "" {
		t.Errorf("got %+v, want all fields within their bounds", o)
	}
}
