package plugin

import (
	"slices"
	"testing"
)

// A program in Go is told of the limit on its memory, unless the configuration says
// something else.
func TestEnvironmentTellsOfMemory(t *testing.T) {
	for _, tt := range []struct {
		memory int64
		env    []string
		want   []string
	}{
		{0, []string{"A=b"}, []string{"A=b"}},
		{100 << 20, nil, []string{"GOMEMLIMIT=94371840"}},
		{100 << 20, []string{"GOMEMLIMIT=off", "A=b"}, []string{"GOMEMLIMIT=off", "A=b"}},
	} {
		spec := &Spec{Env: tt.env, Limits: Limits{Memory: tt.memory}}
		if got := spec.environment(); !slices.Equal(got, tt.want) {
			t.Errorf("%v with %d bytes: %v, want %v", tt.env, tt.memory, got, tt.want)
		}
	}
}
