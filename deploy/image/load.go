package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// engine is a program that keeps images.
type engine struct {
	name    string
	answers []string // its arguments that fail unless it can be used
	take    func(ctx context.Context, img v1.Image, made *image, archive string) error
}

// engines in the order in which they are tried. Docker before 25 and older podman do not read OCI archives of several
// platforms, and all read docker's own format.
var engines = []engine{
	{"docker", []string{"version", "--format", "{{.Server.Version}}"}, loadByInput("docker")},
	{"podman", []string{"version", "--format", "{{.Client.Version}}"}, loadByInput("podman")},
	{"buildah", []string{"version"}, pullByBuildah},
}

// answerTime is how long an engine may take to say that it is there.
const answerTime = 30 * time.Second

// load gives the image of this machine's platform to the first engine that answers, and says which one it was.
func load(ctx context.Context, made *image, archive string) error {
	platform := "linux/" + runtime.GOARCH
	img, ok := made.images[platform]
	if !ok {
		fmt.Printf("no engine gets the image: it is not for %s\n", platform)
		return nil
	}
	var why []string
	for _, e := range engines {
		if err := e.there(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			why = append(why, e.name+": "+err.Error())
			continue
		}
		if err := e.take(ctx, img, made, archive); err != nil {
			return fmt.Errorf("loading the image into %s: %w", e.name, err)
		}
		fmt.Printf("%s has %s for %s now\n", e.name, made.reference(), platform)
		return nil
	}
	fmt.Printf("no engine gets the image; \"ctr images import\" and \"podman load -i\" take the archive\n\t%s\n", strings.Join(why, "\n\t"))
	return nil
}

// there says why an engine cannot be used.
func (e engine) there(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := command(ctx, nil, e.name, e.answers...)
	return err
}

// loadByInput has an engine read the image in docker's format from its input.
func loadByInput(program string) func(context.Context, v1.Image, *image, string) error {
	return func(ctx context.Context, img v1.Image, made *image, _ string) error {
		tag, err := name.NewTag(made.reference())
		if err != nil {
			return err
		}
		reader, writer := io.Pipe()
		go func() { writer.CloseWithError(tarball.Write(tag, img, writer)) }()
		defer reader.Close() // ends the writer, if the engine has not read all
		_, err = command(ctx, reader, program, "load")
		return err
	}
}

// pullByBuildah has buildah read the archive, from which it takes the platform that it runs on.
func pullByBuildah(ctx context.Context, _ v1.Image, made *image, archive string) error {
	id, err := command(ctx, nil, "buildah", "pull", "--quiet", "oci-archive:"+archive)
	if err != nil {
		return err
	}
	_, err = command(ctx, nil, "buildah", "tag", strings.TrimSpace(id), made.reference())
	return err
}

// push gives the image of all platforms to its registry, as the user whom docker or podman has logged in there.
func (i *image) push(ctx context.Context) error {
	tag, err := name.NewTag(i.reference())
	if err != nil {
		return err
	}
	if err := remote.WriteIndex(tag, i.index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return err
	}
	digest, err := i.index.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s has %s@%s now\n", tag.RegistryStr(), tag.Context(), digest)
	return nil
}

// command runs a program, and returns its output, or an error that has what it said.
func command(ctx context.Context, input io.Reader, program string, arguments ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, arguments...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}
