//go:build !front

package cli

import (
	_ "embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/sdk"
)

//go:embed init.hcl
var firstConfig []byte

type initOptions struct {
	*app
	dir string
}

func (a *app) newInitCommand() *cobra.Command {
	o := &initOptions{app: a, dir: "."}
	return &cobra.Command{
		Use:         "init [DIR]",
		Short:       "Write a first configuration",
		Long:        "Write a commented config.hcl to DIR, by default here, and say what to do next. An existing one is never overwritten.",
		Example:     "  sop init\n  sop init /etc/sop",
		Args:        arguments(0, 1, "DIR"),
		Annotations: exits("6"),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.dir = args[0]
			}
			return o.run()
		},
	}
}

func (o *initOptions) run() error {
	path := filepath.Join(o.dir, configName)
	if err := os.MkdirAll(o.dir, 0o750); err != nil {
		return err
	}
	if err := createFile(path, firstConfig); err != nil {
		return err
	}
	if o.json() {
		return printJSON(o.Out, map[string]string{"path": absolute(path)})
	}
	flag := ""
	if o.dir != "." {
		flag = " -c " + term.Safe(path)
	}
	o.say(`wrote %s; read it, it is short

next:
  sop validate%[2]s      check it
  sop plugin lock%[2]s   record the plugins' checksums
  sop up%[2]s            start the host
`, term.Safe(path), flag)
	return nil
}

func createFile(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // a configuration is no secret, and others may have to read it
	if errors.Is(err, fs.ErrExist) {
		return sdk.Errorf(codes.AlreadyExists, "CONFIG_EXISTS", "%s exists already and is left as it is", path).
			WithRemedy("edit it, or name another directory: `sop init DIR`")
	}
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Close())
}
