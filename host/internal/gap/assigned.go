package gap

import "strings"

// secretNames end the part of a name that says that its value is a secret, in
// lower case.
var secretNames = []string{
	"password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "credential", "credentials",
	"apikey", "api_key", "api-key", "accesskey", "access_key", "access-key", "privatekey", "private_key", "private-key",
	"encryptionkey", "encryption_key", "encryption-key", "signingkey", "signing_key", "signing-key",
	"accountkey", "account_key", "account-key", "authkey", "auth_key", "auth-key",
}

// redactAssigned replaces what is assigned to a name that says that it is
// secret: name = "value" in quotes of any kind, and name=value or name: value
// as in .env files, YAML and command lines.
func redactAssigned(text string) string {
	var out strings.Builder
	kept := 0 // text[:kept] is in out
	for i := 0; i < len(text); i++ {
		end := secretNameAt(text, i)
		if end == 0 {
			continue
		}
		for end < len(text) && (classOf(text[end]) != 0 || text[end] == '_' || text[end] == '-') {
			end++ // the rest of the name
		}
		from, to, quoted := assignedValue(text, end)
		if to > from {
			out.WriteString(text[kept:from])
			if quoted {
				out.WriteString(`"` + redacted + `"`)
			} else {
				out.WriteString(redacted)
			}
			kept = to
			end = to
		}
		i = end - 1
	}
	if kept == 0 {
		return text
	}
	out.WriteString(text[kept:])
	return out.String()
}

// secretNamesBy holds the secretNames by their first two letters.
var secretNamesBy = func() map[[2]byte][]string {
	by := make(map[[2]byte][]string)
	for _, name := range secretNames {
		key := [2]byte{name[0], name[1]}
		by[key] = append(by[key], name)
	}
	return by
}()

// secretNameAt returns where the name of a secret that begins at i ends; 0 when
// none begins there.
func secretNameAt(text string, i int) int {
	switch text[i] | 0x20 {
	case 'p', 's', 't', 'c', 'a', 'e':
	default:
		return 0
	}
	if i+1 == len(text) {
		return 0
	}
	for _, name := range secretNamesBy[[2]byte{text[i] | 0x20, text[i+1] | 0x20}] {
		if len(text)-i >= len(name) && strings.EqualFold(text[i:i+len(name)], name) {
			return i + len(name)
		}
	}
	return 0
}

// assignedValue returns where the value lies that is assigned to the name that
// ends at i, its quotes included; from equals to when nothing is assigned.
func assignedValue(text string, i int) (from, to int, quoted bool) {
	i = skipAny(text, i, "\\", 1)
	i = skipAny(text, i, "\"'", 1)
	i = skipAny(text, i, "]", 1)
	i = skipAny(text, i, " \t", 8)
	operator := i
	i = skipAny(text, i, ":=>", 2)
	if i == operator || text[operator] == '>' {
		return 0, 0, false
	}
	colon := text[operator:i] == ":"
	spaced := skipAny(text, i, " \t\n", 8)
	value := spaced
	for value < len(text) && value < spaced+2 && classOf(text[value]) != 0 {
		value++ // the prefix of a Python string
	}
	quote := skipAny(text, value, "\\", 1)
	if quote < len(text) && strings.IndexByte("\"'`", text[quote]) >= 0 {
		return spaced, closing(text, quote, quote > value), true
	}
	if colon && spaced == i || text[operator:i] == "==" || strings.Contains(text[i:spaced], "\n") {
		return 0, 0, false // a label, a comparison, the next line
	}
	return bareValue(text, spaced)
}

// closing returns what follows the string whose quote stands at i. An escaped
// one is a string inside of a string, such as JSON in source, and ends with an
// escaped quote.
func closing(text string, i int, escaped bool) int {
	quote := text[i]
	for i++; i < len(text); i++ {
		switch c := text[i]; {
		case c == quote:
			return i + 1
		case c == '\n' && quote != '`':
			return i
		case c == '\\' && quote != '`' && i+1 < len(text) && text[i+1] != '\n':
			i++
			if escaped && text[i] == quote {
				return i + 1
			}
		}
	}
	return i
}

// bareValue returns the value without quotes that begins at i. Calls, member
// accesses and short words are code and stay.
func bareValue(text string, i int) (from, to int, quoted bool) {
	const stops = " \t\r\n\"'`[](){}<>,;"
	const code = "$%*=.&|"
	to = i
	for to < len(text) && strings.IndexByte(stops, text[to]) < 0 {
		if to < i+4 && strings.IndexByte(code, text[to]) >= 0 {
			return 0, 0, false
		}
		to++
	}
	if to-i < 4 || to < len(text) && text[to] == '(' || isWordPath(text[i:to]) {
		return 0, 0, false
	}
	return i, to, false
}

// isWordPath says whether text is a name, or names joined by dots, without a
// digit: code rather than a secret.
func isWordPath(text string) bool {
	dots := 0
	for i := range len(text) {
		switch class := classOf(text[i]); {
		case class == 3:
			return false
		case text[i] == '.':
			dots++
		case class == 0 && text[i] != '_':
			return false
		}
	}
	return dots > 0
}

// skipAny returns i moved past at most limit bytes of set.
func skipAny(text string, i int, set string, limit int) int {
	for ; limit > 0 && i < len(text) && strings.IndexByte(set, text[i]) >= 0; limit-- {
		i++
	}
	return i
}
