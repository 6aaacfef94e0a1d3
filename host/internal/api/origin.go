package api

import (
	"context"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/sop-host/sop/host/internal/api/apierr"
	"github.com/sop-host/sop/host/internal/audit"
	"github.com/sop-host/sop/host/internal/trace"
)

// withOrigin ties the records of a call together: by the id that the caller
// gave it in a header, or a new one, and by the trace that the caller says it belongs to.
func withOrigin(ctx context.Context, header http.Header) context.Context {
	id := header.Get(apierr.RequestID)
	if id == "" {
		id = uuid.NewString()
	}
	return audit.WithOrigin(ctx, audit.Origin{RequestID: id, TraceID: traceID(header.Get("Traceparent"))})
}

// withTrace ties the records of a call to the span in force, where the host
// makes one.
func withTrace(ctx context.Context) context.Context {
	inForce := trace.From(ctx).TraceID()
	if inForce == "" {
		return ctx
	}
	origin := audit.OriginFrom(ctx)
	origin.TraceID = inForce
	return audit.WithOrigin(ctx, origin)
}

// withOrigins does so for every request.
func withOrigins(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(withOrigin(r.Context(), r.Header)))
	})
}

// traceID returns the trace of a W3C traceparent, or nothing.
func traceID(parent string) string {
	if parent == "" {
		return ""
	}
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 {
		return ""
	}
	if _, err := hex.DecodeString(parts[1]); err != nil {
		return ""
	}
	return strings.ToLower(parts[1])
}
