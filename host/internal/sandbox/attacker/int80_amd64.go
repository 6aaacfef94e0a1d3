package main

import "fmt"

// int80 makes a call of the 32-bit ABI.
func int80(nr uint32) uint32

func int80Call(Targets) error {
	if pid := int32(int80(20)); pid <= 0 { // getpid
		return fmt.Errorf("errno %d", -pid)
	}
	return nil
}
