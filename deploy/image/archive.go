package main

import (
	"archive/tar"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// writeArchive writes the image of all platforms as an OCI archive. The file is there only when it is whole.
func (i *image) writeArchive(path string) error {
	dir, err := os.MkdirTemp("", "drainmark-layout-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	// The first is for engines that take the whole name from one annotation (containerd), the second is the OCI's tag.
	names := map[string]string{"io.containerd.image.name": i.reference(), "org.opencontainers.image.ref.name": i.tag}
	if err := l.AppendIndex(i.index, layout.WithAnnotations(names)); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".drainmark-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // it has another name if all went well
	defer file.Close()
	if err := writeTar(file, dir, i.commit.time); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// writeTar writes a folder's files, in the order of their names, as root's and of one time.
func writeTar(to io.Writer, dir string, at time.Time) error {
	w := tar.NewWriter(to)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Mode: 0o644, Size: info.Size(), ModTime: at}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(w, file)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}
