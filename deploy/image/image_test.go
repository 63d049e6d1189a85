package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// The image is made once for all tests, of the files as they are.
var (
	folder string
	made   = sync.OnceValues(func() (*image, error) {
		return build(context.Background(), options{source: "../..", name: "localhost/drainmark", platforms: platforms})
	})
	platforms = []string{"linux/amd64", "linux/arm64"}
)

func TestMain(m *testing.M) {
	code := func() int {
		var err error
		if folder, err = os.MkdirTemp("", "drainmark-image-test-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(folder)
		return m.Run()
	}()
	os.Exit(code)
}

func theImage(t *testing.T) *image {
	t.Helper()
	i, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// content is what a layer says of a file, and the file.
type content struct {
	header *tar.Header
	data   []byte
}

// unpack returns what an image has, by name, and fails if it has something twice.
func unpack(t *testing.T, img v1.Image) map[string]content {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]content)
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for archive := tar.NewReader(r); ; {
			header, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, twice := all[header.Name]; twice {
				t.Errorf("%s is there twice", header.Name)
			}
			data, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			all[header.Name] = content{header, data}
		}
	}
	return all
}

// The image has these files, modes and owners, and nothing else.
func TestFilesOfTheImage(t *testing.T) {
	i := theImage(t)
	machines := map[string]elf.Machine{"linux/amd64": elf.EM_X86_64, "linux/arm64": elf.EM_AARCH64}
	for _, platform := range platforms {
		all := unpack(t, i.images[platform])
		var listed []string
		for name, c := range all {
			if strings.HasPrefix(name, "usr/share/zoneinfo/") {
				continue
			}
			listed = append(listed, fmt.Sprintf("%s %o %d:%d", name, c.header.Mode, c.header.Uid, c.header.Gid))
		}
		slices.Sort(listed)
		want := []string{
			"drainmark 755 0:0", "etc/ 755 0:0", "etc/group 644 0:0", "etc/passwd 644 0:0", "etc/ssl/ 755 0:0", "etc/ssl/certs/ 755 0:0",
			"etc/ssl/certs/ca-certificates.crt 644 0:0", "tmp/ 1777 0:0", "usr/ 755 0:0", "usr/share/ 755 0:0", "usr/share/doc/ 755 0:0", "usr/share/doc/drainmark/ 755 0:0",
			"usr/share/doc/drainmark/LICENSE 644 0:0", "usr/share/doc/drainmark/THIRD_PARTY_NOTICES 644 0:0", "var/ 755 0:0", "var/lib/ 755 0:0", "var/lib/drainmark/ 770 65532:0",
		}
		if !slices.Equal(listed, want) {
			t.Errorf("%s has %q, not %q", platform, listed, want)
		}
		program, err := elf.NewFile(bytes.NewReader(all["drainmark"].data))
		if err != nil {
			t.Fatal(err)
		}
		if program.Machine != machines[platform] || program.Section(".interp") != nil {
			t.Errorf("the program for %s is for %s, or needs an interpreter", platform, program.Machine)
		}
		if at := all["drainmark"].header.ModTime; !at.Equal(i.commit.time) {
			t.Errorf("the program is of %s, and the commit of %s", at, i.commit.time)
		}
		if zone := all["usr/share/zoneinfo/Pacific/Kiritimati"]; !bytes.HasPrefix(zone.data, []byte("TZif")) || zone.header.Mode != 0o644 {
			t.Error("there are no time zones")
		}
		certificates := all["etc/ssl/certs/ca-certificates.crt"].data
		if !x509.NewCertPool().AppendCertsFromPEM(certificates) || bytes.Count(certificates, []byte("-----BEGIN CERTIFICATE-----")) < 100 {
			t.Error("there are too few certificates")
		}
	}
}

