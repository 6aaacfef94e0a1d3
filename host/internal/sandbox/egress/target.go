package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// A Target is a host, by name or address, and a port. Two targets are the same
// when they are equal.
type Target struct {
	Host string // lower case, without a final dot; an address in its shortest form
	Port uint16
}

// String implements fmt.Stringer.
func (t Target) String() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

// MarshalText implements encoding.TextMarshaler.
func (t Target) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Target) UnmarshalText(text []byte) (err error) {
	*t, err = ParseTarget(string(text))
	return err
}

const maxHost = 253

// ParseTarget reads "host:port". What could be read in more than one way is
// refused: anything but letters, digits, hyphens and dots in a name, an address
// in any form but the usual one, a port that is not a plain number.
func ParseTarget(text string) (Target, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return Target{}, fmt.Errorf("%.80q is not host:port", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return Target{}, fmt.Errorf("%.80q is not a port", port)
	}
	host, err = plainHost(host)
	return Target{host, uint16(n)}, err
}

func plainHost(host string) (string, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" || addr.Is4In6() {
			return "", fmt.Errorf("%.80q is not a plain address", host)
		}
		return addr.String(), nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || len(host) > maxHost {
		return "", errors.New("a host has 1 to 253 characters")
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if !isLabel(label) {
			return "", fmt.Errorf("%.80q is not the name of a host", host)
		}
	}
	if last := labels[len(labels)-1]; looksLikeNumber(last) {
		return "", fmt.Errorf("%.80q is an address in a form that is read in several ways", host)
	}
	return host, nil
}

func isLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for _, c := range []byte(label) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// looksLikeNumber says whether some program would take a last label for a part
// of an address: 1, 0x7f.
func looksLikeNumber(label string) bool {
	if _, err := strconv.ParseUint(label, 10, 64); err == nil {
		return true
	}
	_, hex := strings.CutPrefix(label, "0x")
	return hex
}

// isPublic says whether an address is somebody's on the internet.
func isPublic(addr netip.Addr) bool {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsInterfaceLocalMulticast() {
		return false
	}
	for _, block := range reserved {
		if block.Contains(addr) {
			return false
		}
	}
	return true
}

// reserved are blocks for special purposes; those that wrap an IPv4 address
// could lead to any.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("fec0::/10"),
}
