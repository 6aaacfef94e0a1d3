package patch

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sop-host/sop/host/internal/sandbox"
)

// Risk is a reason to look at a patch twice.
type Risk string

// The risks. They are part of the policy schema.
const (
	RiskCI              Risk = "ci"               // continuous integration runs what it says
	RiskAgentConfig     Risk = "agent_config"     // agents do what it says
	RiskToolConfig      Risk = "tool_config"      // editors, git or shells do what it says
	RiskSecurity        Risk = "security"         // it is about who may do what, or about keys, or can be run from now on
	RiskTestsDeleted    Risk = "tests_deleted"    // there are fewer tests afterwards
	RiskCoverageLowered Risk = "coverage_lowered" // verification has measured it
)

// Risks returns all risks.
func Risks() []Risk {
	return []Risk{RiskAgentConfig, RiskCI, RiskCoverageLowered, RiskSecurity, RiskTestsDeleted, RiskToolConfig}
}

// risks finds those that can be seen in the changes.
func (s *Service) risks(set *sandbox.ChangeSet) ([]Risk, error) {
	found := make(map[Risk]bool)
	for i := range set.Changes {
		c := &set.Changes[i]
		switch c.Flag {
		case "":
		case "continuous integration":
			found[RiskCI] = true
		case "agent configuration":
			found[RiskAgentConfig] = true
		default:
			found[RiskToolConfig] = true
		}
		if aboutSecurity(c) {
			found[RiskSecurity] = true
		}
		fewer, err := s.fewerTests(c)
		if err != nil {
			return nil, err
		}
		if fewer {
			found[RiskTestsDeleted] = true
		}
	}
	return sorted(found), nil
}

func sorted(found map[Risk]bool) (all []Risk) {
	for risk := range found {
		all = append(all, risk)
	}
	slices.Sort(all)
	return all
}

// withRisk adds one.
func withRisk(all []Risk, risk Risk) []Risk {
	all = append(slices.Clone(all), risk)
	slices.Sort(all)
	return slices.Compact(all)
}

// What is about security by its name: directories, names, and endings.
var (
	securityDirs  = strings.Fields("auth authn authz oauth security crypto cryptography secret secrets iam rbac policy policies permissions keys certs acl sudoers.d pam.d")
	securityNames = strings.Fields("security.md codeowners authorized_keys known_hosts sudoers .htaccess .htpasswd dockerfile security.txt")
	securityEnds  = strings.Fields(".pem .key .crt .cer .p12 .pfx .jks .cedar .cedarschema .rego .kdbx .asc")
)

func aboutSecurity(c *sandbox.Change) bool {
	const execute = 0o111
	if c.Op != sandbox.OpMkdir && !c.OldDir && c.Op != sandbox.OpDelete && c.Mode&execute&^c.OldMode != 0 {
		return true // it can be run from now on
	}
	parts := strings.Split(strings.ToLower(c.Path), "/")
	last := parts[len(parts)-1]
	for _, dir := range parts[:len(parts)-1] {
		if slices.Contains(securityDirs, dir) {
			return true
		}
	}
	stem := strings.TrimSuffix(last, path.Ext(last))
	return slices.Contains(securityNames, last) || slices.Contains(securityEnds, path.Ext(last)) || slices.Contains(securityDirs, stem)
}

// testFile recognises files of tests by their names.
var testFile = regexp.MustCompile(`(?i)(_test\.go|(^|/)test_[^/]*\.py|_test\.py|[._-](test|spec)\.[cm]?[jt]sx?|(^|/)(tests?|specs?|__tests__)/.*\.(py|[cm]?[jt]sx?|rb|rs|java|kt|c|cc|cpp|sh|txtar)|_spec\.rb|Tests?\.(java|kt|cs))$`)

// testCase recognises the beginning of a test.
var testCase = regexp.MustCompile(`(?m)^\s*(func (Test|Fuzz|Example|Benchmark)\w*\(|(async )?def test_|class Test|(it|test|describe)\(|@Test\b|#\[(tokio::)?test\]|\[(Fact|Test|Theory)\])`)

// maxTestFile bounds the files that are looked into, in bytes.
const maxTestFile = 4 << 20

// fewerTests says whether a change removes tests.
func (s *Service) fewerTests(c *sandbox.Change) (bool, error) {
	if c.OldDir || c.OldSHA256 == "" || !testFile.MatchString(c.Path) {
		return false, nil
	}
	switch c.Op {
	case sandbox.OpDelete, sandbox.OpSymlink:
		return true, nil
	case sandbox.OpModify:
	default:
		return false, nil
	}
	p := new(Patch)
	was, err := readAll(s.OldContent(p), c, maxTestFile)
	if err != nil {
		return false, err
	}
	now, err := readAll(s.Content(p), c, maxTestFile)
	if err != nil {
		return false, err
	}
	return tests(now) < tests(was), nil
}

func tests(text []byte) int {
	if bytes.IndexByte(text, 0) >= 0 {
		return 0
	}
	return len(testCase.FindAllIndex(text, -1))
}
