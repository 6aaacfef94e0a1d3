package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A SandboxNetwork says where the runs of a profile may go, and what plugins and
// components have of a network. The zero value is nowhere, and none.
type SandboxNetwork struct {
	// Mode is of plugins and components: "" for none, "loopback" or "full".
	Mode         string              `json:",omitempty"`
	Allow        []string            `json:",omitempty"` // host:port
	AllowPrivate []string            `json:",omitempty"` // likewise, wherever the name leads
	Credentials  []SandboxCredential `json:",omitempty"`
}

// A SandboxCredential is added to requests to one target by the host.
type SandboxCredential struct {
	Target   string // host:port
	Header   string
	Prefix   string `json:",omitempty"`
	Env      string `json:",omitempty"` // of the host; or
	File     string `json:",omitempty"` // absolute
	Variable string `json:",omitempty"` // in the sandbox, for a placeholder
	Private  bool   `json:",omitempty"`
	Plain    bool   `json:",omitempty"`
}

var (
	networkAttributes    = []string{"mode", "allow", "allow_private"}
	networkModes         = []string{"none", "loopback", "full"}
	networkBlocks        = []string{"credential"}
	credentialAttributes = []string{"header", "prefix", "env", "file", "variable", "private", "plain"}

	hostPattern = newPattern(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$`)
)

// readNetwork reads the network block of a profile.
func (s section) readNetwork(b *block) SandboxNetwork {
	nested := s.single(b, "network")
	if nested == nil {
		return SandboxNetwork{}
	}
	s.allow(nested, networkAttributes, networkBlocks)
	inner := s.within(nested)
	n := SandboxNetwork{Allow: inner.texts("allow", checkTarget), AllowPrivate: inner.texts("allow_private", checkTarget)}
	if mode := inner.choice("mode", "none", networkModes); mode != "none" {
		n.Mode = mode
	}
	seen := make(map[string]Range)
	for _, one := range nested.body.ofKind("credential") {
		if !s.wantLabels(one, "host:port") {
			continue
		}
		target := strings.ToLower(one.labels[0])
		if err := checkTarget(target); err != nil {
			s.errorf(one.labelRanges[0], "Invalid value", "%s", capital(err.Error()))
		}
		if first, taken := seen[target]; taken {
			s.errorf(one.header, "Duplicate block", "There is a credential for %s already, at %s.", target, first)
			continue
		}
		seen[target] = publicRange(one.header)
		s.allow(one, credentialAttributes, nil)
		n.Credentials = append(n.Credentials, s.within(one).credential(target))
	}
	return n
}

func (s section) credential(target string) SandboxCredential {
	s.require("header")
	c := SandboxCredential{
		Target: target, Header: s.checked("header", checkHeader), Prefix: s.checked("prefix", checkPrefix),
		Env: s.checked("env", checkEnvironmentName), File: s.path("file", ""), Variable: s.checked("variable", checkEnvironmentName),
		Private: s.boolean("private", false), Plain: s.boolean("plain", false),
	}
	_, env := s.body.attributes["env"]
	_, file := s.body.attributes["file"]
	if env == file {
		s.errorf(s.header, "Missing attribute", "A credential block says where the host has the secret: either \"env\" or \"file\".")
	}
	return c
}

// notForCredentials are headers that belong to the connection.
var notForCredentials = []string{"connection", "host", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

func checkHeader(name string) error {
	if !headerName.MatchString(name) || slices.Contains(notForCredentials, strings.ToLower(name)) {
		return fmt.Errorf("%q cannot be the header of a credential", name)
	}
	return nil
}

func checkPrefix(prefix string) error {
	for _, c := range []byte(prefix) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("%q cannot stand in a header", prefix)
		}
	}
	return nil
}

// checkTarget refuses what is not exactly one host and one port.
func checkTarget(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("%q is not host:port; there are no patterns, and no target without a port", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%q is not a port", port)
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" && !addr.Is4In6() {
		return nil
	}
	if len(host) > 253 || !hostPattern.MatchString(host) || strings.HasPrefix(strings.ToLower(host[strings.LastIndexByte(host, '.')+1:]), "0x") {
		return fmt.Errorf("%q is not the name of one host", host)
	}
	return nil
}
