package nexus

import (
	"context"

	apiv1 "github.com/sop-host/sop/proto/sop/api/v1"
)

// Emergency stops everything at once, and lets it go on.
type Emergency interface {
	// Stop is in force when it returns, with or without an error.
	Stop(ctx context.Context, by, reason string) (*apiv1.EmergencyStopResponse, error)
	Resume(ctx context.Context, by, reason string) (*apiv1.EmergencyState, error)
	// State is the stop in force; nil for none.
	State() *apiv1.EmergencyState
}
