//go:build !front

package cli

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/cli/term"
	"github.com/sop-host/sop/sdk"
	"github.com/sop-host/sop/sdk/scaffold"
)

type scaffoldNewOptions struct {
	*app
	dir string
}

func (a *app) newScaffoldNewCommand() *cobra.Command {
	o := &scaffoldNewOptions{app: a}
	cmd := &cobra.Command{
		Use:         "new NAME",
		Short:       "Begin a scaffold of your own",
		Long:        "Write a small scaffold that works, with an example, to a new directory NAME, by default here.",
		Example:     "  sop scaffold new changelog\n  sop scaffold new changelog --scaffolds /etc/sop/scaffolds && sop scaffold test /etc/sop/scaffolds/changelog",
		Args:        arguments(1, 1, "NAME"),
		Annotations: exits("6"),
		RunE:        func(_ *cobra.Command, args []string) error { return o.run(args[0]) },
	}
	cmd.Flags().StringVar(&o.dir, "scaffolds", ".", "`directory` in which the new one is made")
	return cmd
}

func (o *scaffoldNewOptions) run(name string) error {
	files, err := scaffold.New(name)
	if err != nil {
		return usagef("%v", err)
	}
	if err := os.MkdirAll(o.dir, 0o750); err != nil {
		return err
	}
	dir := filepath.Join(o.dir, name)
	if err := os.Mkdir(dir, 0o750); errors.Is(err, fs.ErrExist) {
		return sdk.Errorf(codes.AlreadyExists, "SCAFFOLD_EXISTS", "%s exists already and is left as it is", dir).
			WithRemedy("choose another name")
	} else if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(files))
	for i, base := range names {
		names[i] = filepath.Join(dir, base)
		if err := createFile(names[i], files[base]); err != nil {
			return err
		}
	}
	if o.json() {
		return printJSON(o.Out, map[string][]string{"files": names})
	}
	for _, n := range names {
		o.say("%s\n", term.Safe(n))
	}
	o.note("next: sop scaffold test %s\n", term.Safe(dir))
	return nil
}
