package config

// APILimits bound what callers of the API can ask of the host.
type APILimits struct {
	RequestsPerSecond int  // of one caller
	Burst             int  // calls that may come at once
	System            bool // system agents are held to the rate too
	MaxStreams        int  // that one caller has open
	MaxConnections    int  // of all callers
}

// apiLimitBlocks are the blocks of an api block that are read here.
var (
	apiLimitBlocks      = []string{"rate_limit", "limits"}
	rateLimitAttributes = []string{"requests_per_second", "burst", "system"}
	callLimitAttributes = []string{"max_streams", "max_connections"}
)

// readAPILimits reads what bounds callers in an api block; b is nil when there
// is none.
func readAPILimits(r *reporter, b *block, dir string) APILimits {
	s := section{reporter: r, dir: dir}.within(b)
	var rate, limits *block
	if b != nil {
		if rate = r.single(b, "rate_limit"); rate != nil {
			r.allow(rate, rateLimitAttributes, nil)
		}
		if limits = r.single(b, "limits"); limits != nil {
			r.allow(limits, callLimitAttributes, nil)
		}
	}
	const many = 1_000_000
	rates, bounds := s.within(rate), s.within(limits)
	return APILimits{
		RequestsPerSecond: rates.integer("requests_per_second", 200, 1, many),
		Burst:             rates.integer("burst", 400, 1, many),
		System:            rates.boolean("system", false),
		MaxStreams:        bounds.integer("max_streams", 64, 1, many),
		MaxConnections:    bounds.integer("max_connections", 1024, 8, many),
	}
}
