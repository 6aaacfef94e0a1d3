//go:build !front

package cli

import (
	"context"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/sop-host/sop/host/internal/cli/sarif"
	"github.com/sop-host/sop/host/internal/startup"
	"github.com/sop-host/sop/sdk"
)

type scanOptions struct {
	*app
	path       string
	format     string
	failOn     string
	exclude    []string
	outputFile string
	verbose    bool
}

func (a *app) newScanCommand() *cobra.Command {
	o := &scanOptions{app: a, path: "."}
	cmd := &cobra.Command{
		Use:   "scan [PATH]",
		Short: "Look for gaps in one tree, once, without a host",
		Long: `Look for gaps in the tree at PATH, by default here, with the bundled detectors. It takes no host and no configuration,
and leaves nothing behind. What could not be examined is listed and does not fail the scan.`,
		Example: `  sop scan .
  sop scan . --fail-on high             # exit 3 when a gap is high or critical
  sop scan . --format sarif --output-file sop.sarif
  sop scan . --exclude 'third_party/' -o json | jq .summary`,
		Args:        arguments(0, 1, "PATH"),
		Annotations: map[string]string{annotationExits: "37", annotationSARIF: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.path = args[0]
			}
			return o.run(cmd.Context(), cmd.Flags().Changed("output"))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.format, "format", "", "`form` of the result: table, json or sarif (as --output)")
	flags.StringVar(&o.failOn, "fail-on", "", "exit 3 when a gap is of this `severity` or worse: critical, high, medium, low or info")
	flags.StringArrayVar(&o.exclude, "exclude", nil, "do not look at what this `pattern` matches, as in .gitignore; repeatable")
	flags.StringVar(&o.outputFile, "output-file", "", "write the result to this `file` instead of standard output")
	flags.BoolVar(&o.verbose, "verbose", false, "write the plugins' logs to standard error")
	a.completeWords(cmd, "format", outputTable, outputJSON, outputSARIF)
	a.completeWords(cmd, "fail-on", severities...)
	return cmd
}

func (o *scanOptions) run(ctx context.Context, outputGiven bool) error {
	if err := o.check(outputGiven); err != nil {
		return err
	}
	outcome, err := o.engine.ScanOnce(ctx, o.request())
	if err != nil {
		return here(err)
	}
	slices.SortStableFunc(outcome.Gaps, bySeverity)
	if err := o.write(outcome); err != nil {
		return err
	}
	return o.verdict(outcome)
}

func (o *scanOptions) check(outputGiven bool) error {
	if o.format != "" {
		if err := oneOf("format", o.format, []string{outputTable, outputJSON, outputSARIF}); err != nil {
			return err
		}
		if outputGiven && o.format != o.global.output {
			return usagef("--format %s and --output %s contradict each other", o.format, o.global.output)
		}
		o.global.output = o.format
	}
	if o.failOn != "" {
		if err := oneOf("fail-on", o.failOn, severities); err != nil {
			return err
		}
	}
	info, err := os.Stat(o.path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return usagef("%s is not a directory", o.path).WithRemedy("name the root of the tree, and use --exclude to narrow it")
	}
	return nil
}

func (o *scanOptions) request() startup.ScanOptions {
	request := startup.ScanOptions{
		Path: absolute(o.path), PluginsDir: o.pluginsDir(), Version: o.version.Version,
		Exclude: o.exclude, Timeout: scanTimeout,
	}
	if o.global.timeout > 0 {
		request.Timeout = o.global.timeout
	}
	if o.verbose {
		request.LogWriter = o.Err
	}
	return request
}

// write writes the result to standard output, or whole and at once to the file
// that was named.
func (o *scanOptions) write(outcome *startup.ScanOutcome) (err error) {
	w, width, palette := o.Out, o.width(), o.palette(o.OutTerminal)
	if o.outputFile != "" {
		file, err := os.Create(o.outputFile)
		if err != nil {
			return err
		}
		defer func() {
			if closed := file.Close(); err == nil {
				err = closed
			}
		}()
		w, width, palette = io.Writer(file), 0, false
	}
	switch o.global.output {
	case outputJSON:
		return printJSON(w, newScanDocument(outcome))
	case outputSARIF:
		return sarif.Write(w, outcome, absolute(o.path), o.version.Version)
	}
	return scanTable{palette, width}.write(w, outcome)
}

func (o *scanOptions) verdict(outcome *startup.ScanOutcome) error {
	if problem := outcome.Scan.GetError(); problem != "" {
		return sdk.Errorf(codes.Internal, "SCAN_FAILED", "the scan failed: %s", problem)
	}
	for _, gap := range outcome.Gaps {
		if o.failOn != "" && gap.GetState() != "suppressed" && severityRank(gap.GetSeverity()) <= severityRank(o.failOn) {
			return exitError(exitPending)
		}
	}
	return nil
}
