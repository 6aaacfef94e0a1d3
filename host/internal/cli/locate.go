package cli

import (
	"os"
	"path/filepath"

	"github.com/sop-host/sop/host/internal/socket"
)

const configName = "config.hcl"

// configPath is what the flag or the environment names, ./config.hcl, or else
// the working directory.
func (a *app) configPath() string {
	for _, path := range []string{a.global.config, a.env("SOP_CONFIG")} {
		if path != "" {
			return path
		}
	}
	if _, err := os.Stat(configName); err == nil {
		return configName
	}
	return "."
}

// socket is where the host listens.
func (a *app) socket() string {
	for _, path := range []string{a.global.socket, a.env("SOP_SOCKET")} {
		if path != "" {
			return path
		}
	}
	if running, ok := socket.Announced(a.configPath()); ok && exists(running) {
		return running // also where the configuration has been edited since
	}
	return a.configuredSocket()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
