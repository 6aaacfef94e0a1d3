package cli

// everyPage asks for one page after the other until there are no more. The first
// has the empty token.
func everyPage[T any](ask func(token string) (items []T, next string, err error)) ([]T, error) {
	var all []T
	for token := ""; ; {
		items, next, err := ask(token)
		if err != nil {
			return nil, err
		}
		if all = append(all, items...); next == "" {
			return all, nil
		}
		token = next
	}
}
