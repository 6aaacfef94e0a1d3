package pressure

import (
	"strings"
	"testing"
)

// A moment is no pressure, a threshold that is crossed to and fro is told once, and
// that it is over takes the margin.
func TestMeter(t *testing.T) {
	at := Threshold{Percent: 90, Margin: 5}
	for _, tt := range []struct {
		name string
		used []float64
		want map[int]Change // by reading
	}{
		{"calm from the beginning", []float64{10, 10, 10}, map[int]Change{1: Ends}},
		{"a moment", []float64{10, 10, 99, 10, 99, 10}, map[int]Change{1: Ends}},
		{"rises", []float64{95, 95, 95, 95}, map[int]Change{1: Rises}},
		{"flaps", []float64{91, 91, 89, 91, 86, 90, 88, 91, 91}, map[int]Change{1: Rises}},
		{"ends", []float64{91, 91, 84, 84, 84, 91, 91}, map[int]Change{1: Rises, 3: Ends, 6: Rises}},
		{"ends for a moment", []float64{91, 91, 84, 91, 84, 91}, map[int]Change{1: Rises}},
		{"between", []float64{87, 87, 87}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m Meter
			for i, used := range tt.used {
				if got := m.Note(used, at); got != tt.want[i] {
					t.Errorf("reading %d of %v: %d, want %d", i, used, got, tt.want[i])
				}
			}
		})
	}
	var m Meter
	m.Note(99, at)
	if got := m.Note(99, at); got != Rises {
		t.Fatal(got)
	}
	m.Note(99, Threshold{}) // it is switched off
	if got := m.Note(99, Threshold{}); got != Ends {
		t.Errorf("switched off: %d", got)
	}
}

func TestRead(t *testing.T) {
	d, err := Disk(t.Context(), t.TempDir())
	if err != nil || d.Percent < 0 || d.Percent > 100 || !strings.Contains(d.Left, "MiB are left") {
		t.Errorf("%+v, %v", d, err)
	}
	m, err := Memory(t.Context())
	if err != nil || m.Percent <= 0 || m.Percent >= 100 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := Disk(t.Context(), "/no/such/dir"); err == nil {
		t.Error("a directory that is not there has a file system")
	}
}
