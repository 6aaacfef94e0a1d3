package sdk

import (
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// ContractVersion is the version of sop.plugin that this module speaks.
const ContractVersion = 1

// Handshake is what the host and a plugin must agree on before they speak. It
// guards against starting a plugin by hand and against starting a program that
// is no plugin; it is not a secret.
var Handshake = goplugin.HandshakeConfig{
	ProtocolVersion:  ContractVersion,
	MagicCookieKey:   "SOP_PLUGIN",
	MagicCookieValue: "7f0c2c2e-sop-system-operations-protocol-plugin",
}

// Kind is one kind of plugin as a value: what it is called, how an
// implementation T is put on a server, and how a client C is made from a
// connection. The adapter in this package and the host's pool work on any Kind;
// adding one takes a package beneath sdk and nothing else.
type Kind[T, C any] struct {
	// Name as it stands in the configuration, such as "detector".
	Name string
	// Register puts impl on s. It is called once, before s serves.
	Register func(s grpc.ServiceRegistrar, impl T)
	// NewClient makes a client that calls over conn. It does not own conn.
	NewClient func(conn grpc.ClientConnInterface) C
	// CancelWithin is how long a call may go on after it was cancelled: a plugin
	// with one that goes on for longer does not report that it serves, so that the
	// host starts it anew. Zero: for ever.
	CancelWithin time.Duration
}
