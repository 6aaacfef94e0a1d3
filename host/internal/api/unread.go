package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sop-host/sop/sdk"
)

// A request that cannot be read is refused before any method sees it, by the
// libraries beneath, which know nothing of reasons and remedies. What follows
// gives such an error the details that all others have.

// withDetails serves next, and completes the errors that come without details.
func withDetails(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := &detailer{ResponseWriter: w, request: r}
		next.ServeHTTP(d, r)
		d.end()
	})
}

// detailer holds an error back until it is whole. All else passes.
type detailer struct {
	http.ResponseWriter
	request *http.Request
	begun   bool // the header has gone
	status  int  // of what is held back; 0: nothing is
	held    bytes.Buffer
}

// WriteHeader implements [http.ResponseWriter].
func (d *detailer) WriteHeader(status int) {
	kind := d.Header().Get("Content-Type")
	bare := kind == "" || kind == "application/json" || status == http.StatusNotFound
	if !d.begun && status >= http.StatusBadRequest && bare {
		d.status = status
		return
	}
	d.begin(status)
}

func (d *detailer) begin(status int) {
	d.begun = true
	completeStatus(d.Header(), "") // gRPC-Web, where nothing but an error is sent
	d.ResponseWriter.WriteHeader(status)
}

// Write implements [io.Writer].
func (d *detailer) Write(p []byte) (int, error) {
	if d.status != 0 {
		return d.held.Write(p)
	}
	if !d.begun {
		d.begin(http.StatusOK)
	}
	return d.ResponseWriter.Write(p)
}

// Flush implements [http.Flusher].
func (d *detailer) Flush() {
	if d.status != 0 {
		return
	}
	if !d.begun {
		d.begin(http.StatusOK)
	}
	_ = http.NewResponseController(d.ResponseWriter).Flush() // the next write says what is wrong
}

// Unwrap is for [http.ResponseController].
func (d *detailer) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// end sends what was held back. Whoever has gone is not told.
func (d *detailer) end() {
	if d.status == 0 {
		completeStatus(d.Header(), http.TrailerPrefix)
		return
	}
	if d.status == http.StatusNotFound && d.Header().Get("Content-Type") != "application/json" {
		unknownPath(d.ResponseWriter, d.request)
		return
	}
	if e := bareError(d.status, d.held.Bytes()); e != nil {
		writeError(&statusWriter{d.ResponseWriter, d.status}, e)
		return
	}
	d.ResponseWriter.WriteHeader(d.status)
	_, _ = d.ResponseWriter.Write(d.held.Bytes())
}

// statusWriter answers with its own status, whatever it is told.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (w *statusWriter) WriteHeader(int) { w.ResponseWriter.WriteHeader(w.status) }

// bareError returns the error in an answer that has no details, or nil.
func bareError(status int, body []byte) *sdk.Error {
	if len(body) == 0 {
		switch status {
		case http.StatusUnsupportedMediaType:
			return sdk.Errorf(codes.InvalidArgument, "CONTENT_TYPE", "the host does not read requests of this content type").
				WithRemedy("call with POST and Content-Type: application/json, or with a gRPC library")
		case http.StatusMethodNotAllowed:
			return sdk.Errorf(codes.Unimplemented, "HTTP_METHOD", "the method of the API is not called with this HTTP method").WithRemedy("call it with POST")
		}
		return nil
	}
	wire, bare := parseBare(body)
	if !bare {
		return nil // of another kind, or as it should be
	}
	return explain(codes.Code(wire.Code), wire.Message)
}

// bareWire is an error of Connect in JSON.
type bareWire struct {
	Code    connect.Code      `json:"code"`
	Message string            `json:"message"`
	Details []json.RawMessage `json:"details"`
}

// parseBare says whether an answer is an error, and without details.
func parseBare(body []byte) (wire bareWire, bare bool) {
	bare = json.Unmarshal(body, &wire) == nil && wire.Code != 0 && len(wire.Details) == 0
	return wire, bare
}

// completeStatus gives the status of gRPC in a header, whose keys have the
// prefix, the details that it lacks.
func completeStatus(header http.Header, prefix string) {
	const detailsKey = "Grpc-Status-Details-Bin"
	status := first(header[prefix+"Grpc-Status"])
	if status == "" {
		return
	}
	code, err := strconv.ParseUint(status, 10, 32)
	if err != nil || code == 0 || len(header[prefix+detailsKey]) > 0 {
		return
	}
	message, err := url.PathUnescape(first(header[prefix+"Grpc-Message"]))
	if err != nil {
		return
	}
	e := explain(codes.Code(code), strings.ToValidUTF8(message, "?")) // it may quote what was sent
	out := &spb.Status{Code: int32(e.Code), Message: e.Message}
	for _, detail := range e.Details() {
		packed, err := anypb.New(detail)
		if err != nil {
			return
		}
		out.Details = append(out.Details, packed)
	}
	text, err := proto.Marshal(out)
	if err != nil {
		return // code and message stay
	}
	header[prefix+detailsKey] = []string{connect.EncodeBinaryHeader(text)}
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// explain says what may be wrong with a request that was refused before a method
// saw it, by what the libraries say.
func explain(code codes.Code, message string) *sdk.Error {
	switch code {
	case codes.InvalidArgument:
		e := sdk.Errorf(code, "REQUEST_MALFORMED", "%s", message).WithRemedy("send the message that the method takes: GET /openapi.json describes it")
		if m := fieldInMessage.FindStringSubmatch(message); m != nil {
			e = e.WithField(m[1], "")
		}
		return e
	case codes.ResourceExhausted:
		return sdk.Errorf(code, "MESSAGE_TOO_LARGE", "%s", message).
			WithRemedy("a request has %d MiB at most and an answer %d MiB; ask in parts, such as smaller pages", maxRequest>>20, maxAnswer>>20)
	case codes.Unimplemented:
		return sdk.Errorf(code, "REQUEST_UNSUPPORTED", "%s", message).WithRemedy("send one message, compressed with gzip or not at all")
	case codes.DeadlineExceeded:
		return sdk.Errorf(code, "REQUEST_LATE", "%s", message).WithRemedy("send the request within %s and give it a longer timeout", bodyTimeout).RetryIn(0)
	}
	return sdk.Errorf(code, "REQUEST_UNREADABLE", "%s", message).WithRemedy("send the whole request again").RetryIn(0)
}

// fieldInMessage finds the field that protobuf's JSON does not accept.
var fieldInMessage = regexp.MustCompile(`(?:invalid value for \w+ field |duplicate field "|unknown field ")(\w+)`)

// unknownPath answers for what is not there.
func unknownPath(w http.ResponseWriter, r *http.Request) {
	err := sdk.Errorf(codes.Unimplemented, "METHOD_UNKNOWN", "there is no %.200q", r.URL.Path).
		WithRemedy("GET /openapi.json describes all that there is")
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		_ = connect.NewErrorWriter().Write(w, r, wireError(err)) // who went away is not told
		return
	}
	writeError(&statusWriter{w, http.StatusNotFound}, err)
}

// complete gives an error of the library, which no method has seen, its details.
func complete(bare *connect.Error) error {
	if len(bare.Details()) > 0 {
		return bare
	}
	return wireError(explain(codes.Code(bare.Code()), bare.Message()))
}