func TestConfigurationOfTheImage(t *testing.T) {
	i := theImage(t)
	for _, platform := range platforms {
		file, err := i.images[platform].ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c := file.Config
		if file.OS+"/"+file.Architecture != platform || !file.Created.Equal(i.commit.time) || len(file.RootFS.DiffIDs) != 2 {
			t.Errorf("%s is configured as %+v", platform, file)
		}
		if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/drainmark"}) || c.Cmd != nil || c.WorkingDir != "/" || !slices.Equal(c.Env, environment) {
			t.Errorf("%s is run as %+v", platform, c)
		}
		for _, label := range []string{"title", "description", "source", "revision", "version", "licenses", "created"} {
			if c.Labels["org.opencontainers.image."+label] == "" {
				t.Errorf("%s has no label %s", platform, label)
			}
		}
		if at, err := time.Parse(time.RFC3339, c.Labels["org.opencontainers.image.created"]); err != nil || !at.Equal(i.commit.time) {
			t.Errorf("it was created at %s, %v", at, err)
		}
	}
	index, err := i.index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for n, m := range index.Manifests {
		if m.ArtifactType != "" || m.Platform.String() != platforms[n] {
			t.Errorf("the index lists %+v", m)
		}
	}
}

// The archive is an OCI layout with one index in it, which has the name that engines give the image.
func TestArchive(t *testing.T) {
	i := theImage(t)
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := i.writeArchive(path); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "tar", "-xf", path, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(l); err != nil {
		t.Error(err)
	}
	manifest, err := l.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := i.index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest != digest || manifest.Manifests[0].Annotations["io.containerd.image.name"] != i.reference() {
		t.Errorf("the archive lists %+v", manifest.Manifests)
	}
	if strings.ContainsAny(i.tag, "+/: ") || i.tag == "" {
		t.Errorf("the tag is %q", i.tag)
	}
}

// Another clone of the same files, elsewhere on the machine and built with other settings, makes the same archive.
func TestSameBytes(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "a longer path", "of a clone")
	if err := os.MkdirAll(filepath.Dir(elsewhere), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", "../..", elsewhere).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Setenv("GOFLAGS", "-race")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("TZ", "Pacific/Kiritimati")
	again, err := build(t.Context(), options{source: elsewhere, name: "localhost/drainmark", platforms: platforms})
	if err != nil {
		t.Fatal(err)
	}
	var archives [2][]byte
	for n, i := range []*image{theImage(t), again} {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := i.writeArchive(path); err != nil {
			t.Fatal(err)
		}
		if archives[n], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("the archives differ")
	}
}

// fakeEngine puts a program into the PATH, before all others, that answers and keeps what it is given.
func fakeEngine(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// An engine that is installed and does not answer is passed over. The next gets the image in docker's format.
func TestLoading(t *testing.T) {
	i := theImage(t)
	kept := filepath.Join(t.TempDir(), "loaded.tar")
	fakeEngine(t, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1\n")
	fakeEngine(t, "podman", `[ "$1" != load ] || cat >`+kept+"\n")
	if err := load(t.Context(), i, "unused"); err != nil {
		t.Fatal(err)
	}
	list, err := exec.CommandContext(t.Context(), "tar", "-xOf", kept, "manifest.json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var manifest []struct{ RepoTags []string }
	if err := json.Unmarshal(list, &manifest); err != nil || len(manifest) != 1 || !slices.Equal(manifest[0].RepoTags, []string{i.reference()}) {
		t.Errorf("it was given %s, %v", list, err)
	}
	fakeEngine(t, "podman", "[ \"$1\" != load ] || { echo 'no space left' >&2; exit 1; }\n")
	if err := load(t.Context(), i, "unused"); err == nil || !strings.Contains(err.Error(), "podman") || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a full engine: %v", err)
	}
}

// A registry gets all platforms, under the digest that was printed.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	i := *theImage(t)
	i.name = strings.TrimPrefix(server.URL, "http://") + "/drainmark"
	if err := i.push(t.Context()); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(i.reference())
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(got); err != nil {
		t.Error(err)
	}
	digest, err := i.index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if there, err := got.Digest(); err != nil || there != digest {
		t.Errorf("the registry has %s, %v, not %s", there, err, digest)
	}
}
