#!/usr/bin/env bash
# Checks that need the development tools. Each check runs even when an earlier
# one has failed; the last lines say which did.
set -uo pipefail
cd "$(dirname "$0")"
PATH="$PWD/.tools:$PATH"
failed=()
export CGO_ENABLED=0 GOFLAGS=-trimpath # as `make build` has compiled everything

check() {
  local name=$1
  shift
  echo "== $name"
  if ! "$@"; then failed+=("$name"); fi
}

format() {
  local files
  files=$(git ls-files '*.go' | grep -vE '\.pb\.go$|\.connect\.go$' | xargs gofumpt -l)
  [ -z "$files" ] || { printf 'not formatted (make format):\n%s\n' "$files"; return 1; }
}

# The modules beside the host's: plugins with libraries of their own, which are
# built as make does, so that they are built once.
modules() {
  local m
  local -x GOFLAGS="${GOFLAGS:-} -trimpath"
  for m in plugins/*/go.mod; do (cd "$(dirname "$m")" && "$@") || return 1; done
}

tidy() {
  go mod tidy -diff && (cd tools && go mod tidy -diff) && modules go mod tidy -diff
}

generated() {
  local dir
  dir=$(mktemp -d) || return 1
  cp -r proto "$dir/" &&
    (cd "$dir/proto" && find . -name '*.go' -delete && for t in buf.gen.*.yaml; do buf generate --template "$t" || exit 1; done) &&
    diff -r proto "$dir/proto" && diff docs/openapi.json "$dir/docs/openapi.json"
  local status=$?
  rm -rf "$dir"
  [ $status -eq 0 ] || echo 'generated code is stale (make generate)'
  return $status
}

# The contract is compared with the one that was released last, which is kept as
# buf builds it (make release-contract): a field or an rpc that is gone fails.
breaking() {
  (cd proto && buf breaking --against released.binpb)
}

# The vulnerability database is not always in reach; that it could not be asked
# must not look like a pass.
vulnerabilities() {
  local out
  if out=$(govulncheck ./... 2>&1 && modules govulncheck ./... 2>&1); then echo "$out" | tail -n 3; return 0; fi
  if grep -qiE 'dial tcp|no such host|connection refused|403|forbidden|fetching vulnerabilities|timeout|EOF' <<<"$out"; then
    echo '*** NOT CHECKED: the Go vulnerability database cannot be reached from here ***'
    echo "$out" | tail -n 2
    return 0
  fi
  echo "$out"
  return 1
}

check 'go vet' go vet ./...
check 'go vet of modules' modules go vet ./...
check 'gofumpt' format
check 'go mod tidy' tidy
check 'golangci-lint' golangci-lint run ./...
check 'golangci-lint of modules' modules golangci-lint run ./...
check 'buf lint' bash -c 'cd proto && buf lint'
check 'buf format' bash -c 'cd proto && buf format --diff --exit-code'
check 'buf breaking' breaking
check 'generated code' generated
check 'govulncheck' vulnerabilities
check 'examples' bash -c 'for d in examples/*/go.mod; do (cd "$(dirname "$d")" && go vet ./...) || exit 1; done'

if [ ${#failed[@]} -gt 0 ]; then
  printf 'verify failed: %s\n' "${failed[@]}"
  exit 1
fi
echo 'verify: all checks passed'
