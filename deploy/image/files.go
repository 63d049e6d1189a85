package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// user is who the program runs as if nobody says otherwise. The number is the one that distroless images have.
const user = 65532

// dataDir is where "up" keeps its data. Its group is the one that containers have whose user was chosen by somebody
// else, and a new volume of an engine takes over who may write.
const dataDir = "var/lib/drainmark"

// file is a file or a folder of a layer. Folders end with a slash.
type file struct {
	name     string
	mode     int64
	uid, gid int
	content  []byte
}

// The accounts of the image.
const (
	passwd = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
	group  = "root:x:0:\nnonroot:x:65532:\n"
)

// baseLayer is everything but the program. It is the same in every version, until a certificate changes: its files are
// of 1970.
func baseLayer(ctx context.Context) (v1.Layer, error) {
	certificates, err := certificates()
	if err != nil {
		return nil, err
	}
	zones, err := timeZones(ctx)
	if err != nil {
		return nil, err
	}
	files := []file{
		{name: "etc/", mode: 0o755},
		{name: "etc/group", mode: 0o644, content: []byte(group)},
		{name: "etc/passwd", mode: 0o644, content: []byte(passwd)},
		{name: "etc/ssl/", mode: 0o755},
		{name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: certificates},
		{name: "tmp/", mode: 0o1777},
		{name: "usr/", mode: 0o755},
		{name: "usr/share/", mode: 0o755},
		{name: "var/", mode: 0o755},
		{name: "var/lib/", mode: 0o755},
		{name: dataDir + "/", mode: 0o770, uid: user},
	}
	return layer(time.Unix(0, 0), append(files, zones...))
}

// timeZones are those of the Go that builds the program.
func timeZones(ctx context.Context) ([]file, error) {
	root, err := command(ctx, nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(root), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	files := []file{{name: "usr/share/zoneinfo/", mode: 0o755}}
	err = fs.WalkDir(archive, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		f := file{name: "usr/share/zoneinfo/" + name, mode: 0o644}
		if entry.IsDir() {
			f.name, f.mode = f.name+"/", 0o755
		} else if f.content, err = fs.ReadFile(archive, name); err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

// documents is the folder of the licenses.
const documents = "usr/share/doc/drainmark/"

// programLayer is the program, and the licenses of what is in it.
func programLayer(source, binary string, at time.Time) (v1.Layer, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	files := []file{{name: "drainmark", mode: 0o755, content: content}, {name: "usr/share/doc/", mode: 0o755}, {name: documents, mode: 0o755}}
	for _, name := range []string{"LICENSE", "THIRD_PARTY_NOTICES"} {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: documents + name, mode: 0o644, content: text})
	}
	return layer(at, files)
}

// certificates are the roots that Mozilla trusts, as PEM. A root that is trusted for certificates of some dates only is
// left out, because a file cannot say that.
func certificates() ([]byte, error) {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		parsed, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&all, "# %s\n", parsed.Subject)
		if err := pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, err
		}
	}
	return all.Bytes(), nil
}

// layer makes a layer of files, in their order, that all have one time.
func layer(at time.Time, files []file) (v1.Layer, error) {
	var all bytes.Buffer
	w := tar.NewWriter(&all)
	for _, f := range files {
		header := &tar.Header{
			Format: tar.FormatPAX, Name: f.name, Mode: f.mode, Uid: f.uid, Gid: f.gid, Size: int64(len(f.content)),
			ModTime: at.Truncate(time.Second), Typeflag: tar.TypeReg,
		}
		if f.name[len(f.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(all.Bytes())), nil }
	return tarball.LayerFromOpener(opener, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression),
		tarball.WithCompressedCaching)
}
