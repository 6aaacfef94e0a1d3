package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/sop-host/sop/host/internal/api/apierr"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// What is refused before any method sees it has a reason and a remedy, too.
func TestUnreadableRequestsAreExplained(t *testing.T) {
	httpClient := serve(t, &fakes{})
	large := `{"filter":"` + strings.Repeat("x", maxRequest) + `"}`
	for name, tt := range map[string]struct {
		method, path, kind, encoding, body string
		status                             int
		reason, field                      string
	}{
		"not JSON":         {body: "{", status: http.StatusBadRequest, reason: "REQUEST_MALFORMED"},
		"wrong type":       {body: `{"pageSize": "many"}`, status: http.StatusBadRequest, reason: "REQUEST_MALFORMED", field: "pageSize"},
		"unknown field":    {body: `{"pageSiz": 3}`, status: http.StatusBadRequest, reason: "REQUEST_MALFORMED", field: "pageSiz"},
		"with a charset":   {kind: "application/json; charset=utf-8", body: `{"validateonly": true}`, status: http.StatusBadRequest, reason: "REQUEST_MALFORMED", field: "validateonly"},
		"empty":            {body: "", status: http.StatusBadRequest, reason: "REQUEST_MALFORMED"},
		"too large":        {body: large, status: http.StatusTooManyRequests, reason: "MESSAGE_TOO_LARGE"},
		"unknown encoding": {encoding: "br", body: "{}", status: http.StatusNotImplemented, reason: "REQUEST_UNSUPPORTED"},
		"content type":     {kind: "text/plain", body: "{}", status: http.StatusUnsupportedMediaType, reason: "CONTENT_TYPE"},
		"HTTP method":      {method: http.MethodDelete, status: http.StatusMethodNotAllowed, reason: "HTTP_METHOD"},
		"unknown method":   {path: "/sop.api.v1.Gap/Nope", body: "{}", status: http.StatusNotFound, reason: "METHOD_UNKNOWN"},
		"unknown path":     {method: http.MethodGet, path: "/", kind: "-", status: http.StatusNotFound, reason: "METHOD_UNKNOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), or(tt.method, http.MethodPost), "http://sop"+or(tt.path, "/sop.api.v1.Plugin/ListPlugins"), strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", or(tt.kind, "application/json"))
			if tt.encoding != "" {
				req.Header.Set("Content-Encoding", tt.encoding)
			}
			resp, err := httpClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s, %s", resp.Status, resp.Header.Get("Content-Type"))
			}
			var answer struct {
				Code, Message string
				Details       []struct {
					Type  string
					Debug struct {
						Reason          string
						FieldViolations []struct{ Field string }
					}
				}
			}
			if err := json.Unmarshal(body, &answer); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			reason, field, remedy := "", "", false
			for _, d := range answer.Details {
				reason += d.Debug.Reason
				remedy = remedy || d.Type == "google.rpc.Help"
				for _, v := range d.Debug.FieldViolations {
					field += v.Field
				}
			}
			if answer.Code == "" || answer.Message == "" || reason != tt.reason || field != tt.field || !remedy {
				t.Errorf("got %s", body)
			}
		})
	}
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// So it is in every protocol, for single answers and for streams.
func TestUnreadableRequestsInEveryProtocol(t *testing.T) {
	httpClient := serve(t, &fakes{})
	transport, ok := httpClient.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("%T", httpClient.Transport)
	}
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true) // which gRPC needs
	for name, protocol := range map[string][]connect.ClientOption{
		"gRPC": {connect.WithGRPC()}, "gRPC in JSON": {connect.WithGRPC(), connect.WithProtoJSON()}, "gRPC-Web": {connect.WithGRPCWeb()},
		"Connect": nil, "Connect in JSON": {connect.WithProtoJSON()},
	} {
		large := strings.Repeat("x", maxRequest)
		_, err := apiv1connect.NewPluginClient(httpClient, "http://sop", protocol...).ListPlugins(t.Context(), connect.NewRequest(&apiv1.ListPluginsRequest{Filter: large}))
		wantExplained(t, name, err, "MESSAGE_TOO_LARGE")
		stream, err := apiv1connect.NewEventClient(httpClient, "http://sop", protocol...).Watch(t.Context(), connect.NewRequest(&apiv1.WatchRequest{Filter: large}))
		if err == nil {
			for stream.Receive() {
				t.Errorf("%s: got %v", name, stream.Msg())
			}
			err = stream.Err()
			_ = stream.Close() // says the same
		}
		wantExplained(t, name+", stream", err, "MESSAGE_TOO_LARGE")
		_, err = connect.NewClient[apiv1.ListPluginsRequest, apiv1.ListPluginsResponse](httpClient, "http://sop/sop.api.v1.Plugin/Nope", protocol...).
			CallUnary(t.Context(), connect.NewRequest(&apiv1.ListPluginsRequest{}))
		wantExplained(t, name+", unknown method", err, "METHOD_UNKNOWN")
	}
}

func wantExplained(t *testing.T, name string, err error, reason string) {
	t.Helper()
	var wire *connect.Error
	if !errors.As(err, &wire) {
		t.Errorf("%s: %v", name, err)
		return
	}
	if e := apierr.Decode(wire); e.Reason != reason || e.Remedy == "" {
		t.Errorf("%s: %+v", name, e)
	}
}
