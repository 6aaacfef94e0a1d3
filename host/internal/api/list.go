package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/filter"
	"github.com/sop-host/sop/sdk"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// pageSize is how many items a caller gets that asks for n.
func pageSize(n int32) int {
	if n <= 0 {
		return defaultPage
	}
	return min(int(n), maxPage)
}

// parseFilter reads the filter of a request.
func parseFilter(text string, fields filter.Schema) (*filter.Node, error) {
	n, err := filter.Parse(text, fields)
	return n, malformed("filter", "FILTER_INVALID", err)
}

// parseOrder reads the order of a request.
func parseOrder(text string, fields filter.Schema) ([]filter.Key, error) {
	keys, err := filter.ParseOrder(text, fields)
	return keys, malformed("order_by", "ORDER_INVALID", err)
}

// malformed says where a filter or an order is wrong, with the text and a caret.
func malformed(field, reason string, err error) error {
	var e *filter.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &e):
		return err
	}
	return sdk.Errorf(codes.InvalidArgument, reason, "%s, %s\n%s", field, e.Error(), e.Snippet()).
		WithField(field, "%s", e.Error()).WithRemedy("docs/api.md describes the language of filters and orders")
}

// listing is a list that is held in memory. Its items are few: it is put in
// order anew for each page.
type listing[T any] struct {
	fields filter.Schema
	usual  string // the order unless told otherwise: fields that no two items share all of
	value  func(item T, field string) filter.Value
}

// asked is what every request for a list says.
type asked interface {
	GetFilter() string
	GetOrderBy() string
	GetPageSize() int32
	GetPageToken() string
}

// page returns the items of one page, the token of the next one and how many
// items there are on all. An item that comes or goes meanwhile moves no other
// onto two pages or none.
func (l listing[T]) page(all []T, req asked) (items []T, next string, total int, err error) {
	where, err := parseFilter(req.GetFilter(), l.fields)
	if err != nil {
		return nil, "", 0, err
	}
	keys, err := parseOrder(joinOrders(req.GetOrderBy(), l.usual), l.fields)
	if err != nil {
		return nil, "", 0, err
	}
	of := func(item T) func(string) filter.Value {
		return func(field string) filter.Value { return l.value(item, field) }
	}
	for _, item := range all {
		if where.Match(of(item)) {
			items = append(items, item)
		}
	}
	total = len(items)
	slices.SortFunc(items, func(x, y T) int { return filter.Compare(keys, of(x), of(y)) })
	if req.GetPageToken() != "" {
		last, err := readPlace(req.GetPageToken(), keys)
		if err != nil {
			return nil, "", 0, err
		}
		items = slices.DeleteFunc(items, func(item T) bool { return filter.Compare(keys, of(item), last) <= 0 })
	}
	if size := pageSize(req.GetPageSize()); len(items) > size {
		items = items[:size]
		next, err = writePlace(keys, of(items[size-1]))
	}
	return items, next, total, err
}

// joinOrders makes an order total: what is usual decides where it does not.
func joinOrders(order, usual string) string {
	if order == "" {
		return usual
	}
	var named []string
	for key := range strings.SplitSeq(order, ",") {
		if words := strings.Fields(key); len(words) > 0 {
			named = append(named, words[0])
		}
	}
	for key := range strings.SplitSeq(usual, ", ") {
		if !slices.Contains(named, key) {
			order += ", " + key
		}
	}
	return order
}

func writePlace(keys []filter.Key, value func(string) filter.Value) (string, error) {
	place := make([]filter.Value, len(keys))
	for i, k := range keys {
		place[i] = value(k.Field.Name)
	}
	text, err := json.Marshal(place)
	return base64.RawURLEncoding.EncodeToString(text), err
}

// readPlace returns the values of the last item of the page before.
func readPlace(token string, keys []filter.Key) (func(string) filter.Value, error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	var place []filter.Value
	if err == nil {
		err = json.Unmarshal(text, &place)
	}
	if err != nil || len(place) != len(keys) {
		return nil, badPage()
	}
	return func(field string) filter.Value {
		i := slices.IndexFunc(keys, func(k filter.Key) bool { return k.Field.Name == field })
		return place[max(i, 0)]
	}, nil
}

func badPage() *sdk.Error {
	return sdk.Errorf(codes.InvalidArgument, "PAGE_TOKEN", "the page token was not given out for this request").
		WithRemedy("list again from the first page; what is asked for stays the same from page to page").WithField("page_token", "")
}
