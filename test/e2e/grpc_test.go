package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	"github.com/sop-host/sop/proto/sop/api/v1/apiv1connect"
)

// A stranger with nothing but a gRPC library finds out what there is, calls it
// and watches it, over the unix socket and over TLS with a key.
func TestPlainGRPC(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hosts := newAuthority(t, "hosts")
	hosts.issueHost(s)
	s.put(filepath.Join(s.dir, "clients.pem"), string(hosts.pem))
	s.configure(accessBlocks)
	s.lock()
	h, address := s.startTLS()
	roots := x509.NewCertPool()
	roots.AddCert(hosts.cert)
	key := strings.TrimSpace(s.must(0, "agent", "enroll", "tool", "--trust", "system", "--config", s.conf).stdout)

	local := grpcTo(t, "unix:"+s.socket(), insecure.NewCredentials())
	remote := grpcTo(t, strings.TrimPrefix(address, "https://"), credentials.NewTLS(&tls.Config{RootCAs: roots}))
	bare, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	withKey := metadata.AppendToOutgoingContext(bare, "authorization", "Bearer "+key)
	for name, from := range map[string]struct {
		ctx  context.Context
		conn *grpc.ClientConn
		who  string
	}{"unix socket": {bare, local, "peer"}, "TLS": {withKey, remote, "key"}} {
		t.Run(name, func(t *testing.T) {
			files := reflected(from.ctx, t, from.conn)
			if got := unary(from.ctx, t, from.conn, files, "Agent", "WhoAmI", "method"); got != from.who {
				t.Errorf("known by %q", got)
			}
			if got := unary(from.ctx, t, from.conn, files, "Gap", "GetGap", ""); got != "NotFound GAP_NOT_FOUND" {
				t.Errorf("a gap that is not there: %s", got)
			}
			streamed(from.ctx, t, from.conn, files)
			healthy(from.ctx, t, from.conn)
		})
	}
	if _, err := grpc_health_v1.NewHealthClient(remote).Check(bare, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Errorf("health is for everybody: %v", err)
	}
	err := remote.Invoke(bare, "/sop.api.v1.Agent/WhoAmI", &apiv1.WhoAmIRequest{}, &apiv1.WhoAmIResponse{})
	if st := status.Convert(err); st.Code() != codes.Unauthenticated || !strings.Contains(remedyOf(st), "enrolled key") {
		t.Errorf("nobody: %v, remedy %q", err, remedyOf(st))
	}

	// The health of the host ends when it does.
	watch, err := grpc_health_v1.NewHealthClient(local).Watch(bare, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	h.stop()
	for err == nil {
		_, err = watch.Recv()
	}
	if code := status.Code(err); code == codes.DeadlineExceeded {
		t.Errorf("the watch went on: %v", err)
	}
}

// The same port speaks gRPC-Web and JSON, for single answers and streams.
func TestProtocolsOfOnePort(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.writeSample()
	s.configure()
	s.lock()
	h := s.up()
	for name, protocol := range map[string][]connect.ClientOption{
		"gRPC-Web": {connect.WithGRPCWeb()}, "gRPC-Web in JSON": {connect.WithGRPCWeb(), connect.WithProtoJSON()},
		"Connect": nil, "Connect in JSON": {connect.WithProtoJSON()}, "Connect with GET": {connect.WithHTTPGet()},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		c := s.dial()
		gaps, err := apiv1connect.NewGapClient(c, "http://sop", protocol...).ListGaps(ctx, connect.NewRequest(&apiv1.ListGapsRequest{PageSize: 1}))
		if err != nil || len(gaps.Msg.GetGaps()) != 1 || gaps.Msg.GetNextPageToken() == "" {
			t.Errorf("%s: %v, %v", name, gaps, err)
		}
		_, err = apiv1connect.NewPluginClient(c, "http://sop", protocol...).GetPlugin(ctx, connect.NewRequest(&apiv1.GetPluginRequest{Id: "detector.none"}))
		if connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("%s: %v", name, err)
		}
		events(ctx, t, name, c, protocol)
		cancel()
	}
	h.stop()
}

