package main

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/sdk"
)

// plugin implements [backup.Backup], [backup.Pruner] and [backup.Lister].
type plugin struct {
	repository atomic.Pointer[repository]
	// now tells the time; nil: the clock of the machine does.
	now func() time.Time
}

func (p *plugin) configure(ctx context.Context, c *sdk.Config) error {
	s, err := decode(c)
	if err != nil {
		return err
	}
	r, err := openRepository(ctx, s)
	if err != nil {
		e := sdk.FromError(err)
		return &sdk.ConfigError{Attribute: attributeOf(e, s), Summary: e.Message, Detail: e.Remedy}
	}
	p.repository.Store(r)
	return nil
}

// attributeOf is the attribute that an error of the repository is about.
func attributeOf(e *sdk.Error, s *settings) string {
	switch {
	case e.Reason == "WRONG_PASSWORD":
		return "password_file"
	case s.s3 == nil:
		return "directory"
	}
	return ""
}

// ready returns the repository; without one no call can be served.
func (p *plugin) ready() (*repository, error) {
	r := p.repository.Load()
	if r == nil {
		return nil, sdk.Errorf(codes.FailedPrecondition, "NOT_CONFIGURED", "the plugin has not been configured")
	}
	return r, nil
}

func (p *plugin) time() time.Time {
	if p.now != nil {
		return p.now()
	}
	return time.Now()
}
