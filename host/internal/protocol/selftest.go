package protocol

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/sop-host/sop/proto/sop/plugin/v1"
	"github.com/sop-host/sop/sdk"
)

// Subsystem is what maintenance requests about a protocol name.
func Subsystem(name string) string { return "protocol." + name }

// test makes the self-test of a generation that has not passed it, under a token
// for tests: until it is passed the peer has no other.
func (p *peer) test(ctx context.Context, client pluginv1.ProtocolClient, generation int) error {
	t := p.set.Load().SelfTest
	p.mu.Lock()
	passed := p.passed[generation]
	p.mu.Unlock()
	if t == nil || passed {
		return nil
	}
	if p.stateNow() == StateActivating {
		p.move(StateTesting)
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	if err := p.runTest(ctx, client, t); err != nil {
		p.leaveTest(ctx, client)
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set.Load().SelfTest.same(t) {
		clear(p.passed) // of the generations before
		p.passed[generation] = true
	}
	return nil
}

func (p *peer) stateNow() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// runTest makes the call of a self-test, in passive mode.
func (p *peer) runTest(ctx context.Context, client pluginv1.ProtocolClient, t *SelfTest) error {
	secret, end, err := p.service.opt.Grants.Test(ctx, p.name, t.Operation)
	if err != nil {
		return err
	}
	defer end()
	if err := switchMode(ctx, p.name, client, secret, Passive); err != nil {
		return err
	}
	if err := p.testCall(ctx, client, t, secret); err != nil {
		return testFailed(p.name, t, err)
	}
	return nil
}

func (p *peer) testCall(ctx context.Context, client pluginv1.ProtocolClient, t *SelfTest, secret string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	resp, err := client.Handle(ctx, &pluginv1.HandleRequest{Call: &pluginv1.Call{
		RequestId: id.String(), Operation: t.Operation, Payload: t.Payload, Token: secret, Context: map[string]string{"agent": "host", "test": "true"},
	}})
	if err != nil {
		return err
	}
	if err := p.checkResult(t.Operation, resp.GetResult()); err != nil || len(t.Expect) == 0 {
		return err
	}
	return matchesText(t.Expect, resp.GetResult())
}

// leaveTest takes the peer back.
func (p *peer) leaveTest(ctx context.Context, client pluginv1.ProtocolClient) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusTimeout)
	defer cancel()
	if _, err := client.Deactivate(ctx, &pluginv1.DeactivateRequest{}); err != nil {
		p.service.opt.Logger.Warn("protocol did not leave its self-test in good order", "protocol", p.name, "error", err)
	}
}

// file asks for the maintenance of a peer that is not in service.
func (p *peer) file(ctx context.Context, why *sdk.Error) {
	if p.service.opt.Maintenance == nil || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	err := p.service.opt.Maintenance.File(ctx, Subsystem(p.name), fmt.Sprintf("Protocol %s is not in service: %s", p.name, why.Message), why.Remedy, "high")
	if err != nil {
		p.service.opt.Logger.Error("maintenance of a protocol could not be asked for", "protocol", p.name, "error", err)
	}
}

// healthy closes what was asked for when the peer failed.
func (p *peer) healthy(ctx context.Context) {
	if p.service.opt.Maintenance == nil {
		return
	}
	if err := p.service.opt.Maintenance.Healthy(ctx, Subsystem(p.name)); err != nil {
		p.service.opt.Logger.Warn("a healthy protocol could not be reported", "protocol", p.name, "error", err)
	}
}

func testFailed(name string, t *SelfTest, cause error) *sdk.Error {
	c := sdk.FromError(cause)
	e := sdk.Errorf(codes.FailedPrecondition, ReasonTestFailed, "the self-test of protocol %s, %s, failed: %w", name, t.Operation, c)
	e.Remedy, e.Retryable = c.Remedy, c.Retryable
	if e.Remedy == "" {
		e.Remedy = "mend the peer, or the self_test of the protocol; then `sop protocol activate " + name + "`"
	}
	return e
}

// matchesText is [matches] on JSON texts.
func matchesText(shape, value []byte) error {
	var want, got any
	if err := json.Unmarshal(shape, &want); err != nil {
		return fmt.Errorf("the expected shape is no JSON: %w", err)
	}
	if err := json.Unmarshal(value, &got); err != nil {
		return fmt.Errorf("the answer is no JSON: %w", err)
	}
	return matches(want, got, "the answer")
}

// CheckShape says whether a text is a shape.
func CheckShape(shape []byte) error {
	var want any
	if err := json.Unmarshal(shape, &want); err != nil {
		return fmt.Errorf("it is no JSON: %w", err)
	}
	return checkShape(want, "the shape")
}

var shapeWords = []string{"any", "bool", "list", "null", "number", "object", "string"}

func checkShape(want any, at string) error {
	switch w := want.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(w)) {
			if err := checkShape(w[key], at+"."+key); err != nil {
				return err
			}
		}
	case []any:
		if len(w) > 1 {
			return fmt.Errorf("%s has more than one element: give that which all are like", at)
		}
		for _, element := range w {
			return checkShape(element, at+"[]")
		}
	case string:
		if !strings.HasPrefix(w, "=") && !slices.Contains(shapeWords, w) {
			return fmt.Errorf("%s is %q: give one of %s, or = and the exact text", at, w, strings.Join(shapeWords, ", "))
		}
	}
	return nil
}

// matches says where a value is not of a shape. A shape is a value in which
//
//   - an object stands for one that has its keys, each of the shape given, and
//     perhaps more;
//   - a list of one element stands for one whose elements are all of its shape, an
//     empty list for any;
//   - the texts "string", "number", "bool", "list", "object", "null" and "any"
//     stand for a value of that kind, and any other text that begins with = for
//     what follows;
//   - numbers, true, false and null stand for themselves.
func matches(want, got any, at string) error {
	switch w := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return differs(at, "an object", got)
		}
		for _, key := range slices.Sorted(maps.Keys(w)) {
			value, there := object[key]
			if !there {
				return fmt.Errorf("%s has no %q", at, key)
			}
			if err := matches(w[key], value, at+"."+key); err != nil {
				return err
			}
		}
		return nil
	case []any:
		return matchesList(w, got, at)
	case string:
		return matchesWord(w, got, at)
	}
	if want != got {
		return differs(at, fmt.Sprint(want), got)
	}
	return nil
}

func matchesList(want []any, got any, at string) error {
	list, ok := got.([]any)
	if !ok {
		return differs(at, "a list", got)
	}
	for _, element := range want {
		for i, value := range list {
			if err := matches(element, value, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func matchesWord(want string, got any, at string) error {
	if exact, ok := strings.CutPrefix(want, "="); ok {
		if text, is := got.(string); !is || text != exact {
			return differs(at, fmt.Sprintf("%q", exact), got)
		}
		return nil
	}
	if want != "any" && kindOf(got) != want {
		return differs(at, "of kind "+want, got)
	}
	return nil
}

func kindOf(v any) string {
	switch v.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "list"
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "bool"
	}
	return "null"
}

func differs(at, want string, got any) error {
	return fmt.Errorf("%s is not %s but %s", at, want, kindOf(got))
}
