package api

import (
	"strings"

	"github.com/sop-host/sop/host/internal/nexus"
	"github.com/sop-host/sop/host/internal/policy"
	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
)

// resourceOf returns what policy is asked about a request: the one thing that it
// names exactly, or the host as a whole. What may be named by a part of its id,
// as a gap may, cannot stand here: a policy about it would be passed by.
func resourceOf(request any) policy.Resource {
	switch r := request.(type) {
	case *apiv1.GetPluginRequest:
		return pluginResource(r.GetId())
	case *apiv1.RestartPluginRequest:
		return pluginResource(r.GetId())
	case *apiv1.GetComponentRequest:
		return componentResource(r.GetName())
	case *apiv1.ReadLogsRequest:
		return componentResource(r.GetName())
	case *apiv1.StartComponentRequest:
		return componentResource(r.GetName())
	case *apiv1.StopComponentRequest:
		return componentResource(r.GetName())
	case *apiv1.RestartComponentRequest:
		return componentResource(r.GetName())
	case *apiv1.GetWorkspaceRequest:
		return workspaceResource(r.GetName())
	case *apiv1.ScanWorkspaceRequest:
		return workspaceResource(r.GetWorkspace())
	case *apiv1.CallProtocolRequest:
		return nexus.ProtocolResource(r.GetProtocol())
	case *apiv1.StreamProtocolRequest:
		return nexus.ProtocolResource(r.GetProtocol())
	case *pluginv1.CallProtocolRequest:
		return nexus.ProtocolResource(r.GetProtocol())
	case *apiv1.ActivateProtocolRequest:
		return nexus.ProtocolResource(r.GetName())
	case *apiv1.DeactivateProtocolRequest:
		return nexus.ProtocolResource(r.GetName())
	case *apiv1.CreateBackupRequest:
		return workspaceResource(r.GetWorkspace())
	case *pluginv1.ReportGapRequest:
		return workspaceResource(r.GetWorkspace())
	case *pluginv1.RequestMaintenanceRequest:
		return workspaceResource(r.GetWorkspace())
	case *pluginv1.AppendAuditRequest:
		return workspaceResource(r.GetWorkspace())
	case *pluginv1.ReadScaffoldRequest:
		return workspaceResource(r.GetWorkspace())
	}
	return policy.TheHost()
}

// workspaceResource is the workspace of that name; without one, the host.
func workspaceResource(name string) policy.Resource {
	if name == "" {
		return policy.TheHost()
	}
	return policy.Resource{Ref: policy.Ref{Type: policy.TypeWorkspace, ID: name}}
}

// componentResource is the component of that name.
func componentResource(name string) policy.Resource {
	return policy.Resource{Ref: policy.Ref{Type: policy.TypeComponent, ID: name}}
}

// pluginResource is the plugin with an id such as "detector.docs".
func pluginResource(id string) policy.Resource {
	kind, _, _ := strings.Cut(id, ".")
	return policy.Resource{Ref: policy.Ref{Type: policy.TypePlugin, ID: id}, Attributes: map[string]any{"kind": kind}}
}
