//go:build !linux

package app

import "syscall"

func processAttributes() *syscall.SysProcAttr { return nil }
