//go:build !amd64

package main

import "errors"

func int80Call(Targets) error { return errors.New("there is no such instruction here") }
