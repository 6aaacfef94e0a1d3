package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// API says where the API is served. The unix socket in the data directory is
// always there; TCP only with TLS.
type API struct {
	Listen       string // host:port; empty: not on TCP
	SocketMode   uint32 // permissions of the unix socket
	SocketGroup  string // whose it is; empty: of the host's user
	TLS          TLS
	Limits       APILimits
	Source       Range // the api block; zero when there is none
	ListenSource Range // the attribute, or else the block
	TLSSource    Range // the tls block, or else the api block
	SocketSource Range // of the group, or else the block
}

// TLS names the files with the certificates of the API, all absolute. They are
// read when they are put to use, and again when they change.
type TLS struct {
	Cert, Key string
	ClientCA  string // empty: no client certificate proves anything
	// TrustDomains are those whose SPIFFE IDs are exterior agents where no agent
	// block names them.
	TrustDomains []string
}

var (
	apiAttributes = []string{"listen", "socket_mode", "socket_group"}
	apiBlocks     = append([]string{"tls"}, apiLimitBlocks...)
	tlsAttributes = []string{"cert", "key", "client_ca", "exterior_trust_domains"}
	socketModes   = []string{"0600", "0660", "0666"}

	groupName   = newPattern(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
	trustDomain = newPattern(`^[a-z0-9][a-z0-9._-]{0,253}$`)
	spiffePath  = newPattern(`^(/[A-Za-z0-9._-]+)+$`)
)

// readAPI reads the api block; b is nil when there is none.
func readAPI(r *reporter, b *block, dir string) API {
	s := section{reporter: r, dir: dir}.within(b)
	if b != nil {
		r.wantLabels(b)
		r.allow(b, apiAttributes, apiBlocks)
	}
	mode, _ := strconv.ParseUint(s.choice("socket_mode", "0600", socketModes), 8, 32) // all of them are
	a := API{Listen: s.text("listen", "", checkListen), SocketMode: uint32(mode), SocketGroup: s.text("socket_group", "", checkGroup)}
	a.Limits = readAPILimits(r, b, dir)
	if b == nil {
		return a
	}
	a.Source, a.ListenSource, a.TLSSource, a.SocketSource = publicRange(b.header), b.attributeRange("listen"), publicRange(b.header), b.attributeRange("socket_group")
	nested := r.single(b, "tls")
	if nested != nil {
		r.allow(nested, tlsAttributes, nil)
		a.TLSSource = publicRange(nested.header)
		a.TLS = readTLS(s.within(nested))
	}
	_, listens := b.body.attributes["listen"]
	if listens && nested == nil {
		s.errorf(b.body.attributes["listen"].expr.Range(), "TLS is missing",
			"The API is served on TCP with TLS only: without it, whoever is on the way could read the credentials of agents and call in their name. Add a block tls { cert = ... key = ... }, or leave \"listen\" out and use the unix socket.")
	}
	if nested != nil && !listens {
		s.errorf(nested.header, "Unused block", "There is no \"listen\" in the api block, and the unix socket needs no TLS.")
	}
	return a
}

func readTLS(s section) TLS {
	s.require("cert")
	s.require("key")
	t := TLS{
		Cert: s.path("cert", ""), Key: s.path("key", ""), ClientCA: s.path("client_ca", ""),
		TrustDomains: s.texts("exterior_trust_domains", checkTrustDomain),
	}
	if attr := s.body.attributes["exterior_trust_domains"]; attr != nil && t.ClientCA == "" {
		s.errorf(attr.nameRange, "Missing attribute", "Without \"client_ca\" no client certificate proves anything.")
	}
	return t
}

// text reads a text that check accepts.
func (s section) text(name, otherwise string, check func(string) error) string {
	attr, value, ok := s.get(name, textType)
	if !ok {
		return otherwise
	}
	text := value.AsString()
	if err := check(text); err != nil {
		s.errorf(attr.expr.Range(), "Invalid value", "%s", capital(err.Error()))
		return otherwise
	}
	return text
}

func checkListen(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is no address. Write a host and a port, such as \"127.0.0.1:7433\" or \"[::]:7433\"", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 && port != "0" {
		return fmt.Errorf("%q is no port: it is a number from 0 to 65535", port)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		return fmt.Errorf("%q is no IP address. Write one of this machine's, such as 127.0.0.1, or 0.0.0.0 for all", host)
	}
	return nil
}

func checkGroup(name string) error {
	if !groupName.MatchString(name) {
		return fmt.Errorf("%q cannot be the name of a group of this machine", name)
	}
	return nil
}

func checkTrustDomain(name string) error {
	if !trustDomain.MatchString(name) {
		return fmt.Errorf("%q is no trust domain: write it without spiffe://, in lower case", name)
	}
	return nil
}

// IsSPIFFE says that text is a SPIFFE ID of a workload.
func IsSPIFFE(text string) bool { return checkSPIFFE(text) == nil }

func checkSPIFFE(text string) error {
	rest, ok := strings.CutPrefix(text, "spiffe://")
	domain, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		domain, path = rest[:i], rest[i:]
	}
	dots := slices.ContainsFunc(strings.Split(path, "/"), func(part string) bool { return part == "." || part == ".." })
	if !ok || len(text) > 2048 || !trustDomain.MatchString(domain) || !spiffePath.MatchString(path) || dots {
		return fmt.Errorf("%q is no SPIFFE ID: write spiffe://, a trust domain, and a path", text)
	}
	return nil
}

// CheckIssuer returns an error where text is not the address of an issuer of
// tokens, or of its keys: https, or http on this machine.
func CheckIssuer(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return errors.New("it is no address such as https://login.example.org")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return errors.New("it must begin with https://; without, whoever is on the way could put in keys of their own")
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
