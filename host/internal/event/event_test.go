package event_test

import (
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/sop-host/sop/host/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type opened struct{ n int }

func drain[T any](s *event.Subscription[T]) []T {
	var got []T
	for v := range s.C() {
		got = append(got, v)
	}
	return got
}

func TestSubscribersReceiveTheirTypeInOrder(t *testing.T) {
	var bus event.Bus
	ints := event.Subscribe[int](&bus, 10)
	all := event.Subscribe[any](&bus, 10)
	bus.Publish(1)
	bus.Publish(opened{7})
	bus.Publish(2)
	bus.Close()
	bus.Close()
	bus.Publish(3)

	if got := drain(ints); len(got) != 2 || got[0] != 1 || got[1] != 2 {
		t.Errorf("ints received %v", got)
	}
	if got := drain(all); len(got) != 3 || got[1] != (opened{7}) {
		t.Errorf("all received %v", got)
	}
	if err := ints.Err(); !errors.Is(err, event.ErrClosed) {
		t.Errorf("Err after the bus was closed = %v", err)
	}
	late := event.Subscribe[int](&bus, 1)
	if got := drain(late); got != nil || !errors.Is(late.Err(), event.ErrClosed) {
		t.Errorf("subscription on a closed bus: %v, %v", got, late.Err())
	}
}

func TestSlowSubscriberIsCutOff(t *testing.T) {
	var bus event.Bus
	slow := event.Subscribe[int](&bus, 2)
	quick := event.Subscribe[int](&bus, 5)
	for i := range 5 {
		bus.Publish(i)
	}
	if got := drain(slow); len(got) != 2 {
		t.Errorf("slow received %v, want what fitted", got)
	}
	if err := slow.Err(); !errors.Is(err, event.ErrLagged) {
		t.Errorf("slow.Err = %v, want ErrLagged", err)
	}
	slow.Close()
	if err := quick.Err(); err != nil {
		t.Errorf("quick.Err = %v", err)
	}
	quick.Close()
	quick.Close()
	if got := drain(quick); len(got) != 5 || quick.Err() != nil {
		t.Errorf("quick received %v, %v", got, quick.Err())
	}
}

func TestConcurrentUse(t *testing.T) {
	var bus event.Bus
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				bus.Publish(i)
			}
		})
		wg.Go(func() {
			s := event.Subscribe[int](&bus, 4)
			<-s.C()
			s.Close()
			drain(s)
		})
	}
	wg.Go(func() {
		for range 1000 {
			bus.Publish(0)
		}
		bus.Close()
	})
	wg.Wait()
}
