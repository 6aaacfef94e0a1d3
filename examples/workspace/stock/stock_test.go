package stock

import (
	"errors"
	"testing"
)

func TestShort(t *testing.T) {
	var s Stock
	for _, item := range []Item{{"bolt", 10, 5}, {"nut", 3, 5}} {
		if err := s.Put(item); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Take("bolt", 6); err != nil {
		t.Fatal(err)
	}
	if short := s.Short(); len(short) != 2 || short[0].Name != "bolt" || short[1].Name != "nut" {
		t.Errorf("short is %v, want bolt and nut", short)
	}
	if err := s.Take("nail", 1); !errors.Is(err, ErrUnknown) {
		t.Errorf("taking what there is not: %v", err)
	}
}
