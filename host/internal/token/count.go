package token

// Count is how many tokens of a type are in a state.
type Count struct {
	Type   Type
	State  State
	Tokens int
}

// TypeOf returns the type that a secret says it has, and false for a text that
// is no secret.
func TypeOf(text string) (Type, bool) {
	if _, err := ParseSecret(text); err != nil {
		return "", false
	}
	letter := text[prefixLen-2]
	for _, t := range Types() {
		if t.letter() == letter {
			return t, true
		}
	}
	return "", false
}
