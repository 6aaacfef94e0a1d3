package main

import (
	"context"
	"strings"
	"testing"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk/plugintest"
	"github.com/sop-host/sop/sdk/protocol"
)

func TestConformance(t *testing.T) {
	plugintest.Protocol(t, plugintest.ProtocolPeer{New: func(*testing.T) protocol.Protocol { return &uip{} }, Echo: "echo"})
}

// stack answers as ARP and SCP would.
type stack struct{ asked []string }

func (s *stack) CallProtocol(_ context.Context, req *pluginv1.CallProtocolRequest) (*pluginv1.CallProtocolResponse, error) {
	s.asked = append(s.asked, req.GetProtocol()+"."+req.GetOperation()+" "+req.GetToken())
	if req.GetProtocol() == "arp" {
		return &pluginv1.CallProtocolResponse{Result: []byte(`{"plan": [{"rank": 1, "path": "a.go", "rule": "code.stub", "why": "it weighs most"}], "total": 2}`)}, nil
	}
	return &pluginv1.CallProtocolResponse{Result: []byte(`{"facts": [{"subject": "a.go", "text": "Ann wrote it"}]}`)}, nil
}

func TestRender(t *testing.T) {
	s := &stack{}
	u := &uip{host: s}
	u.Set(pluginv1.Mode_MODE_ACTIVE)
	got, err := u.Handle(t.Context(), &pluginv1.Call{Operation: "render", Payload: []byte(`{"gaps": []}`), Token: "t"})
	if err != nil || !strings.Contains(string(got), `2 gaps in 1 steps`) || !strings.Contains(string(got), "Ann wrote it") {
		t.Errorf("%s, %v", got, err)
	}
	if strings.Join(s.asked, ", ") != "arp.analyze t, scp.recall t" {
		t.Errorf("asked %v", s.asked)
	}
}
