package event

import (
	"sync"
	"testing"
)

func TestNotice(t *testing.T) {
	var n Notice
	n.Tell() // nobody waits
	a, b := n.Wait(), n.Wait()
	select {
	case <-a:
		t.Fatal("told too early")
	default:
	}
	n.Tell()
	<-a
	<-b
	select {
	case <-n.Wait():
		t.Fatal("the next change was told before it came")
	default:
	}
}

func TestNoticeIsForAll(t *testing.T) {
	var n Notice
	var waiting, told sync.WaitGroup
	for range 50 {
		waiting.Add(1)
		told.Go(func() {
			c := n.Wait()
			waiting.Done()
			<-c
		})
	}
	waiting.Wait()
	n.Tell()
	told.Wait()
}
