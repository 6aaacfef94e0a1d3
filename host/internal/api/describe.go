package api

import (
	"net/http"
	"slices"
	"sync"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sop-host/sop/docs"
)

// services are the names of everything that is served, sorted.
var services = sync.OnceValue(func() []string {
	names := []string{healthService, grpcreflect.ReflectV1ServiceName, grpcreflect.ReflectV1AlphaServiceName}
	protoregistry.GlobalFiles.RangeFilesByPackage("sop.api.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			names = append(names, string(file.Services().Get(i).FullName()))
		}
		return true
	})
	slices.Sort(names)
	return names
})

// describe serves what the API says of itself, which is no secret: that the
// process is alive, the OpenAPI document, and grpc reflection.
func describe(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(docs.OpenAPI) // a caller who has gone does not mind
	})
	reflector := grpcreflect.NewReflector(grpcreflect.NamerFunc(services))
	limit := connect.WithReadMaxBytes(maxHealthRequest)
	mux.Handle(grpcreflect.NewHandlerV1(reflector, limit))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, limit))
}
