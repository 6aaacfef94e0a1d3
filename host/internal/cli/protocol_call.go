package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// maxPayload bounds what is read for a payload, in bytes; the host takes less.
const maxPayload = 1 << 20

type protocolCallOptions struct {
	*app
	change
	request   apiv1.CallProtocolRequest
	payload   string
	tokenFile string
	timeout   time.Duration
	stream    bool
}

func (a *app) newProtocolCallCommand() *cobra.Command {
	o := &protocolCallOptions{app: a}
	cmd := &cobra.Command{
		Use:   "call NAME OPERATION",
		Short: "Have a protocol do an operation",
		Long: `Have a protocol do an operation, and write its result, which is JSON. The call takes a use of an operation token for
the protocol and the operation: the one in --token-file or $SOP_TOKEN, or else one that is issued for this call, if
you may issue tokens.`,
		Example: `  sop protocol call arp analyze --payload @gaps.json
  sop protocol call scp recall --payload '{"terms": ["backup"]}' --token-file scp.token
  sop protocol call uip render --stream < request.json --payload -`,
		Args:        withoutSecrets(arguments(2, 2, "NAME and OPERATION")),
		Annotations: exits("4567"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.request.Protocol, o.request.Operation = args[0], args[1]
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.payload, "payload", "", "the payload: JSON `text`, @FILE, or - for standard input (default: null)")
	flags.StringVar(&o.tokenFile, "token-file", "", "`file` with the secret of the token to use (default: the value of $SOP_TOKEN)")
	flags.DurationVar(&o.timeout, "wait", 0, "how long to wait for the answer, a `time` such as 10s (default: as long as the protocol may take)")
	flags.StringToStringVar(&o.request.Context, "context", nil, "what else the protocol is told, as `name=value`")
	flags.BoolVar(&o.stream, "stream", false, "write the result piece by piece, a line each")
	o.addChange(cmd)
	return cmd
}

func (o *protocolCallOptions) run(ctx context.Context) error {
	if o.timeout < 0 {
		return usagef("--wait must not be negative")
	}
	payload, err := o.readPayload()
	if err != nil {
		return err
	}
	o.request.Payload = string(payload)
	if o.timeout > 0 {
		o.request.Timeout = durationpb.New(o.timeout)
	}
	o.request.ValidateOnly, o.request.IdempotencyKey = o.check, o.key
	ctx, cancel := o.bounded(ctx, changeTimeout)
	defer cancel()
	c := o.connect()
	defer c.Close()
	if o.request.Token, err = o.token(ctx, c); err != nil {
		return err
	}
	if o.stream {
		return o.runStream(ctx, c)
	}
	answer, err := c.protocol().CallProtocol(ctx, connect.NewRequest(&o.request))
	if err != nil {
		return err
	}
	if o.check {
		return o.would("the call would be made")
	}
	return o.printResult(answer.Msg)
}

// printResult writes the result as it came, indented.
func (o *protocolCallOptions) printResult(m *apiv1.CallProtocolResponse) error {
	result := json.RawMessage(m.GetResult())
	if o.json() {
		return printJSON(o.Out, map[string]any{"result": result, "request_id": m.GetRequestId(), "took": m.GetTook().AsDuration().String()})
	}
	var text bytes.Buffer
	if err := json.Indent(&text, result, "", "  "); err != nil {
		return fmt.Errorf("the result is no JSON: %w", err)
	}
	text.WriteByte('\n')
	_, err := o.Out.Write(text.Bytes())
	return err
}

func (o *protocolCallOptions) runStream(ctx context.Context, c *client) error {
	stream, err := c.protocol().StreamProtocol(ctx, connect.NewRequest(&apiv1.StreamProtocolRequest{
		Protocol: o.request.GetProtocol(), Operation: o.request.GetOperation(), Payload: o.request.GetPayload(), Token: o.request.GetToken(),
		Timeout: o.request.GetTimeout(), Context: o.request.GetContext(), IdempotencyKey: o.key, ValidateOnly: o.check,
	}))
	if err != nil {
		return err
	}
	for stream.Receive() {
		var line bytes.Buffer
		if err := json.Compact(&line, []byte(stream.Msg().GetPiece())); err != nil {
			return errors.Join(fmt.Errorf("a piece of the result is no JSON: %w", err), stream.Close())
		}
		line.WriteByte('\n')
		if _, err := o.Out.Write(line.Bytes()); err != nil {
			return errors.Join(err, stream.Close())
		}
	}
	if err := errors.Join(stream.Err(), stream.Close()); err != nil || !o.check {
		return err
	}
	return o.would("the call would be made")
}

// readPayload returns the payload, from wherever it is.
func (o *protocolCallOptions) readPayload() (text []byte, err error) {
	name, isFile := strings.CutPrefix(o.payload, "@")
	switch {
	case o.payload == "-":
		text, err = io.ReadAll(io.LimitReader(o.In, maxPayload+1))
	case isFile:
		text, err = readBounded(name, maxPayload)
	default:
		text = []byte(o.payload)
	}
	switch {
	case err != nil:
		return nil, here(err)
	case len(text) > maxPayload:
		return nil, usagef("the payload has more than %d bytes", maxPayload)
	case len(bytes.TrimSpace(text)) > 0 && !json.Valid(text):
		return nil, usagef("the payload is no JSON").WithRemedy("give one JSON value, or @FILE or - for one that lies elsewhere")
	}
	return bytes.TrimSpace(text), nil
}

// readBounded reads a file, of which one byte more than limit at most.
func readBounded(name string, limit int64) (text []byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// token returns the secret to use: the one that was given, or of one that is
// issued for this call.
func (o *protocolCallOptions) token(ctx context.Context, c *client) (string, error) {
	if o.tokenFile != "" {
		return o.readSecret([]string{o.tokenFile})
	}
	if secret := strings.TrimSpace(o.env("SOP_TOKEN")); secret != "" {
		return secret, nil
	}
	if o.check {
		return "", usagef("--check needs a token to check").WithRemedy("name its file with --token-file, or put it in $SOP_TOKEN")
	}
	answer, err := c.token().IssueToken(ctx, connect.NewRequest(&apiv1.IssueTokenRequest{Spec: &apiv1.TokenSpec{
		Type: "operation", Protocol: o.request.GetProtocol(), Operations: []string{o.request.GetOperation()}, MaxUses: 1,
		Ttl: durationpb.New(changeTimeout), Reason: "sop protocol call",
	}}))
	if err != nil {
		return "", err
	}
	return answer.Msg.GetSecret(), nil
}
