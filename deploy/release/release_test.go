// Package release_test checks the configuration of releases, and makes the packages that it describes.
package release_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goreleaser/goreleaser/v2/pkg/config"
	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
	"github.com/sassoftware/go-rpmutils"
)

// root is the project's root, where goreleaser runs.
const root = "../.."

// configuration reads .goreleaser.yaml as goreleaser does, which refuses what it does not know.
func configuration(t *testing.T) config.Project {
	t.Helper()
	t.Chdir(root)
	project, err := config.Load(".goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// A release has static programs for these systems, which know their version, archives with an SBOM each, checksums, and
// what is in the archives.
func TestConfiguration(t *testing.T) {
	p := configuration(t)
	if len(p.Builds) != 1 || len(p.Archives) != 1 || len(p.NFPMs) != 1 || len(p.SBOMs) != 1 || len(p.Signs) != 2 {
		t.Fatalf("the configuration is %+v", p)
	}
	b := p.Builds[0]
	if !slices.Equal(b.Goos, []string{"linux", "darwin"}) || !slices.Equal(b.Goarch, []string{"amd64", "arm64"}) || !slices.Contains(b.Env, "CGO_ENABLED=0") ||
		!slices.Contains(b.Flags, "-trimpath") || !strings.Contains(strings.Join(b.Ldflags, " "), "-X github.com/drainmark/drainmark/app.version=v{{ .Version }}") || b.ModTimestamp == "" {
		t.Errorf("the build is %+v", b)
	}
	if p.SBOMs[0].Artifacts != "archive" || p.Checksum.Algorithm != "sha256" {
		t.Errorf("the SBOM is %+v, the checksums are %+v", p.SBOMs[0], p.Checksum)
	}
	makeReleaseFiles(t)
	var packed []string
	for _, name := range []string{"LICENSE", "THIRD_PARTY_NOTICES"} {
		if !slices.ContainsFunc(p.Archives[0].Files, func(f config.File) bool { return f.Source == name }) {
			t.Errorf("the archive has no %s", name)
		}
	}
	for _, file := range p.Archives[0].Files {
		matches, err := filepath.Glob(file.Source)
		if err != nil || len(matches) == 0 {
			t.Errorf("there is no %s for the archive, %v", file.Source, err)
		}
		packed = append(packed, matches...)
	}
	for _, name := range documented(t) {
		if !slices.Contains(packed, filepath.Join("deploy", name)) {
			t.Errorf("the archive lacks %s", name)
		}
	}
}

// documented are the files of deploy that the archive and both packages have beside the program, as "permissions/redis.acl":
// the permissions that brokers and stores are given, and the example of a configuration file with its schema.
func documented(t *testing.T) (names []string) {
	t.Helper()
	for _, folder := range []string{"permissions", "config"} {
		all, err := filepath.Glob(filepath.Join("deploy", folder, "*")) // the working directory is the root
		if err != nil || len(all) < 2 {
			t.Fatalf("there are %q, %v", all, err)
		}
		for _, path := range all {
			if filepath.Ext(path) != ".go" {
				names = append(names, filepath.Join(folder, filepath.Base(path)))
			}
		}
	}
	return names
}

// The checksums, which name every other file, are signed and attested without a key. Each has a file of its own.
func TestSignatures(t *testing.T) {
	p := configuration(t)
	names := map[string]bool{}
	for n, command := range []string{"sign-blob", "attest-blob"} {
		s := p.Signs[n]
		if s.Cmd != "cosign" || s.Artifacts != "checksum" || len(s.Args) == 0 || s.Args[0] != command || !slices.Contains(s.Args, "--bundle=${signature}") ||
			slices.ContainsFunc(s.Args, func(a string) bool { return strings.Contains(a, "key") }) || names[s.ID] || names[s.Signature] {
			t.Errorf("%s is configured as %+v", command, s)
		}
		names[s.ID], names[s.Signature] = true, true
	}
	how, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	for n, verify := range []string{"cosign verify-blob --bundle ", "cosign verify-blob-attestation --bundle "} {
		if made := strings.ReplaceAll(p.Signs[n].Signature, "${artifact}", p.Checksum.NameTemplate); !strings.Contains(string(how), verify+made+" ") {
			t.Errorf("SECURITY.md does not say %s%s", verify, made)
		}
	}
	if attest := p.Signs[1].Args; !slices.Contains(attest, "--predicate=bin/provenance.json") || !slices.Contains(attest, "--type=slsaprovenance1") {
		t.Errorf("what is attested: %q", attest)
	}
}

// The provenance says from which commit and tag, and by which Go.
func TestProvenance(t *testing.T) {
	configuration(t)
	makeReleaseFiles(t)
	text, err := os.ReadFile("bin/provenance.json")
	if err != nil {
		t.Fatal(err)
	}
	type dependency struct {
		URI    string
		Digest struct{ GitCommit string }
	}
	var said struct {
		BuildDefinition struct {
			BuildType            string
			ExternalParameters   struct{ Source, Ref string }
			InternalParameters   struct{ Go string }
			ResolvedDependencies []dependency
		}
		RunDetails struct{ Builder struct{ ID string } }
	}
	if err := json.Unmarshal(text, &said); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	commit, err := exec.CommandContext(t.Context(), "git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	from := dependency{URI: "git+https://github.com/drainmark/drainmark@refs/tags/v9.8.7"}
	from.Digest.GitCommit = strings.TrimSpace(string(commit))
	d := said.BuildDefinition
	if d.BuildType == "" || said.RunDetails.Builder.ID == "" || d.ExternalParameters.Ref != "refs/tags/v9.8.7" || d.ExternalParameters.Source == "" ||
		!strings.HasPrefix(d.InternalParameters.Go, "go1.") || !slices.Equal(d.ResolvedDependencies, []dependency{from}) {
		t.Errorf("it says %s", text)
	}
}

// makeReleaseFiles does what goreleaser does before anything else.
func makeReleaseFiles(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "make", "release-files", "VERSION=v9.8.7").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// pack makes a package of a format as goreleaser does, with a program in it.
func pack(t *testing.T, format string) string {
	t.Helper()
	n := configuration(t).NFPMs[0]
	makeReleaseFiles(t)
	info := &nfpm.Info{
		Name: n.PackageName, Arch: "amd64", Platform: "linux", Version: "9.8.7", Section: n.Section, Maintainer: n.Maintainer, Description: n.Description,
		Vendor: n.Vendor, Homepage: n.Homepage, License: n.License, MTime: time.Unix(1_700_000_000, 0),
		Overridables: nfpm.Overridables{Recommends: n.Recommends, Scripts: nfpm.Scripts{
			PreInstall: n.Scripts.PreInstall, PostInstall: n.Scripts.PostInstall, PreRemove: n.Scripts.PreRemove, PostRemove: n.Scripts.PostRemove,
		}},
	}
	for _, c := range n.Contents {
		info.Contents = append(info.Contents, &files.Content{
			Source: c.Source, Destination: c.Destination, Type: c.Type, Packager: c.Packager,
			FileInfo: &files.ContentFileInfo{Owner: c.FileInfo.Owner, Group: c.FileInfo.Group, Mode: c.FileInfo.Mode, MTime: info.MTime},
		})
	}
	program := filepath.Join(t.TempDir(), "drainmark")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	info.Contents = append(info.Contents, &files.Content{Source: program, Destination: filepath.Join(n.Bindir, "drainmark"), FileInfo: &files.ContentFileInfo{Mode: 0o755}})
	packager, err := nfpm.Get(format)
	if err != nil {
		t.Fatal(err)
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		t.Fatal(err)
	}
	var made bytes.Buffer
	if err := packager.Package(info, &made); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), packager.ConventionalFileName(info))
	if err := os.WriteFile(path, made.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// common are the files of both packages, with their modes.
var common = []string{
	"/etc/drainmark/backend.env 600", "/etc/drainmark/consumer.env 600", "/etc/drainmark/frontend.env 600", "/etc/drainmark/up.env 600",
	"/usr/bin/drainmark 755", "/usr/lib/systemd/system/drainmark-backend.service 644", "/usr/lib/systemd/system/drainmark-consumer.service 644",
	"/usr/lib/systemd/system/drainmark-frontend.service 644", "/usr/lib/systemd/system/drainmark-up.service 644", "/usr/lib/sysusers.d/drainmark.conf 644",
	"/usr/share/bash-completion/completions/drainmark 644", "/usr/share/fish/vendor_completions.d/drainmark.fish 644", "/usr/share/man/man1/drainmark.1.gz 644",
}

func compare(t *testing.T, got []string, more ...string) {
	t.Helper()
	for _, name := range documented(t) {
		more = append(more, "/usr/share/doc/drainmark/"+name+" 644")
	}
	want := slices.Sorted(slices.Values(append(slices.Clone(common), more...)))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the package has\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestDeb(t *testing.T) {
	path := pack(t, "deb")
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--raw-extract", path, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got []string
	err := filepath.WalkDir(dir, func(file string, entry os.DirEntry, err error) error {
		name := strings.TrimPrefix(file, dir)
		if err != nil || entry.IsDir() || strings.HasPrefix(name, "/DEBIAN/") {
			return err
		}
		info, err := entry.Info()
		got = append(got, fmt.Sprintf("%s %o", name, info.Mode().Perm()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, "/usr/share/doc/drainmark/THIRD_PARTY_NOTICES 644", "/usr/share/doc/drainmark/copyright 644", "/usr/share/zsh/vendor-completions/_drainmark 644")
	if info, err := os.Stat(filepath.Join(dir, "etc/drainmark")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the folder of the settings: %v, %v", info, err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "DEBIAN/conffiles"))
	if err != nil || strings.Count(string(kept), "/etc/drainmark/") != 4 {
		t.Errorf("an upgrade keeps %q, %v", kept, err)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", filepath.Join(dir, "DEBIAN", script)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v, %s", script, err, out)
		}
	}
}

func TestRPM(t *testing.T) {
	file, err := os.Open(pack(t, "rpm"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rpm, err := rpmutils.ReadRpm(file)
	if err != nil {
		t.Fatal(err)
	}
	list, err := rpm.Header.GetFiles()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range list {
		if f.Mode()&0o170000 == 0o040000 { // a folder
			continue
		}
		got = append(got, fmt.Sprintf("%s %o", f.Name(), f.Mode()&0o777))
		if strings.HasPrefix(f.Name(), "/etc/") && f.Flags()&(1<<4) == 0 { // RPMFILE_NOREPLACE
			t.Errorf("an upgrade replaces %s", f.Name())
		}
	}
	compare(t, got, "/usr/share/licenses/drainmark/LICENSE 644", "/usr/share/licenses/drainmark/THIRD_PARTY_NOTICES 644", "/usr/share/zsh/site-functions/_drainmark 644")
	if payload, err := rpm.PayloadReaderExtended(); err != nil {
		t.Error(err)
	} else if _, err := payload.Next(); err != nil && err != io.EOF {
		t.Error(err)
	}
}

// The package's scripts make the user, start nothing, and stop what runs when the package goes, but not when a newer
// one comes. The programs that they call are not the machine's.
func TestScriptsOfPackages(t *testing.T) {
	for _, test := range []struct {
		script, argument string
		want             string
	}{
		{"postinstall.sh", "configure", "systemd-sysusers drainmark.conf\n"},
		{"preremove.sh", "upgrade", ""},
		{"preremove.sh", "1", ""},
		{"postremove.sh", "remove", ""},
	} {
		bin := t.TempDir()
		for _, program := range []string{"systemd-sysusers", "systemctl"} {
			if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\necho "+program+" $*\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), "/bin/sh", test.script, test.argument)
		cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin"}
		out, err := cmd.CombinedOutput()
		said := strings.ReplaceAll(string(out), "systemctl daemon-reload\n", "") // where systemd runs
		if err != nil || said != test.want {
			t.Errorf("%s %s: %v, %q, not %q", test.script, test.argument, err, said, test.want)
		}
	}
}
