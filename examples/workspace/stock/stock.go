// Package stock keeps how many there are of each item.
package stock

import (
	"errors"
	"fmt"
	"sort"
)

// An Item is one kind of thing on the shelves.
type Item struct {
	Name    string
	Count   int
	Reorder int // the count below which more are ordered
}

// A Stock holds items by name. The zero value is empty and ready for use.
type Stock struct{ items map[string]Item }

var ErrUnknown = errors.New("no such item")

func (s *Stock) Put(item Item) error {
	if item.Name == "" || item.Count < 0 {
		return fmt.Errorf("item %q with count %d makes no sense", item.Name, item.Count)
	}
	if s.items == nil {
		s.items = make(map[string]Item)
	}
	s.items[item.Name] = item
	return nil
}

// Take removes n of an item, or fails and removes none.
func (s *Stock) Take(name string, n int) error {
	item, ok := s.items[name]
	if !ok {
		return fmt.Errorf("take %s: %w", name, ErrUnknown)
	}
	if n < 0 || n > item.Count {
		return fmt.Errorf("take %d of %s: there are %d", n, name, item.Count)
	}
	item.Count -= n
	s.items[name] = item
	return nil
}

func (s *Stock) Short() []Item {
	var short []Item
	for _, item := range s.items {
		if item.Count < item.Reorder {
			short = append(short, item)
		}
	}
	sort.Slice(short, func(i, j int) bool { return short[i].Name < short[j].Name })
	return short
}
