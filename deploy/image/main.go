// Command image builds Drainmark's container image: an OCI archive for all platforms, without a container engine. If
// there is one, it gets the image for this machine too. The same commit and the same Go make the same bytes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// options are what the command line says.
type options struct {
	source    string   // the root of the project's clone
	name      string   // of the image, without a tag
	tag       string   // of the image; empty for the version
	platforms []string // os/arch[/variant]
	out       string   // the folder of the archive
	load      bool     // whether an engine gets the image
	push      bool     // whether the registry of its name does
}

func main() {
	var o options
	var platforms string
	flag.StringVar(&o.source, "source", "../..", "the clone of Drainmark to build")
	flag.StringVar(&o.name, "name", "localhost/drainmark", "the image's name")
	flag.StringVar(&o.tag, "tag", "", "the image's tag; the version if not set")
	flag.StringVar(&platforms, "platforms", "linux/amd64,linux/arm64", "what to build for")
	flag.StringVar(&o.out, "out", "../../dist", "the folder of the archive")
	flag.BoolVar(&o.load, "load", true, "whether docker, podman or buildah gets the image, if one of them answers")
	flag.BoolVar(&o.push, "push", false, "push the image of all platforms to the registry that its name says")
	flag.Parse()
	o.platforms = strings.Split(platforms, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run builds the image, writes the archive, and gives the image to an engine.
func run(ctx context.Context, o options) error {
	made, err := build(ctx, o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	path := filepath.Join(o.out, "drainmark-"+made.tag+"-oci.tar")
	if err := made.writeArchive(path); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	digest, err := made.index.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s is %s, with the digest %s, for %s\n", path, made.reference(), digest, strings.Join(o.platforms, " and "))
	if o.push {
		if err := made.push(ctx); err != nil {
			return fmt.Errorf("pushing %s: %w", made.reference(), err)
		}
	}
	if !o.load {
		return nil
	}
	return load(ctx, made, path)
}

// image is what was built.
type image struct {
	name, tag string
	commit    commit
	index     v1.ImageIndex
	images    map[string]v1.Image // by platform
}

func (i *image) reference() string { return i.name + ":" + i.tag }

// build compiles the program for each platform, and packs it.
func build(ctx context.Context, o options) (*image, error) {
	dir, err := os.MkdirTemp("", "drainmark-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	made := &image{name: o.name, tag: o.tag, images: make(map[string]v1.Image)}
	base, err := baseLayer(ctx)
	if err != nil {
		return nil, fmt.Errorf("making the base layer: %w", err)
	}
	for _, platform := range o.platforms {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			return nil, err
		}
		binary := filepath.Join(dir, strings.ReplaceAll(platform, "/", "-"))
		if made.commit, err = compile(ctx, o.source, p, binary); err != nil {
			return nil, fmt.Errorf("building the program for %s: %w", platform, err)
		}
		if made.images[platform], err = pack(p, base, o.source, binary, made.commit); err != nil {
			return nil, fmt.Errorf("packing the image for %s: %w", platform, err)
		}
	}
	if made.tag == "" {
		made.tag = strings.ReplaceAll(made.commit.version, "+", "-") // a tag has no plus
	}
	made.index, err = made.join(o.platforms)
	return made, err
}