func events(ctx context.Context, t *testing.T, name string, c *http.Client, protocol []connect.ClientOption) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := apiv1connect.NewEventClient(c, "http://sop", protocol...).Watch(ctx, connect.NewRequest(&apiv1.WatchRequest{FromRevision: proto.Int64(0)}))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	for last := int64(0); last < 3; {
		if !stream.Receive() {
			t.Errorf("%s: the stream ended: %v", name, stream.Err())
			break
		}
		if e := stream.Msg().GetEvent(); e != nil {
			if last++; e.GetRevision() != last {
				t.Errorf("%s: revision %d, want %d", name, e.GetRevision(), last)
			}
		}
	}
	_ = stream.Close() // it goes on for ever
}

func grpcTo(t *testing.T, target string, c credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// reflected asks the host what it serves and returns the files that say so.
func reflected(ctx context.Context, t *testing.T, conn *grpc.ClientConn) *protoregistry.Files {
	t.Helper()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	var served []string
	for _, s := range ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	}).GetListServicesResponse().GetService() {
		served = append(served, s.GetName())
	}
	set := &descriptorpb.FileDescriptorSet{}
	seen := make(map[string]bool)
	for _, noun := range []string{"Agent", "Audit", "Event", "Gap", "Host", "Plugin", "Policy", "Token", "Workspace"} {
		if name := "sop.api.v1." + noun; !slices.Contains(served, name) {
			t.Errorf("%s is not served: %v", name, served)
		}
		for _, text := range ask(&grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "sop.api.v1." + noun},
		}).GetFileDescriptorResponse().GetFileDescriptorProto() {
			file := &descriptorpb.FileDescriptorProto{}
			if err := proto.Unmarshal(text, file); err != nil {
				t.Fatal(err)
			}
			if !seen[file.GetName()] {
				set.File = append(set.File, file)
			}
			seen[file.GetName()] = true
		}
	}
	if !slices.Contains(served, "grpc.health.v1.Health") {
		t.Errorf("health is not served: %v", served)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func methodOf(t *testing.T, files *protoregistry.Files, service, method string) protoreflect.MethodDescriptor {
	t.Helper()
	d, err := files.FindDescriptorByName(protoreflect.FullName("sop.api.v1." + service))
	if err != nil {
		t.Fatal(err)
	}
	s, _ := d.(protoreflect.ServiceDescriptor)
	return s.Methods().ByName(protoreflect.Name(method))
}

// unary calls a method that was found by reflection with an empty request, and
// returns a field of the answer, or the code and the reason of the refusal.
func unary(ctx context.Context, t *testing.T, conn *grpc.ClientConn, files *protoregistry.Files, service, method, field string) string {
	t.Helper()
	m := methodOf(t, files, service, method)
	out := dynamicpb.NewMessage(m.Output())
	err := conn.Invoke(ctx, "/sop.api.v1."+service+"/"+method, dynamicpb.NewMessage(m.Input()), out)
	if err == nil {
		return out.Get(m.Output().Fields().ByName(protoreflect.Name(field))).String()
	}
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return st.Code().String() + " " + info.GetReason()
		}
	}
	return err.Error()
}

func remedyOf(st *status.Status) string {
	for _, d := range st.Details() {
		if help, ok := d.(*errdetails.Help); ok {
			return help.GetLinks()[0].GetDescription()
		}
	}
	return ""
}

// streamed watches the status of the host until it is said once.
func streamed(ctx context.Context, t *testing.T, conn *grpc.ClientConn, files *protoregistry.Files) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := methodOf(t, files, "Host", "WatchStatus")
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/sop.api.v1.Host/WatchStatus")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(dynamicpb.NewMessage(m.Input())); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	out := dynamicpb.NewMessage(m.Output())
	if err := stream.RecvMsg(out); err != nil || !out.Has(m.Output().Fields().ByName("status")) {
		t.Errorf("%v, %v", out, err)
	}
}

// healthy asks for the health of the host and of one service, and watches both.
func healthy(ctx context.Context, t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client := grpc_health_v1.NewHealthClient(conn)
	for _, service := range []string{"", "sop.api.v1.Gap"} {
		answer, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil || answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, answer, err)
		}
		watch, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := watch.Recv(); err != nil || answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("watch %q: %v, %v", service, answer, err)
		}
	}
}
