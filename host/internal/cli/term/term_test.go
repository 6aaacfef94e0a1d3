package term

import (
	"strings"
	"testing"
)

func TestSafe(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"plain text", "plain text"},
		{"größe 漢字 é", "größe 漢字 é"},
		{"\x1b[2J", `\x1b[2J`},
		{"a\nb\tc\r", `a\nb\tc\r`},
		{"\x7f", `\x7f`},
		{"\u009b31m", `\u009b31m`},
		{"\u202egnp.exe", `\u202egnp.exe`},
		{"\u2066x\u2069", `\u2066x\u2069`},
		{"zero\u200bwidth\ufeff", `zero\u200bwidth\ufeff`},
		{"\U000e0041", `\U000e0041`},
		{"bad\xffbyte", `bad\xffbyte`},
		{"line\u2028sep", `line\u2028sep`},
	} {
		if got := Safe(tt.in); got != tt.want {
			t.Errorf("Safe(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
	if got, want := SafeLines("a\r\n\tb\x1b\n"), "a\n\tb\\x1b\n"; got != want {
		t.Errorf("SafeLines = %q, want %q", got, want)
	}
}

func TestWidth(t *testing.T) {
	for in, want := range map[string]int{"": 0, "abc": 3, "漢字": 4, "e\u0301": 1, "ｆ": 2, "é": 1, "🙂": 2} {
		if got := Width(in); got != want {
			t.Errorf("Width(%q) = %d, want %d", in, got, want)
		}
	}
}

func TestTruncate(t *testing.T) {
	for _, tt := range []struct {
		in      string
		columns int
		want    string
	}{
		{"abcdef", 6, "abcdef"},
		{"abcdef", 4, "abc…"},
		{"漢字漢字", 4, "漢…"},
		{"abc", 0, ""},
		{"abc", 1, "…"},
	} {
		got := Truncate(tt.in, tt.columns)
		if got != tt.want || Width(got) > max(tt.columns, 0) {
			t.Errorf("Truncate(%q, %d) = %q, want %q", tt.in, tt.columns, got, tt.want)
		}
	}
}

func TestTable(t *testing.T) {
	fill := func(table *Table) string {
		table.Row(Text("漢字"), Text("a message that is long"), Text("end"))
		table.Row(Text("x"), Text("short"), Text(""))
		var b strings.Builder
		if _, err := table.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	want := "A     B                       C\n漢字  a message that is long  end\nx     short\n"
	if got := fill(NewTable(false, 0, 1, "A", "B", "C")); got != want {
		t.Errorf("whole table:\n%s\nwant:\n%s", got, want)
	}
	want = "A     B                 C\n漢字  a message that …  end\nx     short\n"
	if got := fill(NewTable(false, 27, 1, "A", "B", "C")); got != want {
		t.Errorf("cut table:\n%s\nwant:\n%s", got, want)
	}
	for width := 1; width < 40; width++ {
		for line := range strings.Lines(fill(NewTable(false, width, 1, "A", "B", "C"))) {
			if got := Width(strings.TrimSuffix(line, "\n")); got > width && width > 7 {
				t.Errorf("width %d: line takes %d columns: %q", width, got, line)
			}
		}
	}
	if got := fill(NewTable(true, 0, 1, "A", "B", "C")); !strings.Contains(got, "\x1b[1mA\x1b[0m") {
		t.Errorf("no colour in %q", got)
	}
}
