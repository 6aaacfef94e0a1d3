package config

import (
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// TokenLimits bound the tokens of one type. They hold for tokens that are
// issued, or renewed, from then on.
type TokenLimits struct {
	TTL      time.Duration // of a token whose issuer says nothing else
	MaxLife  time.Duration // the longest that a token can live, renewals included
	MaxUses  int           // of a token whose issuer says nothing else
	MostUses int           // the most that an issuer may ask for
}

const greatestUses = 1_000_000

// tokenDefaults are the types of tokens, with what holds for those that are not
// configured.
var tokenDefaults = map[string]TokenLimits{
	"operation":   {TTL: 24 * time.Hour, MaxLife: 7 * 24 * time.Hour, MaxUses: 1, MostUses: greatestUses},
	"todo":        {TTL: 48 * time.Hour, MaxLife: 14 * 24 * time.Hour, MaxUses: 100, MostUses: greatestUses},
	"integration": {TTL: time.Hour, MaxLife: 24 * time.Hour, MaxUses: 1, MostUses: greatestUses},
	"test":        {TTL: 15 * time.Minute, MaxLife: 2 * time.Hour, MaxUses: 10, MostUses: greatestUses},
}

var (
	tokenAttributes = []string{"ttl", "max_life", "max_uses", "most_uses"}

	tokenLifeBounds = bounds{low: time.Second, high: 366 * 24 * time.Hour}
)

// readTokens reads the tokens block and returns the limits of every type; b is
// nil when there is none.
func readTokens(r *reporter, b *block) map[string]TokenLimits {
	types := sortedKeys(tokenDefaults)
	out := make(map[string]TokenLimits, len(types))
	s := section{reporter: r}.within(b)
	if b != nil {
		r.wantLabels(b)
		r.allow(b, nil, types)
	}
	for _, name := range types {
		limits := r.single(s.block, name)
		if limits != nil {
			r.allow(limits, tokenAttributes, nil)
		}
		out[name] = readTokenLimits(s.within(limits), tokenDefaults[name])
	}
	return out
}

// readTokenLimits reads the limits of one type. A default gives way to what is
// set: a life that is made shorter shortens the usual life too.
func readTokenLimits(s section, usual TokenLimits) TokenLimits {
	l := TokenLimits{
		MaxLife:  s.duration("max_life", usual.MaxLife, tokenLifeBounds),
		MostUses: s.integer("most_uses", usual.MostUses, 1, greatestUses),
	}
	l.TTL = s.duration("ttl", min(usual.TTL, l.MaxLife), tokenLifeBounds)
	l.MaxUses = s.integer("max_uses", min(usual.MaxUses, l.MostUses), 1, greatestUses)
	if attr := s.body.attributes["ttl"]; attr != nil && l.TTL > l.MaxLife {
		s.errorf(attr.expr.Range(), "Life too long", "\"ttl\" must not be longer than \"max_life\", which is %s.", shortDuration(l.MaxLife))
	}
	if attr := s.body.attributes["max_uses"]; attr != nil && l.MaxUses > l.MostUses {
		s.errorf(attr.expr.Range(), "Too many uses", "\"max_uses\" must not be greater than \"most_uses\", which is %d.", l.MostUses)
	}
	return l
}

func (l *loader) readTokens(blocks []*hclsyntax.Block, s *scope) map[string]TokenLimits {
	var tokens map[string]TokenLimits
	for _, b := range blocks {
		read := readTokens(&l.reporter, l.evaluateBlock(b, s))
		if tokens != nil {
			l.duplicate(b, "tokens", publicRange(blocks[0].DefRange()))
			continue
		}
		tokens = read
	}
	if tokens == nil {
		return readTokens(&l.reporter, nil)
	}
	return tokens
}

// tokenLimits adds what differs between the limits of tokens.
func (r *reasons) tokenLimits(old, next map[string]TokenLimits) {
	for _, name := range keysOfBoth(old, next) {
		was, is := old[name], next[name]
		r.changed("tokens."+name+".ttl", was.TTL != is.TTL)
		r.changed("tokens."+name+".max_life", was.MaxLife != is.MaxLife)
		r.changed("tokens."+name+".max_uses", was.MaxUses != is.MaxUses)
		r.changed("tokens."+name+".most_uses", was.MostUses != is.MostUses)
	}
}
