package api

import (
	"context"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/sop-host/sop/host/internal/audit"
)

// requestIDHeader is where a caller may name its request for the records.
const requestIDHeader = "X-Request-Id"

// withOrigin ties the records of a call together: by the id that the caller
// gave it, or a new one, and by the trace that it belongs to.
func withOrigin(ctx context.Context, header http.Header) context.Context {
	id := header.Get(requestIDHeader)
	if id == "" {
		id = uuid.NewString()
	}
	return audit.WithOrigin(ctx, audit.Origin{RequestID: id, TraceID: traceID(header.Get("Traceparent"))})
}

// withOrigins does so for every request.
func withOrigins(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(withOrigin(r.Context(), r.Header)))
	})
}

// traceID returns the trace of a W3C traceparent, or nothing.
func traceID(parent string) string {
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 {
		return ""
	}
	if _, err := hex.DecodeString(parts[1]); err != nil {
		return ""
	}
	return strings.ToLower(parts[1])
}
