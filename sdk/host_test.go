package sdk

import (
	"reflect"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// Host has a method for each of both services, with its messages, and no other.
func TestHostIsWhatIsServed(t *testing.T) {
	methods := make(map[string]protoreflect.MethodDescriptor)
	for _, service := range []protoreflect.ServiceDescriptor{
		pluginv1.File_sop_plugin_v1_host_proto.Services().ByName("Host"),
		apiv1.File_sop_api_v1_token_proto.Services().ByName("Token"),
	} {
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			methods[string(m.Name())] = m
		}
	}
	host := reflect.TypeFor[*Host]()
	if host.NumMethod() != len(methods) {
		t.Errorf("%d methods for %d rpcs", host.NumMethod(), len(methods))
	}
	for i := range host.NumMethod() {
		m := host.Method(i)
		served := methods[m.Name]
		if served == nil {
			t.Errorf("%s is not served", m.Name)
			continue
		}
		for _, c := range []struct {
			ours   reflect.Type
			theirs protoreflect.MessageDescriptor
		}{{m.Type.In(2), served.Input()}, {m.Type.Out(0), served.Output()}} {
			message, ok := reflect.New(c.ours.Elem()).Interface().(protoreflect.ProtoMessage)
			if !ok || message.ProtoReflect().Descriptor() != c.theirs {
				t.Errorf("%s has %v for %s", m.Name, c.ours, c.theirs.FullName())
			}
		}
	}
	if tokenService != "/"+string(apiv1.File_sop_api_v1_token_proto.Services().ByName("Token").FullName())+"/" {
		t.Error("tokens are asked for elsewhere")
	}
}

// Where nobody is to be asked, that is what is said.
func TestNoHost(t *testing.T) {
	var h *Host
	_, err := h.ReportGap(t.Context(), &pluginv1.ReportGapRequest{})
	if e := FromError(err); e.Code != codes.Unavailable || e.Reason != "NO_HOST" || e.Remedy == "" {
		t.Errorf("%+v", e)
	}
}
